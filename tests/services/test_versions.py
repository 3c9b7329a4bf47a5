"""Versions of a database: what names one, what differs between two, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import pytest

import ebooklet
from ebooklet import Encryption
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.advance import amended
from ebooklet.core.head import Recent, Tag, decode_head, encode_head
from ebooklet.core.names import segment_key
from ebooklet.core.refs import CommitRef
from ebooklet.database import EBooklet
from ebooklet.errors import RemoteMissingError, SnapshotExpired, UnknownVersionError
from ebooklet.services.log import log_entries, log_params
from ebooklet.services.nodes import NodeReader
from ebooklet.services.versions import find_commit
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.trees import Bucket
from tests.services.test_history import CountedStore, expire

KEYS = Encryption({"a": b"k" * 32}, "a")
Version = str | int | datetime


def kinds(db: EBooklet[Any], a: Version | None = None, b: Version | None = None) -> dict[str, str]:
    """What differs between two versions, by key."""
    return {change["key"]: change["kind"] for change in db.diff(a, b)}


def tag(store: MemoryRemoteStore, name: str, seq: int) -> None:
    """Give a recent commit a name, as another client would."""
    head = decode_head(store.get("db").body, key="db")
    (ref,) = (row.commit for row in head.recent if row.seq == seq)
    tags = {**head.tags, name: Tag(ref, 0)}
    head = replace(head, seq=head.seq + 1, write_id=name.encode().ljust(16), tags=tags)
    store.put("db", encode_head(head))


@pytest.fixture(params=[None, KEYS], ids=["plain", "encrypted"])
def history(request: pytest.FixtureRequest) -> Iterator[tuple[CountedStore, EBooklet[Any]]]:
    """A reader of 150 commits, an hour apart; the n-th sets k1 to kn, and deletes what came 9 before."""
    store, clock = CountedStore(), ManualClock()
    with ebooklet.open(
        store, None, "c", "json", encryption=request.param, clock=clock, lock="optimistic"
    ) as db:
        for n in range(1, 151):
            db[f"k{n:03}"] = f"{n}" * 50
            if n > 9:
                del db[f"k{n - 9:03}"]
            assert db.push(f"number {n}")
            clock.advance(3600)
    tag(store, "middle", 100)
    with ebooklet.open(store, None, "r", encryption=request.param) as db:
        yield store, db


def test_whatever_names_a_commit(history: tuple[CountedStore, EBooklet[Any]]) -> None:
    """A tag, a branch, an id and its beginning, a seq and a moment all name one commit each."""
    _, db = history
    commits = {commit.seq: commit for commit in db.log()}
    for seq in (2, 60, 100, 149):
        commit = commits[seq]
        expected = {f"k{seq - 8:03}": "deleted"} if seq > 8 else {}
        expected |= {f"k{seq + 1:03}": "added"}
        after = timedelta(minutes=59)
        for name in (commit.id, commit.id[:12], commit.id.upper(), commit.time):
            assert kinds(db, name, seq + 1) == expected
            assert list(db.diff(name, seq)) == []
        assert list(db.diff(seq, commit.time + after)) == []
    assert list(db.diff("main")) == []
    assert kinds(db) == kinds(db, 149) == {"k141": "deleted", "k150": "added"}
    assert kinds(db, None, 2) == {"k002": "added"}
    assert kinds(db, None, 1) == {"k001": "added"}  # it has no parent
    assert list(db.diff("middle", 100)) == []
    assert kinds(db, 1, "middle") == {
        "k001": "deleted",
        **{f"k{n:03}": "added" for n in range(92, 101)},
    }


def test_where_the_default_branch_stood() -> None:
    """A moment names the commit at which it stood, by whatever write it came there."""
    store = MemoryRemoteStore()
    with ebooklet.open(store, None, "c", "json") as db:
        assert db.push("at 0")
    head = decode_head(store.get("db").body, key="db")
    start = head.ms
    side = head.branch.commit._replace(id=bytes(32), seq=2)
    row = Recent(b"s" * 16, 2, start + 60_000, "side", side)  # a push to another branch, at 60 s
    head = replace(head, seq=2, ms=start + 60_000, recent=(*head.recent, row))
    moved = {"main": replace(head.branch, commit=side)}
    head = amended(head, write_id=b"m" * 16, ms=start + 120_000, branches=moved)  # a merge of it
    reader = NodeReader(store, "db")
    for seconds, seq in ((0, 1), (90, 1), (119, 1), (120, 2), (10_000, 2)):
        moment = datetime.fromtimestamp(start / 1000 + seconds, UTC)
        assert find_commit(reader, head, moment).seq == seq


def test_what_names_nothing(history: tuple[CountedStore, EBooklet[Any]]) -> None:
    """It is a typed error that says what there is, and no other kind of error."""
    _, db = history
    first = list(db.log())[-1]
    for name in ("nothing", "abc", 0, 151, -1, 10**30, "f" * 64, first.time - timedelta(1)):
        with pytest.raises(UnknownVersionError, match=r"from 1 to 150; tags are 'middle'") as told:
            db.diff(name)
        assert ("four digits at least" in str(told.value)) is (name == "abc")
    with pytest.raises(ValueError, match="time zone"):
        db.diff(datetime(2026, 1, 1))
    with pytest.raises(UnknownVersionError, match="'1': a number is an int, version=1; branch"):
        db.diff("1")
    for wrong in (True, 1.5, b"main"):
        with pytest.raises(TypeError, match="a version is"):
            db.diff(wrong)  # type: ignore[arg-type]


def test_an_ambiguous_beginning(history: tuple[CountedStore, EBooklet[Any]]) -> None:
    """It is refused, with the ids that it may mean; more of one of them, or a name, decides."""
    _, db = history
    base = db._copy.base
    assert base is not None
    *rows, one, two = base.head.recent
    one = one._replace(commit=one.commit._replace(id=b"abcd" + bytes(28)))
    two = two._replace(commit=two.commit._replace(id=b"abce" + bytes(28)))
    head = replace(base.head, recent=(*rows, one, two))
    for text in ("6162", "616263"):
        with pytest.raises(UnknownVersionError, match="6162636400000000, 6162636500000000"):
            find_commit(db._copy.log_nodes, head, text)
    assert find_commit(db._copy.log_nodes, head, "61626364") == one.commit
    head = replace(head, tags={"6162": Tag(two.commit, 0)})
    assert find_commit(db._copy.log_nodes, head, "6162") == two.commit


def test_expired_versions() -> None:
    """What is no longer retained is said to be so, but for what a tag keeps."""
    store = CountedStore()
    with ebooklet.open(store, None, "c", "json") as db:
        for n in range(1, 9):
            db["n"] = f"{n}" * 100
            assert db.push()
            db[f"k{n}"] = n
        ids = {commit.seq: commit.id for commit in db.log()}
    tag(store, "kept", 2)
    with ebooklet.open(store, None, "r") as behind:
        expire(store, below=5)
        with pytest.raises(SnapshotExpired, match="commit 3 is no longer retained"):
            list(behind.diff(3))
        behind.pull()
        for name in (3, ids[3][:20]):
            with pytest.raises(SnapshotExpired, match=r"commit 3 .* from 5 to 8; tags are 'kept'"):
                behind.diff(name)
        for name in ("kept", 2, ids[2][:20]):
            assert len(kinds(behind, name)) == 1 + 6


def test_a_branch_that_remembers_less() -> None:
    """What one branch is past, another may still retain."""
    store = MemoryRemoteStore()
    with ebooklet.open(store, None, "c", "json") as db:
        for n in range(1, 9):
            db["n"] = f"{n}" * 100
            assert db.push()
    head = decode_head(store.get("db").body, key="db")
    short = replace(head.branch, oldest_seq=7)
    branches = {**head.branches, "short": short}
    store.put(
        "db",
        encode_head(replace(head, seq=head.seq + 1, write_id=bytes(16), branches=branches)),
    )
    with ebooklet.open(store) as db:
        assert kinds(db, 2, 3) == {"n": "modified"}
        assert list(db.diff("short")) == []
    with ebooklet.open(store, version=2) as db:
        assert db["n"] == "2" * 100


def test_nothing_pushed_yet() -> None:
    """Where there is no commit there is nothing to compare, and that is said."""
    with ebooklet.open(MemoryRemoteStore(), None, "c", "json") as db:
        db["a"] = 1
        with pytest.raises(RemoteMissingError):
            db.diff("main")


def test_a_difference_says_when() -> None:
    """Each key with both of its times; what is pending is no part of it."""
    clock = ManualClock()
    with ebooklet.open(
        MemoryRemoteStore(), None, "c", "json", clock=clock, lock="optimistic"
    ) as db:
        db.update({"stays": 1, "changes": 1, "goes": 1, "again": 1})
        first = datetime.fromtimestamp(clock.now_us() // 1_000_000, UTC)
        assert db.push()
        clock.advance(60)
        del db["goes"]
        db.update({"changes": 2, "comes": 2, "again": 1})
        assert db.push()
        db["pending"] = 3
        second = first + timedelta(seconds=60)
        assert list(db.diff(1)) == [
            {"key": "changes", "kind": "modified", "old_timestamp": first, "new_timestamp": second},
            {"key": "comes", "kind": "added", "old_timestamp": None, "new_timestamp": second},
            {"key": "goes", "kind": "deleted", "old_timestamp": first, "new_timestamp": None},
        ]
        assert kinds(db, 2, 1) == {"changes": "modified", "comes": "deleted", "goes": "added"}


def test_ten_differences_cost_few_requests() -> None:
    """Between two versions of 20,000 keys only what differs is read, and no value."""
    store = CountedStore()
    with ebooklet.open(store, None, "c", "json") as db:
        db.update({f"key/{n:05}": n for n in range(20_000)})
        assert db.push()
        db.update({f"key/{n:05}": "new" * 30 for n in range(0, 20_000, 2_000)})
        assert db.push()
        db["another"] = 1
        assert db.push()
    with ebooklet.open(store, None, "r") as db:
        store.batches.clear()
        assert len(kinds(db, 1, 2)) == 10
    # Two records and two roots, then one round for the leaves.
    assert len(store.batches) <= 4
    assert sum(store.batches) <= 2 + 2 + 2 * 10


def test_lookups_among_20_000_commits() -> None:
    """FORMAT 10.18: a commit is found by its seq with at most 4 requests, else with 12.

    Fails without: looking among the rows in the head before the log.
    """
    store = CountedStore()
    with ebooklet.open(store, None, "c", "json") as db:
        assert db.push()
    head = decode_head(store.get("db").body, key="db")
    (row,) = head.recent
    rows = [
        row._replace(
            write_id=n.to_bytes(16, "big"),
            seq=n,
            ms=n * 60_000,
            commit=CommitRef(row.commit.block, blake2b(b"%d" % n).digest()[:32], n),
        )
        for n in range(1, 20_065)
    ]
    bucket = Bucket(log_params(head.params))
    edits = log_entries(rows[:20_000])
    log = bucket.build(entry for _, entry in edits if entry is not None)
    nodes = bytes(64) + b"".join(bucket.stored[ref] for ref in sorted(bucket.stored))
    store.put(segment_key("db", b"n" * 16), nodes)
    branches = {"main": replace(head.branch, commit=rows[-1].commit)}
    recent = tuple(rows[20_000:])
    head = replace(head, recent=recent, log=log, seq=20_064, branches=branches)
    for n in (1, 9_999, 20_000, 20_001, 20_064):
        wanted = rows[n - 1].commit
        moment = datetime.fromtimestamp(n * 60 + 30, UTC)
        others = ((moment, 12), (wanted.id.hex()[:20], 12)) if n == 1 else ()
        for version, most in ((n, 4), *others):
            store.batches.clear()
            reader = NodeReader(store, "db")
            reader.params = log_params(head.params)
            assert find_commit(reader, head, version) == wanted
            assert sum(store.batches) <= most


def test_a_merge_costs_what_changed() -> None:
    """A push that meets another's commit reads the paths to what either side changed, no more.

    Of 20,000 keys in a root and some 140 leaves, each side changes 10: that is a root and 10 leaves
    of the old tree and as many of theirs, and the 10 leaves below our own keys.
    """
    store = CountedStore()
    with ebooklet.open(store, None, "c", "json") as db:
        db.update({f"key/{n:05}": n for n in range(20_000)})
        assert db.push()
    with (
        ebooklet.open(store, None, "w", lock="optimistic") as one,
        ebooklet.open(store, None, "w", lock="optimistic") as two,
    ):
        one.update({f"key/{n:05}": "one" for n in range(0, 20_000, 2_000)})
        two.update({f"key/{n:05}": "two" for n in range(1_000, 20_000, 2_000)})
        assert one.push()
        store.batches.clear()
        assert two.push()
        assert sum(store.batches) <= 2 * (1 + 10) + 10
        assert kinds(two, 1) == {f"key/{n:05}": "modified" for n in range(0, 20_000, 1_000)}


def test_a_merge_of_a_branch_costs_what_changed() -> None:
    """So does taking in a branch: the paths to what either line has changed since both parted."""
    store = CountedStore()
    with ebooklet.open(store, None, "c", "json") as db:
        db.update({f"key/{n:05}": n for n in range(20_000)})
        assert db.push()
        db.branch("side")
    with ebooklet.open(store, None, "w", branch="side") as side:
        side.update({f"key/{n:05}": "side" for n in range(0, 20_000, 2_000)})
        assert side.push()
    with ebooklet.open(store, None, "w") as db:
        db.update({f"key/{n:05}": "main" for n in range(1_000, 20_000, 2_000)})
        assert db.push()
    with ebooklet.open(store, None, "w") as db:
        store.batches.clear()
        assert db.merge("side")
        # Three trees' roots and 10 leaves each way, and a record or two.
        assert sum(store.batches) <= 3 * (1 + 10) + 10 + 4
        assert len(kinds(db, 1)) == 20


def test_a_version_of_a_group() -> None:
    """It is a connection group, too."""
    store = MemoryRemoteStore()
    with ebooklet.open_rcg(store, None, "c") as group:
        assert group.push("empty")
        assert group.push("still", force_push=True)
    with ebooklet.open(store, version=1) as then:
        assert isinstance(then, ebooklet.RemoteConnGroup)
        assert [commit.message for commit in then.log()] == ["empty"]
