"""`Database`: built parts in, nothing looked up."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet import Database, KeyFile, LocalHalf
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.encryption.aesgcm import AesGcmCipher
from ebooklet.adapters.local.booklet import open_store as open_booklet
from ebooklet.adapters.local.memory import open_store as open_memory
from ebooklet.adapters.locks.lease import LeaseLockService
from ebooklet.adapters.locks.ticket import TicketLockService
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.boto3 import open_store as open_s3
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.keyring import Keyring
from ebooklet.errors import EncryptionError, LockTimeout, UnsupportedOperation
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.serializers.cbor import CBOR
from ebooklet.serializers.json import JSON
from ebooklet.testing.faulty import FaultyRemoteStore, Manners
from ebooklet.testing.servers import S3Server

CLOCK = SystemClock()
_names = itertools.count()

LOOKS_NOTHING_UP = """
import os, sys
from ebooklet import Database, LocalHalf
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.memory import open_store
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.serializers.json import JSON

clock = SystemClock()
local = LocalHalf(open_store=open_store, path=None, clock=clock)
with Database(
    local=local, remote=MemoryRemoteStore("x"), serializer=JSON, clock=clock, author="me"
) as db:
    db["a"] = 1
    assert db.push().updated
    assert db._copy.base.head.tip.author == "me"
looked_up = [name for name in sys.modules if name.startswith(("ebooklet.plugins", "ebooklet.bootstrap"))]
assert looked_up == [], looked_up
assert not os.listdir(os.environ["XDG_CACHE_HOME"])
"""


def test_encrypted(remote: MemoryRemoteStore, tmp_path: Path) -> None:
    """By a source of keys, or a built keyring of one; without them the database does not open."""
    keys = KeyFile.generate(tmp_path / "keys.json")
    local = LocalHalf(open_store=open_memory, path=None, clock=CLOCK)
    with Database[Any](
        local=local, remote=remote, serializer=JSON, clock=CLOCK, encryption=keys
    ) as db:
        db["secret-key"] = "secret-value" * 10
        assert db.push()
    assert not any(b"secret" in remote.get(meta.key).body for meta in remote.list(""))
    for other in (keys.key, Keyring(AesGcmCipher(), keys)):
        with Database[Any](
            local=local, remote=remote, serializer=JSON, clock=CLOCK, flag="r", encryption=other
        ) as db:
            assert db["secret-key"] == "secret-value" * 10
    with pytest.raises(TypeError, match="encryption is a KeyFile, an Encryption or a function"):
        Database[Any](
            local=local,
            remote=remote,
            serializer=JSON,
            clock=CLOCK,
            encryption="keys.json",  # type: ignore[arg-type]  # the slip itself
        )
    with pytest.raises(EncryptionError):
        Database[Any](local=local, remote=remote, serializer=JSON, clock=CLOCK, flag="r")


@pytest.fixture
def remote() -> MemoryRemoteStore:
    """A remote of its own for each test."""
    return MemoryRemoteStore(f"embedded-{next(_names)}")


def in_memory() -> LocalHalf:
    """A local half that no file is needed for."""
    return LocalHalf(open_store=open_memory, path=None, clock=CLOCK)


def test_a_life_of_built_parts(tmp_path: Path, seaweedfs: S3Server) -> None:
    """Local file, real bucket and lock are the ones passed in, and what is pushed is read again."""
    bucket = seaweedfs.new_bucket()
    store, key = open_s3(seaweedfs.connection(bucket, "embedded").address())
    half = LocalHalf(open_store=open_booklet, path=tmp_path / "a.blt", clock=CLOCK)
    locks = LeaseLockService(store, CLOCK)
    with Database[Any](
        local=half,
        remote=store,
        locks=locks,
        serializer=CBOR,
        clock=CLOCK,
        db_key=key,
        probes=ProbeCache(),  # what other tests found out
    ) as db:
        db.update({f"k{n}": n for n in range(50)})
        assert db.push().n_set == 50
        with pytest.raises(LockTimeout):
            Database(
                local=in_memory(),
                remote=store,
                locks=locks,
                serializer=CBOR,
                clock=CLOCK,
                db_key=key,
                lock_timeout=0,
            )
    with Database[Any](
        local=in_memory(), remote=store, serializer=CBOR, clock=CLOCK, db_key=key, flag="r"
    ) as reader:
        assert dict(reader) == {f"k{n}": n for n in range(50)}
    with ebooklet.open(seaweedfs.connection(bucket, "embedded")) as same:
        assert same["k7"] == 7
    assert {meta.key for meta in store.list(key)} >= {key, f"{key}.lock"}  # it stays open
    store.close()


def test_a_half_that_was_opened_for_it_is_closed_with_it(tmp_path: Path) -> None:
    """The next one opens the same file, as closed in order; so does a later flag "n".

    Fails if the local file is left open, which nobody else could close.
    """
    half = LocalHalf(open_store=open_booklet, path=tmp_path / "a.blt", clock=CLOCK, lock_timeout=0)
    with Database[Any](local=half, serializer=JSON, clock=CLOCK) as db:
        db["a"] = 1
    with Database[Any](local=half, serializer=JSON, clock=CLOCK) as db:
        assert db._copy.local.condition == "clean"
        assert dict(db) == {"a": 1}
    with Database[Any](local=half, serializer=JSON, clock=CLOCK, flag="n") as db:
        assert dict(db) == {}


def test_nothing_is_looked_up(tmp_path: Path) -> None:
    """No registry is loaded, no environment variable names an author, no cache file is written."""
    done = subprocess.run(
        [sys.executable, "-c", LOOKS_NOTHING_UP],
        env={**os.environ, "EBOOKLET_AUTHOR": "somebody", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_writers_without_a_lock_merge(remote: MemoryRemoteStore) -> None:
    """Without `locks`, two writers at once both get in, as by lock="optimistic"."""
    with (
        Database[Any](local=in_memory(), remote=remote, serializer=JSON, clock=CLOCK) as seed,
    ):
        seed["x"] = 0
        seed.push()
        with Database[Any](local=in_memory(), remote=remote, serializer=JSON, clock=CLOCK) as other:
            seed["a"], other["b"] = 1, 2
            assert seed.push()
            assert other.push()
            assert dict(other) == {"x": 0, "a": 1, "b": 2}


def test_a_remote_without_conditions_wants_a_lock() -> None:
    """Where conditions are ignored a writer without `locks` is told so; with one, it works."""
    careless = FaultyRemoteStore(
        MemoryRemoteStore(f"embedded-{next(_names)}"),
        manners=Manners(ignores_if_absent=True, ignores_if_match=True),
    )
    with pytest.raises(UnsupportedOperation, match="pass locks="):
        Database[Any](local=in_memory(), remote=careless, serializer=JSON, clock=CLOCK)
    locks = TicketLockService(careless, CLOCK)
    with Database[Any](
        local=in_memory(), remote=careless, locks=locks, serializer=JSON, clock=CLOCK
    ) as db:
        db["a"] = 1
        assert db.push()


def test_another_serializer_is_refused(remote: MemoryRemoteStore) -> None:
    """Values written by one serializer are not read by another."""
    with Database[Any](local=in_memory(), remote=remote, serializer=JSON, clock=CLOCK) as db:
        db["a"] = 1
        db.push()
    with pytest.raises(ValueError, match="'json', not 'cbor'"):
        Database[Any](local=in_memory(), remote=remote, serializer=CBOR, clock=CLOCK, flag="r")


def test_copies_go_to_built_stores(remote: MemoryRemoteStore) -> None:
    """`copy_remote` takes a store; a URL would have to be looked up, and is refused."""
    target: RemoteStore = MemoryRemoteStore(f"embedded-{next(_names)}")
    with Database[Any](local=in_memory(), remote=remote, serializer=JSON, clock=CLOCK) as db:
        db["a"] = 1
        db.push()
        with pytest.raises(TypeError, match="looks nothing up"):
            db.copy_remote("memory://elsewhere")
        db.copy_remote(target)
    with Database[Any](
        local=in_memory(), remote=target, serializer=JSON, clock=CLOCK, flag="r"
    ) as copied:
        assert dict(copied) == {"a": 1}


def test_modes_change_in_place(remote: MemoryRemoteStore) -> None:
    """`reopen` works as for a database opened by name."""
    with Database[Any](local=in_memory(), remote=remote, serializer=JSON, clock=CLOCK) as db:
        db["a"] = 1
        db.push()
        db.reopen("r")
        with pytest.raises(ebooklet.ReadOnlyError):
            db["b"] = 2
        db.reopen("w")
        db["b"] = 2
        assert db.push()


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("local", "booklet"),
        ("remote", "memory://x"),
        ("locks", "lease"),
        ("serializer", "json"),
        ("clock", None),
        ("db_key", None),
    ],
)
def test_parts_are_built(remote: MemoryRemoteStore, part: str, wrong: object) -> None:
    """A name in a part's place is a `TypeError` that says so, before anything is locked."""
    locks = LeaseLockService(remote, CLOCK)
    parts: dict[str, Any] = {
        "local": in_memory(),
        "remote": remote,
        "locks": locks,
        "serializer": JSON,
        "clock": CLOCK,
    }
    with pytest.raises(TypeError, match=f"^{part} must be a built "):
        Database(**(parts | {part: wrong}))
    assert list(remote.list("")) == []


