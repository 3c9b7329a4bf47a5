"""`conflict=` as a function: what it is given, what becomes of its answer, and what stops a push."""

from __future__ import annotations

import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet import ABSENT, UNKNOWN
from ebooklet.database import EBooklet
from ebooklet.errors import ConflictError, PushInProgressError, SerializationError
from ebooklet.plugins.hooks import Conflict, hookimpl
from ebooklet.services.heads import HeadStore
from ebooklet.services.pending import Covered
from ebooklet.services.working_copy import WorkingCopy
from tests.services.conftest import Opener, kinds

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

BEFORE = {"both": 1, "null": None, "gone here": 2, "gone there": 3, "kept": 4}


def diverge(opener: Opener, **options: Any) -> EBooklet[Any]:
    """A writer that changed what another has committed a change of since."""
    with opener("start") as db:
        db.update(BEFORE)
        db.push()
    mine = opener("mine", "w", **options)
    mine.load_items()
    with opener("theirs", "w") as theirs:
        theirs.update({"both": 10, "null": "theirs", "gone here": 20, "new": 30, "theirs": 0})
        del theirs["gone there"]
        theirs.push()
    mine.update({"both": 100, "null": [], "gone there": 300, "new": 400, "mine": 0})
    del mine["gone here"]
    return mine


@pytest.mark.parametrize("given", ["open", "push", "changes"])
def test_values_go_in_and_out(opener: Opener, given: str) -> None:
    """Each conflict once, deserialised, a deletion as ABSENT; the answer is what is committed.

    Mutation: taking a deletion that was decided for one that came after the push began fails this.
    """
    asked: dict[str, tuple[Any, ...]] = {}
    answers = {"both": 111, "null": None, "gone here": ABSENT, "gone there": ABSENT, "new": ABSENT}

    def merge(key: str, *values: Any) -> Any:
        assert key not in asked
        asked[key] = values
        return answers[key]

    with diverge(opener, **({"conflict": merge} if given == "open" else {})) as mine:
        pusher = mine.changes() if given == "changes" else mine
        result = pusher.push() if given == "open" else pusher.push(conflict=merge)
        assert result
        assert asked == {
            "both": (1, 100, 10),
            "null": (None, [], "theirs"),
            "gone here": (2, ABSENT, 20),
            "gone there": (3, 300, ABSENT),
            "new": (ABSENT, 400, 30),
        }
        content = {"both": 111, "null": None, "kept": 4, "mine": 0, "theirs": 0}
        assert dict(mine.items()) == content
        assert len(mine) == len(content)
        assert not mine._copy.pending
        mine.push(force_push=True)
    with opener("fresh", "r") as fresh:
        assert dict(fresh.items()) == content
        assert fresh.fsck(check_objects=True).ok


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: 1 / 0, ZeroDivisionError),
        (object, SerializationError),
        (lambda: UNKNOWN, ValueError),
        (lambda: [1, {"a": (ABSENT,)}], SerializationError),
    ],
    ids=["raises", "not storable", "UNKNOWN", "ABSENT inside"],
)
def test_what_it_raises_stops_the_push(
    opener: Opener, answer: Callable[[], Any], error: type[Exception]
) -> None:
    """Nothing is committed or settled, not even what was decided before; the next push may.

    Mutation: applying each answer when it is given fails this.
    """

    def merge(key: str, base: Any, ours: Any, theirs: Any) -> Any:
        return theirs if key < "new" else answer()

    with diverge(opener) as mine:
        before, values = set(kinds(mine)), dict(mine.items())
        with pytest.raises(error):
            mine.push(conflict=merge)
        assert set(kinds(mine)) == before
        assert dict(mine.items()) == values | {"theirs": 0}  # the rest is taken in
        with pytest.raises(ConflictError) as refused:
            mine.push()
        assert refused.value.keys == ("both", "gone here", "gone there", "new", "null")
        with opener("fresh", "r") as fresh:
            assert "mine" not in fresh
        assert mine.push(conflict=lambda _, base, ours, theirs: ours)
        assert mine["both"] == 100
        assert "gone here" not in mine


