"""Copies of whole remotes that fail, are killed, or meet others on the way."""

from __future__ import annotations

import itertools
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.core.head import Proto, decode_head, encode_head
from ebooklet.core.names import segment_key
from ebooklet.errors import (
    AccessDenied,
    EBookletError,
    LockLostError,
    LockTimeout,
    ObjectNotFound,
    RemoteDeleted,
    RemoteIntegrityError,
    SnapshotExpired,
    StoreError,
    UnsupportedFormatError,
    UnsupportedOperation,
)
from ebooklet.ports.lock_service import LockService
from ebooklet.ports.remote_store import Origin, RemoteStore
from ebooklet.services.place import RemotePlace
from ebooklet.services.retained import retained_segments
from ebooklet.services.transfer import copy_database
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import Call, FaultyRemoteStore, StoreFault, StoreRule
from ebooklet.testing.servers import S3Server

pytestmark = pytest.mark.usefixtures("lean_processes")

CONTENT = {"inline": 1, "value": "x" * 500, "large": "y" * 50_000, "é": None}


class Apart(FaultyRemoteStore):
    """A store that no server copies from or to, so that everything passes through here."""

    @property
    def origin(self) -> Origin | None:
        return None

    def copies_from(self, origin: Origin | None) -> bool:
        return False


def place(store: RemoteStore, mode: str = "cas", locks: LockService | None = None) -> RemotePlace:
    """A store as a place whose heads are moved in this way; its clock waits for nobody."""
    clock = ManualClock()
    service = locks or NullLockService(clock)
    return RemotePlace(
        store=store,
        db_key="db",
        clock=clock,
        locks=lambda _: service,
        probe=lambda: Proto(mode, server="test"),
    )


def filled(store: RemoteStore | None = None) -> RemoteStore:
    """A store with a database of four commits, the second of which holds nothing that is left."""
    store = store or MemoryRemoteStore()
    with open_database(store, flag="c", value_serializer="json", lock="optimistic") as db:
        db.update({key: value for key, value in CONTENT.items() if key != "large"})
        db.push()
        db["gone"] = "z" * 100
        db.push()
        db["large"] = CONTENT["large"]
        db.push()
        del db["gone"]
        db.set_metadata("m" * 70_000)
        db.push()
    return store


def opens_whole(store: RemoteStore) -> bool:
    """Whether there is a database at the target; if there is, it has to be all of it."""
    target = place(store)
    snapshot = target.heads().read()
    if snapshot is None:
        return False
    with open_database(store, flag="r") as db:
        assert dict(db) == CONTENT
        assert db.get_metadata() == "m" * 70_000
    head = snapshot.head
    sizes = retained_segments(store, "db", head).sizes
    for sid, size in sizes.items():
        assert size in (None, store.head(segment_key("db", sid)).size)
    return True


FAULTS: list[tuple[StoreFault, dict[str, Any]]] = [
    (StoreFault.REFUSE, {}),
    (StoreFault.DENY, {}),
    (StoreFault.LOSE_ANSWER, {}),
    (StoreFault.TRUNCATE, {"amount": 40}),
    (StoreFault.VANISH, {}),
]


@pytest.mark.parametrize("mode", ["cas", "lock"])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("fault", "more"), FAULTS, ids=lambda value: str(value)[11:])
def test_a_failed_copy_is_none(
    mode: str, streamed: bool, fault: StoreFault, more: dict[str, Any]
) -> None:
    """Whichever request at the target fails: no database there, or a whole one; a repeat succeeds."""
    source = place(filled())
    for number in itertools.count():
        inner = MemoryRemoteStore()
        store = (Apart if streamed else FaultyRemoteStore)(inner)
        rule = store.add(StoreRule(fault, skip=number, times=100, **more))
        failed: BaseException | None = None
        try:
            copy_database(source, place(store, mode))
        except EBookletError as exc:
            failed = exc
        store.clear()
        try:
            exists = opens_whole(inner)
        except RemoteIntegrityError:  # a head cut in two: it does not open, and says so
            assert fault is StoreFault.TRUNCATE
            inner.delete(["db"])
            exists = False
        assert exists or failed is not None
        if not exists:
            copy_database(source, place(store, mode))
            assert opens_whole(inner)
        if not rule.struck:
            assert failed is None
            break
    assert number >= 3


@pytest.mark.parametrize("fault", [StoreFault.REFUSE, StoreFault.DENY, StoreFault.FLIP])
def test_a_failing_source_makes_no_copy(fault: StoreFault) -> None:
    """Whichever request at the source fails, for good: no database at the target."""
    inner = filled()
    for number in itertools.count():
        store = Apart(inner)
        rule = store.add(StoreRule(fault, skip=number, times=100, amount=10))
        target = MemoryRemoteStore()
        failed = True
        try:
            copy_database(place(store), place(target))
            failed = False
        except EBookletError:
            assert not opens_whole(target)
        if not rule.struck:
            break
        assert failed or fault is StoreFault.FLIP  # of a value: copied as it is, found by readers
    assert number > 5


