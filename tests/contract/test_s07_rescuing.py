"""CONTRACT §7, `fsck`: a head that is lost is made anew from the commits in the segments."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import ebooklet
from ebooklet.core.commit import SegmentRow, encode_commit
from ebooklet.core.head import decode_head, encode_head
from ebooklet.core.names import alternate_key, mint_sid, segment_key
from ebooklet.core.segment import BlockType, SegmentKind, SegmentWriter
from ebooklet.errors import LockTimeout, ReadOnlyError, UnsupportedFormatError
from tests.contract.conftest import Place
from tests.contract.wrecked import check, content, head_of, put

memory = pytest.mark.parametrize("place", ["memory"], indirect=True)


def fill(place: Place, n_commits: int = 3, file: str | None = None) -> list[dict[str, Any]]:
    """So many commits; what the database held after each."""
    states = []
    with place.open("db", file) as db:
        for i in range(n_commits):
            db.update({f"k{j}": f"{i}:{j}" * 40 for j in range(i, i + 5)})
            db[f"small{i}"] = i
            db.push()
            states.append(dict(db.items()))
    return states


def rescued(place: Place, **options: Any) -> ebooklet.FsckReport:
    return check(place, rescue=True, **{"value_serializer": "json", **options})


@pytest.mark.parametrize(
    ("place", "wreck"),
    [
        *(("memory", wreck) for wreck in (None, b"", b"EBKHEAD1", "cut", "flipped")),
        ("seaweedfs", None),
        ("seaweedfs", "flipped"),
    ],
    indirect=["place"],
)
def test_a_lost_head_is_made_anew(place: Place, wreck: bytes | str | None) -> None:
    """All of the newest commit and its history is there again, and writers go on.

    What must never fall has not: seq, fence, gc epoch and floor (I2).

    Fails without: the room above the records for heads that only said something else.
    """
    *_, expected = fill(place, file="a")
    with place.open("db", None, "w") as db:
        db.tag("one")
        db.tag("two")
    before = head_of(place)
    data = place.objects()["db"]
    flipped = data[:200] + bytes([data[200] ^ 1]) + data[201:]
    body = {"cut": data[:-1], "flipped": flipped}.get(str(wreck), wreck)
    assert not isinstance(body, str)
    put(place, {"db": body})
    segments = {name: each for name, each in place.objects().items() if ".d/" in name}

    report = rescued(place)
    assert report.ok
    assert "commit 3" in report.repaired[0]
    assert any("tags" in what for what in report.not_known)
    assert any("metadata" in what for what in report.not_known)
    assert report.n_commits == 4
    assert content(place) == expected
    after = head_of(place)
    assert after.uuid == before.uuid
    assert (after.tip.op, after.tip.fingerprint) == ("rescue", before.tip.fingerprint)
    assert after.tip.parents == (before.branch.commit.id,)
    assert after.proto.mode == before.proto.mode
    assert after.seq > before.seq
    assert after.fence > before.fence
    assert after.gc.epoch > before.gc.epoch
    assert after.gc.floor > before.gc.floor
    kept = place.objects()
    assert segments.items() <= kept.items()
    if body is not None:
        (aside,) = (each for name, each in kept.items() if name.endswith(".head"))
        assert aside == body
    assert check(place, check_objects=True).ok
    with place.open("db", "a", "w") as db:  # the local file goes on where it was
        assert dict(db.items()) == expected
        db["more"] = 1
        assert db.push()
    assert check(place, check_objects=True).ok
    assert content(place) == expected | {"more": 1}


@memory
def test_a_whole_head_is_never_replaced(place: Place) -> None:
    """Rescuing where nothing is lost is looking; nor is what is not ours replaced."""
    fill(place)
    before = place.objects()
    report = rescued(place)
    assert report.ok
    assert report.repaired == ()
    assert place.objects() == before
    newer = encode_head(head_of(place))
    for stranger in (b"somebody else's", b"EBKHEAD1\x00\x02" + newer[10:]):
        put(place, {"db": stranger})
        with pytest.raises(UnsupportedFormatError):
            rescued(place)
        assert place.objects()["db"] == stranger


@memory
def test_the_newest_commit_that_is_whole(place: Place) -> None:
    """A commit that misses a segment is passed over, named, and what is left of it stays for a week.

    Fails without: looking at every segment and node before a commit is chosen; the leftovers being
    noted as dropped.
    """
    fill(place)
    gone = min(row.sid for row in head_of(place).tip.segs)  # every commit needs it
    put(place, {"db": None, segment_key("db", gone): None})
    before = place.objects()
    report = rescued(place)
    assert report.repaired == ()
    assert "whole" in report.not_repaired
    assert before.items() - {("db.lock", before["db.lock"])} <= place.objects().items()
    assert "db" not in place.objects()
    assert all("missing" in what for what in report.not_known)

    fresh = Place(place.kind, place.folder, lambda key: place.connect(f"x{key}"))
    with fresh.open("db", None) as db:
        db["a"] = 1
        db.push()
        db["b"] = "x" * 300_000
        db.push()
    store, key = fresh.store()
    tip = decode_head(store.get(key).body, key=key).tip
    large = max(tip.segs, key=lambda row: row.length)
    store.delete([key, segment_key(key, large.sid)])
    report = rescued(fresh)
    assert "commit 1" in report.repaired[0]
    assert "commit 2" in report.not_known[-1]
    with fresh.open("db", None, "r") as db:
        assert dict(db.items()) == {"a": 1}
    left = {meta.key for meta in store.list(f"{key}.d/")}
    assert report.orphans == ()  # what is left of commit 2 waits for its grace
    options: dict[str, Any] = {"delete_orphans": True, "min_age": 0}
    assert ebooklet.fsck(fresh.connect("db"), **options).swept == ()
    with fresh.open("db", None, "w") as db:
        assert db.gc()
    assert left <= {meta.key for meta in store.list(f"{key}.d/")}
    with fresh.open("db", None, "w") as db:
        assert db.gc(grace=timedelta(0))
    assert not left <= {meta.key for meta in store.list(f"{key}.d/")}
    assert ebooklet.fsck(fresh.connect("db"), check_objects=True).ok


def forged(place: Place, segs: tuple[SegmentRow, ...]) -> None:
    """Lose the head, with a fourth commit in the segments that has this table."""
    head = head_of(place)
    writer = SegmentWriter(head.uuid, mint_sid(2_000_000, bytes(10)), bytes(16), SegmentKind.NODES)
    tip = replace(head.tip, seq=4, segs=segs, parents=(head.branch.commit.id,))
    writer.add_block(BlockType.COMMIT, encode_commit(tip))
    put(place, {"db": None, segment_key("db", writer.sid): bytes(writer.finish())})


@memory
def test_a_commit_that_says_another_length(place: Place) -> None:
    """It is whole if the segments say so themselves; the commit of the rescue has their lengths.

    Fails without: going by the ends of segments.
    """
    *_, expected = fill(place)
    first, *rest = head_of(place).tip.segs
    forged(place, (first._replace(length=first.length + 1), *rest))
    report = rescued(place)
    assert report.ok
    assert "commit 4" in report.repaired[0]
    assert first in head_of(place).tip.segs
    assert content(place) == expected


@memory
def test_a_commit_that_does_not_list_what_it_uses(place: Place) -> None:
    """Its content is rescued, with a table that is whole; itself it is not retained.

    Fails without: looking at tables, as collections do not look at what came before the rescue.
    """
    *_, expected = fill(place)
    forged(place, head_of(place).tip.segs[1:])
    report = rescued(place)
    assert report.ok
    assert "commit 4" in report.repaired[0]
    assert report.n_commits == 1
    with place.open("db", None, "w") as db:
        assert db.gc(grace=timedelta(0))
        assert db.gc(grace=timedelta(0))
    assert content(place) == expected
    assert check(place, check_objects=True).ok


@memory
def test_commits_beside_the_line_become_branches(place: Place) -> None:
    """Two commits followed one: nothing tells which of them stood, so that both are kept."""
    fill(place, 2)
    before = place.objects()["db"]
    sides = []
    for i in range(2):
        put(place, {"db": before})
        with place.open("db", None, "w") as db:
            db["side"] = i
            db.push()
            sides.append((head_of(place).branch.commit, dict(db.items())))
    put(place, {"db": None})
    report = rescued(place)
    assert report.ok
    assert content(place) == sides[1][1]  # the younger one
    head = head_of(place)
    (name,) = (name for name in head.branches if name != "main")
    assert name in report.repaired[1]
    assert head.branches[name].commit == sides[0][0]
    with place.open("db", None, "r", version=name) as db:
        assert dict(db.items()) == sides[0][1]


@memory
def test_branches_come_back_by_name(place: Place) -> None:
    """The newest commit of all is another branch's: each is where it was, with its history.

    A second rescue finds the same; a branch that had no commit of its own is not known.

    Fails without: the branch in commit records; the rows of side branches in the history.
    """
    states = fill(place, 2)
    with place.open("db", None, "w") as db:
        db.branch("wet")
        db.branch("bare")
        db.branch("dry")
    for name in ("wet", "dry", "wet"):
        with place.open("db", None, "w", branch=name) as db:
            db[name] = db.get(name, 0) + 1
            db.push()
    before = head_of(place)
    for _ in range(2):
        put(place, {"db": None})
        report = rescued(place)
        assert report.ok
        head = head_of(place)
        assert head.branches.keys() == {"main", "wet", "dry"}
        for name in ("wet", "dry"):
            assert head.branches[name].commit == before.branches[name].commit
            assert any(repr(name) in what for what in report.repaired)
        assert content(place) == states[-1]
        with place.open("db", None, "w", branch="wet") as db:
            assert dict(db.items()) == states[-1] | {"wet": 2}
            assert [info.seq for info in db.log()] == [8, 6, 2, 1]
            assert db.gc(grace=timedelta(0))
    assert check(place, check_objects=True).ok


@memory
def test_rescued_twice(place: Place) -> None:
    """The second rescue finds the first in the segments, and goes on above it."""
    *_, expected = fill(place)
    put(place, {"db": None})
    assert rescued(place).ok
    with place.open("db", None, "w") as db:
        db.push(force_push=True)
    first = head_of(place)
    put(place, {"db": None})
    assert rescued(place).ok
    second = head_of(place)
    assert second.seq > first.seq
    assert second.fence > first.fence
    assert second.gc.floor >= first.gc.floor
    assert content(place) == expected


@memory
def test_a_long_history(place: Place) -> None:
    """What does not fit into the head goes into its log again."""
    with place.open("db", None) as db:
        for i in range(100):
            db["k"] = i
            db.push()
    put(place, {"db": None})
    report = rescued(place)
    assert report.ok
    assert report.n_commits == 101
    assert len(head_of(place).recent) <= 64
    assert check(place, check_objects=True).ok


@memory
def test_what_has_to_be_said(place: Place) -> None:
    """The serializer, which is tried; which database is meant, where several lie there."""
    fill(place)
    one = head_of(place).uuid
    put(place, {"db": None})
    with pytest.raises(ValueError, match="value_serializer"):
        check(place, rescue=True)
    with pytest.raises(ReadOnlyError):
        ebooklet.fsck("http://127.0.0.1:9/bucket/db", rescue=True, value_serializer="json")
    report = rescued(place, value_serializer="msgpack")
    assert report.repaired == ()
    assert "msgpack" in report.not_repaired
    assert "db" not in place.objects()
    for name in ("pickle", "pickle_zstd"):
        assert "no" in rescued(place, value_serializer=name).not_repaired
        assert "db" not in place.objects()

    with pytest.warns(UserWarning, match="rescue"):
        db = place.open("db", None)
    with db:
        db["other"] = 1
        db.push(force_push=True)
    other = head_of(place).uuid
    put(place, {"db": None})
    report = rescued(place)
    assert report.repaired == ()
    assert str(one) in report.not_repaired
    assert str(other) in report.not_repaired
    assert rescued(place, uuid=str(other)).ok
    assert content(place) == {"other": 1}


@memory
def test_an_encrypted_database_is_not_rescued(place: Place) -> None:
    """Its head held a key without which nothing can be told; the report says so."""
    key = bytes(range(32))
    with place.open("db", None, encryption=ebooklet.Encryption(lambda _: key, "k")) as db:
        db["a"] = 1
        db.push()
    put(place, {"db": None})
    report = rescued(place)
    assert report.repaired == ()
    assert "encrypted" in report.not_repaired


@memory
def test_groups_and_dictionaries(place: Place) -> None:
    """A group is one again; dictionaries are found in the segments."""
    with place.open("db", None, remote_conn_group=True) as group:
        group.push(force_push=True)
    put(place, {"db": None})
    assert check(place, rescue=True, remote_conn_group=True).ok
    with place.open("db", None, "r") as group:
        assert isinstance(group, ebooklet.RemoteConnGroup)
        assert len(group) == 0
    put(place, dict.fromkeys(place.objects()))

    with place.open("db", None, value_serializer="json+zstd:dict") as db:
        db.update({f"k{i}": {"name": f"station {i}", "river": "avon"} for i in range(300)})
        db.train_dictionary()
        db.push()
        expected = dict(db.items())
    assert head_of(place).dictionaries
    put(place, {"db": None})
    assert rescued(place, value_serializer="json+zstd:dict").ok
    assert content(place) == expected


@memory
def test_it_takes_the_lock(place: Place) -> None:
    """A writer that has it is waited for: it may be about to make the head itself."""
    fill(place)
    with place.open("db", None, "w"):
        put(place, {"db": None})
        with pytest.raises(LockTimeout):
            rescued(place, lock_timeout=0.1)
        assert "db" not in place.objects()


@pytest.mark.matrix("behaviour", "boto3", "rclone", representative=False)
def test_under_the_ticket_lock(locked_place: Place) -> None:
    """Both copies lost: the second tells, by being there, how heads are moved."""
    *_, expected = fill(locked_place, 2)
    put(locked_place, {"db": b"", alternate_key("db"): b"EBK"})
    report = rescued(locked_place)
    assert report.ok
    objects = locked_place.objects()
    assert objects["db"] == objects[alternate_key("db")]
    assert head_of(locked_place).proto.mode == "lock"
    assert content(locked_place) == expected