def test_hooks_come_first(opener: Opener) -> None:
    """What a hook decides the function is not asked about."""
    asked: list[str] = []

    class Rule:
        @hookimpl
        def on_conflict(self, conflict: Conflict) -> str | None:
            assert conflict.base_known
            return {"both": "theirs", "new": "ours"}.get(conflict.key)

    def merge(key: str, base: Any, ours: Any, theirs: Any) -> Any:
        asked.append(key)
        return ours

    with diverge(opener, plugins=[Rule()]) as mine:
        assert mine.push(conflict=merge)
        assert asked == ["gone here", "gone there", "null"]
        assert (mine["both"], mine["new"]) == (10, 400)


def test_the_base_is_found_in_history(opener: Opener) -> None:
    """What both sides started from is known also if a pull has met the conflict long before.

    Mutation: looking only at what was the base when the push began makes it UNKNOWN.
    """
    seen: list[Any] = []

    def merge(key: str, base: Any, ours: Any, theirs: Any) -> Any:
        seen.append(base)
        return ours

    with diverge(opener) as mine:
        mine.pull()
        with opener("others", "w") as others:
            for n in range(3):
                others["other"] = n
                others.push()
        mine.pull()
        assert mine.push(conflict=merge)
        assert seen == [1, 2, 3, ABSENT, None]


def test_the_base_is_found_in_the_history_of_its_branch(opener: Opener) -> None:
    """Of the branch that is open, whichever is the default one.

    Mutation: looking through the commits of the default branch makes it UNKNOWN.
    """
    seen: list[Any] = []

    def merge(key: str, base: Any, ours: Any, theirs: Any) -> Any:
        seen.append((base, ours, theirs))
        return ours

    with opener("start") as db:
        db.push()
        db.branch("side")
    with opener("others", "w", branch="side") as others, opener("mine", "w", branch="side") as mine:
        others["k"] = 1
        others.push()
        mine.pull()
        mine["k"] = 2
        others["k"] = 3
        others.push()
        mine.pull()
        assert mine.push(conflict=merge)
    assert seen == [(1, 2, 3)]


def test_a_base_that_nobody_remembers_is_said_to_be_unknown(opener: Opener, tmp_path: Path) -> None:
    """Which is not the same as absent: who adds up differences must not count from nothing."""
    seen: list[Any] = []

    def merge(key: str, base: Any, ours: Any, theirs: Any) -> Any:
        seen.append(base)
        return ours

    with diverge(opener) as mine:
        mine.sync()
    shutil.rmtree(tmp_path / "mine.blt.ebk")  # with what it knew of the base
    with opener("mine", "w") as mine:
        mine.push(conflict=merge)
    assert seen
    assert set(map(repr, seen)) <= {"ebooklet.UNKNOWN", "ebooklet.ABSENT"}
    assert pickle.loads(pickle.dumps(UNKNOWN)) is UNKNOWN


def add_up(key: str, base: Any, ours: Any, theirs: Any) -> Any:
    """Both sides' differences to what they started from."""
    assert base is not UNKNOWN
    return ours + theirs - (0 if base is ABSENT else base)