def test_a_target_that_appears_meanwhile_stays() -> None:
    """A database created by somebody without the lock just before the head: `ValueError`."""
    source = place(filled())
    for mode in ("cas", "lock"):
        inner = MemoryRemoteStore()
        store = FaultyRemoteStore(inner)

        def create(inner: RemoteStore = inner) -> None:
            with pytest.warns(UserWarning, match="copy of it did not end"):
                db = open_database(inner, flag="c", value_serializer="json", lock="optimistic")
            with db:
                db["theirs"] = 1
                db.push(force_push=True)

        op, key = ("cas", "db") if mode == "cas" else ("list", "db.d/")
        store.add(StoreRule(StoreFault.DELAY, op=op, key=key, amount=0, then=create))
        with pytest.raises(ValueError, match="already"):
            copy_database(source, place(store, mode))
        with open_database(inner, flag="r") as db:
            assert dict(db) == {"theirs": 1}


def test_a_lock_lost_meanwhile_stops_the_copy() -> None:
    """A holder that must assume that another has the lock creates nothing, and says so."""
    store, clock = FaultyRemoteStore(MemoryRemoteStore()), ManualClock()
    locks = LeaseLockService(store, clock, LeaseTiming(background=False))
    store.add(StoreRule(StoreFault.DELAY, op="copy", amount=0, then=lambda: clock.advance(45)))
    with pytest.raises(LockLostError):
        copy_database(place(filled()), place(store, locks=locks))
    assert not opens_whole(store)


@pytest.mark.parametrize("error", [AccessDenied, UnsupportedOperation])
def test_a_server_that_refuses_to_copy_is_read_instead(error: type[Exception]) -> None:
    """One refusal is enough; the rest goes through here without asking again."""

    class Refusing(FaultyRemoteStore):
        asked = 0

        def copy(self, source: str, target: str, *, origin: Origin | None = None) -> Any:
            self.asked += 1
            raise error("no", op="copy", key=source)  # type: ignore[call-arg]  # each has these

    store = Refusing(MemoryRemoteStore())
    copy_database(place(filled()), place(store))
    assert 1 <= store.asked <= 8
    assert opens_whole(store)


def test_an_object_that_does_not_suit_the_server_is_read() -> None:
    """A refusal without a finer reason concerns that object; the others are still asked for."""

    inner = filled()
    first = sids(inner)[0]

    class Picky(FaultyRemoteStore):
        def copy(self, source: str, target: str, *, origin: Origin | None = None) -> Any:
            if source == first:
                self.calls.append(Call("refused", target))
                raise StoreError("status 400, EntityTooLarge", op="copy", key=source)
            return super().copy(source, target, origin=origin)

    store = Picky(MemoryRemoteStore())
    copy_database(place(inner), place(store))
    ops = [call.op for call in store.calls if call.key.startswith("db.d/")]
    assert sorted(ops) == ["copy"] * 3 + ["list", "put", "refused"]
    assert opens_whole(store)


def test_the_target_is_locked() -> None:
    """Whoever holds its lock is waited for, and nothing is copied before."""
    store = MemoryRemoteStore()
    locks = LeaseLockService(store, ManualClock())
    lease = locks.acquire("db", timeout=0)
    target = place(store, locks=LeaseLockService(store, ManualClock(seed=1)))
    with pytest.raises(LockTimeout):
        copy_database(place(filled()), target, lock_timeout=0)
    assert not sids(store)
    lease.release()
    copy_database(place(filled()), target, lock_timeout=0)
    assert opens_whole(store)
    assert locks.acquire("db", timeout=0).token > 2


def test_what_one_copy_cannot_take_is_streamed() -> None:
    """Objects above the server's limit pass through here, the others do not."""

    class Small(FaultyRemoteStore):
        @property
        def capabilities(self) -> Any:
            return replace(self.inner.capabilities, max_copy_bytes=10_000)

    store = Small(MemoryRemoteStore())
    copy_database(place(filled()), place(store))
    ops = [call.op for call in store.calls if call.key.startswith("db.d/")]
    assert "copy" in ops
    assert "put" in ops
    assert opens_whole(store)


# A source that changes under the copy.


def sids(store: RemoteStore) -> list[str]:
    return sorted(meta.key for meta in store.list("db.d/"))


def during(store: RemoteStore, action: Callable[[], object]) -> FaultyRemoteStore:
    """The source, with something that happens just before the segments are read."""
    faulty = Apart(store)
    faulty.add(
        StoreRule(
            StoreFault.DELAY,
            op="get",
            key=lambda key: key.startswith("db.d/"),
            skip=2,  # at the record of the first commit, the last that is read
            amount=0,
            then=action,
        )
    )
    return faulty


def test_a_push_meanwhile_is_not_copied() -> None:
    """The copy is of the head that was read first, whatever is pushed meanwhile."""
    inner = filled()

    def push() -> None:
        with open_database(inner, flag="w", lock="optimistic") as db:
            db["later"] = "l" * 1000
            del db["value"]
            db.push()

    target = MemoryRemoteStore()
    copy_database(place(during(inner, push)), place(target))
    assert opens_whole(target)