def test_parts_of_parts_are_built(remote: MemoryRemoteStore) -> None:
    """Swapped arguments of a lock service, and a text as a path, are each a `TypeError` at once."""
    for service in (LeaseLockService, TicketLockService):
        swapped: Any = (CLOCK, remote)
        with pytest.raises(
            TypeError, match=rf"^remote must .*: {service.__name__}\(remote, clock\)"
        ):
            service(*swapped)
    wrong: Any
    for wrong in ({"path": "w/x.blt"}, {"clock": remote}):
        with pytest.raises(TypeError, match=f"^{next(iter(wrong))} must be a built "):
            replace(in_memory(), **wrong)


def test_a_failure_after_the_open_leaves_no_lock(remote: MemoryRemoteStore) -> None:
    """What cannot be made of good parts gives the lock back at once, not to the collector."""

    locks = LeaseLockService(remote, CLOCK)
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebooklet.mapping.in_forked_child", lambda _: 1 / 0)
        try:
            Database[Any](
                local=in_memory(), remote=remote, locks=locks, serializer=JSON, clock=CLOCK
            )
        except ZeroDivisionError as exc:
            kept.append(exc)  # and with it everything that its frames hold
    assert kept
    with Database[Any](
        local=in_memory(), remote=remote, locks=locks, serializer=JSON, clock=CLOCK, lock_timeout=0
    ) as db:
        assert len(db) == 0
