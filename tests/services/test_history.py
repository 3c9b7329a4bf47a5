"""The history of a database: which commits `log` tells of, in what order, and at what cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest

import ebooklet
from ebooklet import Encryption
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import decode_head, encode_head
from ebooklet.core.names import segment_key
from ebooklet.errors import EBookletError, OfflineError, RemoteIntegrityError, SnapshotExpired
from ebooklet.ports.remote_store import ByteRange
from tests.services.conftest import Opener, store_of

KEYS = Encryption({"a": b"k" * 32}, "a")


class CountedStore(MemoryRemoteStore):
    """Counts the ranges that are asked for, and how often any are."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """Count, and answer."""
        self.batches.append(len(ranges))
        return super().get_ranges(ranges)


def expire(store: MemoryRemoteStore, below: int) -> None:
    """Have a database retain no commit below this seq, and delete what only those need."""
    stored = store.get("db")
    head = decode_head(stored.body, key="db")
    branch = replace(head.branch, oldest_seq=below)
    head = replace(
        head, seq=head.seq + 1, write_id=bytes(16), branches={head.default_branch: branch}
    )
    store.put("db", encode_head(head))
    report = ebooklet.fsck(store, delete_orphans=True, min_age=0)
    assert report.swept


@pytest.mark.parametrize("encryption", [None, KEYS], ids=["plain", "encrypted"])
def test_every_commit_in_order(encryption: Encryption | None) -> None:
    """The newest comes first, each with all that its record says, over the log's tree too."""
    store = CountedStore()
    began = datetime.now(UTC)
    with ebooklet.open(store, None, "c", "json", encryption=encryption) as db:
        assert list(db.log()) == []
        for n in range(150):
            db[f"k{n}"] = "v" * 100
            assert db.push(f"number {n}")
        del db["k0"]
        db.push("one less")
    store.batches.clear()
    with ebooklet.open(store, None, "r", encryption=encryption) as db:
        newest = next(db.log())
        assert store.batches == []
        assert newest.message == "one less"
        assert (newest.op, newest.n_keys, newest.value_bytes) == ("push", 149, 149 * 102)
        assert began <= newest.time <= datetime.now(UTC)
        history = list(db.log())
        assert len(store.batches) < 20
    assert [commit.seq for commit in history] == list(range(151, 0, -1))
    assert [commit.message for commit in history[1:]] == [f"number {n}" for n in range(149, -1, -1)]
    for child, parent in pairwise(history):
        assert child.parents == (parent.id,)
    assert history[-1].parents == ()


def test_lazy() -> None:
    """A program that looks at a few commits makes the store read a few records."""
    store = CountedStore()
    with ebooklet.open(store, None, "c", "json") as db:
        for n in range(100):
            db["n"] = n
            assert db.push()
        store.batches.clear()
        assert [commit.seq for commit in islice(db.log(), 5)] == [100, 99, 98, 97, 96]
        assert sum(store.batches) <= 8


def test_ends_where_retention_ends(opener: Opener, url: str) -> None:
    """What is no longer retained is not told of; a handle that is behind is told to pull."""
    with opener("writer") as db:
        for n in range(6):
            db["n"] = str(n) * 100
            assert db.push()
    with opener(None, "r") as behind:
        expire(store_of(url), below=4)
        with pytest.raises(SnapshotExpired, match=r"commit 3 .*pull"):
            list(behind.log())
        behind.pull()
        assert [commit.seq for commit in behind.log()] == [6, 5, 4]


def test_a_missing_record_is_damage(opener: Opener, url: str) -> None:
    """While a commit is retained, a record that is gone is said to be damage, not expiry."""
    with opener() as db:
        for n in range(3):
            db["n"] = n
            assert db.push()
        store = store_of(url)
        head = decode_head(store.get("db").body, key="db")
        first = segment_key("db", head.recent[0].commit.block.sid)
        store.delete([first])
        with pytest.raises(RemoteIntegrityError, match="missing although the head names it"):
            list(db.log())


def test_offline(opener: Opener) -> None:
    """The newest commit is here; older ones are not, and that is said."""
    with opener() as db:
        for n in range(2):
            db["n"] = n
            assert db.push()
    with opener(flag="r", offline=True) as db:
        commits = db.log()
        assert next(commits).seq == 2
        with pytest.raises(OfflineError):
            next(commits)


def test_over_both_parents() -> None:
    """A merge has two, and every commit that either led to is told of once, in falling order."""
    store = CountedStore()
    with ebooklet.open(store, None, "c", "json", lock="optimistic") as db:
        db["n"] = 0
        assert db.push("before")
        db.branch("side")
        with ebooklet.open(store, None, "w", branch="side", lock="optimistic") as side:
            for n in range(40):
                side[f"side/{n}"] = n
                db[f"main/{n}"] = n
                assert side.push(f"side {n}")
                assert db.push(f"main {n}")
        assert db.merge("side", message="both")
        merge, *rest = db.log()
        assert (merge.op, merge.message, merge.n_keys) == ("merge", "both", 81)
        assert set(merge.parents) == {rest[0].id, rest[1].id}
        assert [commit.seq for commit in rest] == sorted(
            {commit.seq for commit in rest}, reverse=True
        )
        told = [commit.message for commit in rest]
        assert sorted(told) == sorted(
            ["before", *(f"{line} {n}" for line in ("side", "main") for n in range(40))]
        )
    with ebooklet.open(store, version=merge.parents[1]) as then:
        assert len(list(then.log())) == 41
    with ebooklet.open(store, branch="side") as side:
        assert [commit.message for commit in islice(side.log(), 2)] == ["side 39", "side 38"]
        store.batches.clear()
        next(side.log())
        assert store.batches == []