def test_a_source_deleted_meanwhile() -> None:
    """`RemoteDeleted`, and nothing at the target."""
    inner = filled()
    target = MemoryRemoteStore()
    with pytest.raises(RemoteDeleted):
        copy_database(
            place(during(inner, lambda: inner.delete(["db", *sids(inner)]))), place(target)
        )
    assert not opens_whole(target)


def test_a_source_collected_meanwhile() -> None:
    """Commits that are no longer retained by the newest head: `SnapshotExpired`; a repeat works."""
    inner = filled()

    def collect() -> None:
        head = decode_head(inner.get("db").body, key="db")
        branch = replace(head.branch, oldest_seq=head.seq)
        small = replace(head, seq=head.seq + 1, write_id=bytes(16), branches={"main": branch})
        inner.put("db", encode_head(small))
        kept = retained_segments(inner, "db", small).sizes
        inner.delete(set(sids(inner)) - {segment_key("db", sid) for sid in kept})

    target = MemoryRemoteStore()
    before = len(sids(inner))
    with pytest.raises(SnapshotExpired, match="again"):
        copy_database(place(during(inner, collect)), place(target))
    assert len(sids(inner)) < before
    assert not opens_whole(target)
    copy_database(place(inner), place(target))
    with open_database(target, flag="r") as db:
        assert dict(db) == CONTENT


def test_a_source_with_a_hole() -> None:
    """A segment in use that is missing, or of another size: `RemoteIntegrityError`, each of them."""
    inner = filled()
    bodies = {key: inner.get(key).body for key in sids(inner)}
    for apart in (False, True):
        for key, body in bodies.items():
            for damage in (None, body[:-1], body + b"x"):
                inner.delete([key])
                if damage is not None:
                    inner.put(key, damage)
                target = MemoryRemoteStore()
                store = Apart(inner) if apart else inner
                last = damage is not None and key == max(bodies) and len(damage) > len(body)
                if last:  # of this one no table tells the size, and the record is whole
                    continue
                with pytest.raises(RemoteIntegrityError):
                    copy_database(place(store), place(target))
                assert not opens_whole(target)
            inner.put(key, body)


def test_an_unknown_feature_is_not_copied() -> None:
    """What this version does not know may hold references it cannot see."""
    inner = filled()
    head = decode_head(inner.get("db").body, key="db")
    inner.put("db", encode_head(replace(head, required_bits=1 << 20)))
    target = MemoryRemoteStore()
    with pytest.raises(UnsupportedFormatError, match="bits"):
        copy_database(place(inner), place(target))
    assert not sids(target)


# Killed.

KILLED = """
import os, pickle, signal, sys
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.bootstrap.places import place_opener
from ebooklet.plugins.registry import Registry
from ebooklet.services.transfer import copy_database
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from dataclasses import replace
source, target, skip = pickle.loads(bytes.fromhex(sys.argv[1]))
open_place = place_opener(SystemClock(), Registry())
store = FaultyRemoteStore(open_place(target).store)
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
store.add(StoreRule(StoreFault.LOSE_ANSWER, skip=skip, then=kill))
locks = NullLockService(SystemClock())  # a dead holder's lease would make the next one wait
copy_database(
    open_place(source), replace(open_place(target), store=store, locks=lambda _: locks)
)
"""


def killed_copy(source: object, target: object, skip: int) -> bool:
    """Copy in a process that kills itself at its n-th request of the target; whether it did."""
    sent = pickle.dumps((source, target, skip)).hex()
    argv = [sys.executable, "-c", KILLED, sent]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("kind", ["file", "seaweedfs"])
def test_a_killed_copy_leaves_nothing_that_opens(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Killed at any request to the target: no database there, and the next copy succeeds."""
    chance = random.Random(kind)
    if kind == "file":
        (tmp_path / "r").mkdir()
        source: Any = f"file://{tmp_path}/r/db"
        target: Any = f"file://{tmp_path}/r/copy"
    else:
        server: S3Server = request.getfixturevalue(kind)
        source = server.connection(server.new_bucket(), "db")
        target = replace(source, db_key="copy")
    with ebooklet.open(source, flag="c", value_serializer="bytes") as db:
        for number in range(6):
            db[f"k{number}"] = chance.randbytes(100_000)
            db.push()
    skips = chance.sample(range(10), 6 if kind == "file" else 2)
    assert all(killed_copy(source, target, skip) for skip in skips)
    with pytest.raises(ebooklet.RemoteMissingError):
        ebooklet.open(target, flag="r")
    with ebooklet.open(source, flag="w") as db:
        db.copy_remote(target)
        with ebooklet.open(target, flag="r") as copy:
            assert dict(copy) == dict(db)


def test_leftovers_are_overwritten() -> None:
    """What a failed copy left half-written under a segment's name does not stay so."""
    source, target = filled(), MemoryRemoteStore()
    for key in sids(source):
        target.put(key, b"half")
    copy_database(place(source), place(target))
    assert opens_whole(target)
    with pytest.raises(ObjectNotFound):
        target.head("db.alt")