def test_differences_add_up_over_lost_races(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that loses race after race merges each time on what it merged before.

    Mutation: leaving a merged key on its first base fails this: others' steps count twice.
    """
    with opener("start") as db:
        db["n"] = 0
        db.push()
    with opener("a", "w", conflict=add_up) as a, opener("b", "w", conflict=add_up) as b:
        a["n"] += 1
        races = iter(range(4))
        commit = HeadStore.commit

        def late(self: HeadStore, *args: Any) -> Any:
            if self is a._copy.heads and next(races, None) is not None:
                b["n"] += 10
                assert b.push()
            return commit(self, *args)

        monkeypatch.setattr(HeadStore, "commit", late)
        a._copy.clock = Hasty(a._copy.clock)
        assert a.push()
        assert a["n"] == 41
        b.pull()
        assert b["n"] == 41


class Hasty:
    """A clock on which no pause lasts."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def sleep(self, seconds: float) -> None:
        """Go on at once."""


@pytest.mark.parametrize("at", range(3))
def test_a_crash_while_it_is_settled_merges_nothing_twice(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """What is left is the conflict, with a base that nobody knows, or the merged value.

    Mutation: storing the merged value under the old base, or moving the base first, fails this.
    """

    class Killed(BaseException):
        pass

    mine = diverge(opener)
    calls = iter(range(100))
    sync = WorkingCopy.sync

    def dying(self: WorkingCopy) -> None:
        sync(self)
        if self is mine._copy and next(calls) == at + 1:  # after the one that begins the push
            shutil.copy2(tmp_path / "mine.blt", tmp_path / "left.blt")
            shutil.copytree(tmp_path / "mine.blt.ebk", tmp_path / "left.blt.ebk")
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(WorkingCopy, "sync", dying)
        merged = {"both": 109, "null": "x", "gone here": 5, "gone there": 6, "new": 430}
        try:
            mine.push(conflict=lambda key, *_: merged[key])
        except Killed:
            mine._copy.pending.end_push(Covered())
        else:
            assert at == 2  # there is no third
    mine.close()
    if at == 2:
        return
    seen: dict[str, Any] = {}

    def again(key: str, base: Any, ours: Any, theirs: Any) -> Any:
        seen[key] = base, ours
        return ours

    with opener("left", "w") as left:
        assert left.push(conflict=again)
    assert set(seen) == set(merged)
    assert all(base is UNKNOWN for base, _ in seen.values())
    assert seen["both"][1] == (100 if at == 0 else 109)


def test_what_may_be_called_inside(opener: Opener) -> None:
    """Reading; but no push, and nothing else that would move the base under it.

    Mutation: not noting the thread that is inside the function fails this.
    """

    with diverge(opener) as mine:

        def merge(key: str, base: Any, ours: Any, theirs: Any) -> Any:
            assert mine.get(key, ABSENT) == ours
            for call in (mine.push, mine.pull, mine.clear):
                with pytest.raises(PushInProgressError):
                    call()
            return ours

        assert mine.push(conflict=merge)
        mine.pull()


def test_a_key_written_meanwhile_is_not_pushed(opener: Opener) -> None:
    """It stays pending and in conflict, and the result says so; the others are committed.

    Mutation: pushing all that is pending after the decisions gives up what the others wrote.
    """
    with diverge(opener) as mine:

        def merge(key: str, base: Any, ours: Any, theirs: Any) -> Any:
            if key == "both":
                writer = threading.Thread(target=mine.__setitem__, args=("both", "newer"))
                writer.start()
                writer.join()
            return "merged"

        result = mine.push(conflict=merge)
        assert result.updated
        assert not result
        assert set(result.failures) == set(kinds(mine)) == {"both"}
        assert mine["both"] == "newer"
        with opener("fresh", "r") as fresh:
            assert (fresh["both"], fresh["null"]) == (10, "merged")
        with pytest.raises(ConflictError):
            mine.push()
        assert mine.push(conflict=lambda *_: "both of them")
        assert mine["both"] == "both of them"


def test_no_policy_at_all_is_refused(opener: Opener) -> None:
    """Before anything is opened."""
    with pytest.raises(ValueError, match="function of key"):
        ebooklet.open("memory://nowhere", flag="c", conflict="mine")  # type: ignore[call-overload]  # wrong on purpose
    with opener() as db, pytest.raises(ValueError, match="function of key"):
        db.push(conflict=3)  # type: ignore[arg-type]  # wrong on purpose
