"""The torture itself: it passes where nothing is lost, and an oracle that can fail tells each loss."""

from __future__ import annotations

import random
from itertools import count, product
from pathlib import Path
from typing import Any

import booklet
import pytest

from ebooklet.testing.faults import Fault
from ebooklet.testing.servers import S3Server
from tests.torture import ledger
from tests.torture.arena import Arena
from tests.torture.cases import Cases
from tests.torture.content import LOGS_KEPT, look, round_of
from tests.torture.damage import damage
from tests.torture.ledger import BEGIN, END, FOREIGN, FOUND, HISTORY, LIFE, SEEN, Note
from tests.torture.oracle import Oracle
from tests.torture.report import report


def test_a_planted_loss_is_told(seaweedfs: S3Server, tmp_path: Path) -> None:
    """Real processes on a real server lose nothing; once its head is put back, the oracle says so."""
    arena = Arena(tmp_path, seaweedfs, "smoke", cast=("x", "o", "r3cold"), faults=False)
    try:
        arena.found()
        before = arena.head()

        def enough() -> bool:
            done = [(note["what"], note.get("call")) for note in arena.notes()]
            return done.count((END, "push")) >= 2 and (SEEN, None) in done

        arena.run(60, until=enough)
        arena.settle()
        oracle = Oracle()
        assert not oracle.judge(arena.notes())
        assert {ack.writer for ack in oracle.acks} == {"x", "o"}
        arena.plant(before)
        arena.look()
        losses = Oracle().judge(arena.notes())
        assert any("seq went back" in loss.what for loss in losses)
        assert f"| {len(losses)} |" in report(arena.notes(), oracle.acks, losses).markdown()
    finally:
        arena.close()


def notes(*facts: dict[str, Any]) -> list[Note]:
    """Notes in the order of time."""
    at = count(1.0)
    return [{"who": "x", "at": next(at), **each} for each in facts]


def acknowledged(number: int, seq: int, who: str = "x", **more: Any) -> list[dict[str, Any]]:
    """A round, and its push."""
    done = {"seq": seq, "commit": f"c{seq}", "updated": True, **more}
    return [
        {"who": who, "what": BEGIN, "call": "round", "number": number},
        {"who": who, "what": END, "call": "round", "number": number},
        {"who": who, "what": BEGIN, "call": "push"},
        {"who": who, "what": END, "call": "push", **done},
    ]


def shown(number: int | None, **more: Any) -> dict[str, Any]:
    """What is to be seen of a round of x."""
    rounds = range(max(1, number - LOGS_KEPT + 1), number + 1) if number else ()
    content = {key: value for n in rounds for key, value in round_of("x", n)}
    facts: dict[str, Any] = {**look(content).as_facts(), "wrong": []}
    return {**facts, **more}


def seen(number: int | None, seq: int, **more: Any) -> dict[str, Any]:
    return {**shown(number), "who": "r", "what": SEEN, "seq": seq, "begun": 1e9, **more}


TWO = [*acknowledged(1, 2), *acknowledged(2, 3)]
HISTORY_OF_TWO = [(1, "c1", ""), (2, "c2", "x1"), (3, "c3", "x2")]
LOSSES = {
    "3 was acknowledged": [*TWO, seen(1, 2)],
    "3 was seen before": [*TWO, seen(2, 3, begun=0), seen(1, 2, begun=0)],
    "acknowledged were 2 by then": [*TWO, seen(1, 3)],
    "nothing of x": [*TWO, seen(None, 3)],
    "and 2 later": [*TWO, seen(2, 2, begun=0)],
    "a mixture": [*TWO, seen(2, 3, marks={"x": ["x1", "x2"], "o": [], "both": []})],
    "after x2": [*TWO, seen(2, 3, marks={"x": ["x2"], "o": [], "both": ["x1"]})],
    "keys of rounds": [*TWO, seen(2, 3, logs={"x": [1], "o": []})],
    "values that nobody wrote": [*TWO, seen(2, 3, wrong=["x/01: 3 bytes"])],
    "promised were 2": [*TWO, {"what": LIFE}, shown(1, what=FOUND)],
    "has nothing of round 2": [*TWO, {"what": LIFE}, shown(None, what=FOUND)],
    "the key of round 2 is gone": [*TWO, shown(2, what=FOUND, logs={"x": [1], "o": []})],
    "deleted keys are back": [
        *TWO, *acknowledged(5, 4), shown(5, what=FOUND, logs={"x": [1, 5], "o": []}),
    ],
    "has nothing of round 1": [
        *acknowledged(1, 2), {"what": LIFE, "damaged": True}, shown(None, what=FOUND),
    ],
    "raised KeyError": [{"what": FOREIGN, "call": "sync", "error": "KeyError()"}],
    "two commits": [*TWO, *acknowledged(1, 3, "o", commit="other")],
    "not in history": [
        *TWO, {"what": HISTORY, "commits": [*HISTORY_OF_TWO[:1], (3, "c3", "")], "problems": []},
    ],
    "more than once": [
        {"what": HISTORY, "commits": [*HISTORY_OF_TWO, (4, "c4", "x2")], "problems": []},
    ],
    "fsck": [{"what": HISTORY, "commits": HISTORY_OF_TWO, "problems": ["a segment is gone"]}],
}  # fmt: skip


@pytest.mark.parametrize("told", LOSSES)
def test_each_loss_is_told(told: str) -> None:
    """Whatever is not as it was acknowledged, the oracle says so."""
    assert any(told in loss.what for loss in Oracle().judge(notes(*LOSSES[told])))


def test_what_was_promised_is_no_loss() -> None:
    """Neither the next round nor one whose end nobody was told is a loss."""
    begun = {"what": BEGIN, "call": "round", "number": 3}
    history = {"what": HISTORY, "commits": HISTORY_OF_TWO, "problems": []}
    kept = [*TWO, begun, shown(3, what=FOUND), seen(2, 3), seen(3, 4), seen(3, 4), history]
    assert not Oracle().judge(notes(*kept))
    crashed = [*TWO, *acknowledged(3, 0)[:2], {"what": LIFE}, shown(2, what=FOUND)]
    nothing_new = acknowledged(3, 3, updated=False)[2:]
    assert not Oracle().judge(notes(*crashed, *nothing_new, seen(2, 3)))
    damaged = [*TWO, {"what": LIFE, "damaged": True}, shown(2, what=FOUND)]
    assert not Oracle().judge(notes(*damaged))


def test_every_request_is_spoilt_in_every_way() -> None:
    """A call of three requests has all that can befall one befall each, whatever life it is in."""
    said: list[Note] = [{"what": END, "call": "push", "requests": 3}]
    met = set()
    while len(said) < 3000:
        case = Cases("seed x", said).draw({"push": 1})
        said.append({"what": BEGIN, "call": "push"})
        if case.fault is not None:
            met.add((case.request, case.fault, case.lasting))
            said[-1]["target"] = "push"
            if len(met) == 3 * len(Fault) * 2:
                break
    assert met == set(product(range(3), Fault, (False, True)))
    assert sum("target" in note for note in said) == len(met)


def test_local_files_are_damaged(tmp_path: Path) -> None:
    """Each time one file is not what it was, its part is named, and no value has a flipped bit."""
    path, beside = tmp_path / "a.blt", tmp_path / "a.blt.ebk"
    with booklet.open(path, "n", key_serializer="str", n_buckets=5) as file:
        file["key"] = b"v" * 3000
    whole = path.read_bytes()
    beside.mkdir()
    told = set()
    for n in range(60):
        path.write_bytes(whole)
        (beside / "mark").write_bytes(b"mark")
        what = damage(path, random.Random(n))
        now = path.read_bytes(), (beside / "mark").read_bytes()
        assert now != (whole, b"mark")
        assert b"v" * 3000 in now[0] or what.startswith("truncated")
        told.add(what)
    assert {"flipped: mark", "truncated: mark", "flipped: header of the file"} <= told
    assert {"truncated: blocks of the file", "flipped: blocks of the file"} <= told


def test_a_ledger_ends_with_its_last_whole_line(tmp_path: Path) -> None:
    """A line that a kill has cut off was never written."""
    book = ledger.Ledger(tmp_path, "x")
    book.note(BEGIN, call="push")
    book.close()
    with book.path.open("ab") as file:
        file.write(b'{"at": 1')
    assert [note["call"] for note in ledger.read(book.path)] == ["push"]
