"""`Database`: a database of parts that its owner has built, for embedding in applications.

A composition root beside `bootstrap`, for those who have their own: it looks nothing up, in no
registry, no environment and no cache folder, and keeps nothing in globals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Generic, TypeVar

import ebooklet
from ebooklet.adapters.keyrings import keyring_of
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.probe import prober
from ebooklet.core.builtparts import check_built
from ebooklet.core.encryption import EncryptionLike
from ebooklet.core.guarded_serializer import guarded_serializer
from ebooklet.core.head import Proto
from ebooklet.core.keyring import Keyring
from ebooklet.core.numbers import check_seconds
from ebooklet.database import EBooklet
from ebooklet.errors import UnsupportedOperation
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.lock_service import LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.ports.serializer import Serializer
from ebooklet.services.closing import close_copy
from ebooklet.services.hooking import set_hooks
from ebooklet.services.localhalf import BuiltHalf, LocalHalf, OpenHalf
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S
from ebooklet.services.opening import open_copy
from ebooklet.services.place import OpenPlace, RemoteLike, RemotePlace
from ebooklet.services.policy import ConflictPolicy, check_policy
from ebooklet.services.reopening import reopen_copy
from ebooklet.services.request import FLAGS, Flag, Request, check_branch, check_flag
from ebooklet.services.settings import Settings
from ebooklet.services.staying import check_version_goes
from ebooklet.services.versions import VersionLike

if TYPE_CHECKING:
    from ebooklet.plugins.hooks import Hooks

__all__ = ["Database", "LocalHalf"]

V = TypeVar("V")


class Database(EBooklet[V], Generic[V]):
    """An `EBooklet` made of built parts, which stay their owner's: closing it closes none of them.

    Args:
        local: the local half: an open store (for writing unless `flag` is "r"), or a `LocalHalf`,
            which opens one once the remote has told whose half it is, closed with the database.
        remote: where the database is kept; None for one without a remote.
        locks: the write lock, held while a writer is open; every writer needs the same kind. None
            takes none, and pushes that meet another's commit are merged.
        serializer: of the values. Passing one is trusting it, with whatever its `loads` may do.
        clock: time and randomness.
        db_key: the database's name in `remote`.
        flag: "r" read, "w" write what exists, "c" create it if missing, "n" start anew.
        version: the commit to open, with flag "r": a tag, a branch, an id or its beginning, a seq,
            or a datetime. The handle stays at it.
        lock_timeout: seconds to wait for the lock.
        force_lock: take the lock from whoever holds it.
        branch: the branch to read, and to push to; None goes on with the one that the local half
            is on, or begins with the default one.
        conflict: what a push does with keys changed on both sides: "error", "ours", "theirs", or a
            function, as for `open`.
        encryption: the keys of a database that is encrypted or, where none exists, is to be, as
            `open` takes them: a `KeyFile`, an `Encryption`, or a function from key id to key; or
            a `Keyring`, which brings its own cipher. None for a plain database.
        author: who commits, for the history.
        probes: remembers what was found out about servers; without it each creation finds it out.
        plugins: hook plugins, and no others; see `ebooklet.plugins.hooks.HookSpecs`.

    Raises:
        ValueError: an argument is wrong, or the values were written by another serializer.
        UnsupportedOperation: a writer without `locks`, on a server that ignores conditions.
        EBookletError: see `ebooklet.errors`; nothing is left locked.

    Example:
        >>> from ebooklet.adapters.clock import SystemClock
        >>> from ebooklet.adapters.local.memory import open_store
        >>> from ebooklet.adapters.remote.memory import MemoryRemoteStore
        >>> from ebooklet.serializers.json import JSON
        >>> clock = SystemClock()
        >>> with Database(
        ...     local=LocalHalf(open_store=open_store, path=None, clock=clock),
        ...     remote=MemoryRemoteStore("embedded"),
        ...     serializer=JSON,
        ...     clock=clock,
        ... ) as db:
        ...     db["a"] = 1
        ...     db.push().updated
        True
    """

    def __init__(
        self,
        *,
        local: LocalStore | LocalHalf,
        remote: RemoteStore | None = None,
        locks: LockService | None = None,
        serializer: Serializer,
        clock: Clock,
        db_key: str = "db",
        flag: Flag = "c",
        version: VersionLike | None = None,
        lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S,
        force_lock: bool = False,
        branch: str | None = None,
        conflict: ConflictPolicy = "error",
        encryption: EncryptionLike | Keyring | None = None,
        author: str = "",
        probes: ProbeCache | None = None,
        plugins: Sequence[object] = (),
    ) -> None:
        check_flag(flag, FLAGS)
        check_branch(branch, version)
        check_policy(conflict)
        check_version_goes(version, flag=flag, offline=False)
        check_seconds("lock_timeout", lock_timeout)
        check_built(
            "a Database looks nothing up; ebooklet.open takes names and URLs",
            local=(local, (LocalStore, LocalHalf)),
            remote=(remote, (RemoteStore, NoneType)),
            locks=(locks, (LockService, NoneType)),
            serializer=(serializer, (Serializer,)),
            clock=(clock, (Clock,)),
            db_key=(db_key, (str,)),
        )
        serializer = guarded_serializer(serializer)
        keyring = keyring_of(encryption)
        hooks = _hooks(plugins)
        request = Request(
            flag=flag,
            open_half=_half(local, serializer),
            clock=clock,
            remote=remote,
            db_key=db_key,
            locks=partial(_chosen, locks),
            exclusive_locks=partial(_chosen, locks),
            probe=None if remote is None else prober(remote, db_key, clock, cache=probes),
            lock_timeout=lock_timeout,
            force_lock=force_lock,
            explicit_serializer=serializer.name,
            only="database",
            keyring=keyring,
            version=version,
            owns_local=isinstance(local, LocalHalf),  # opened for this one
            owns_remote=False,
            settings=Settings(
                value_serializer=serializer.name,
                writable=flag != "r",
                exclusive=locks is not None,
                branch=branch,
                conflict=conflict,
                author=author,
                version=ebooklet.__version__,
            ),
        )
        copy = open_copy(request)
        try:
            super().__init__(
                copy,
                serializer,
                _place_opener(db_key, clock, probes),
                lambda copy, mode: reopen_copy(copy, request, mode),
                lambda keys: _WriterPlace(
                    remote, db_key, clock, encryption if keys is None else keys
                ),
            )
            if hooks is not None and (bound := hooks.bound_to(self)) is not None:
                set_hooks(copy, bound, flag)
        except BaseException:
            close_copy(copy)
            raise


@dataclass(frozen=True)
class _WriterPlace:
    """Opens the place of a forked writer, of the built parts; a pickle holds theirs."""

    remote: RemoteStore | None = field(repr=False)
    db_key: str
    clock: Clock = field(repr=False)
    encryption: EncryptionLike | Keyring | None = field(repr=False)

    def __call__(self) -> RemotePlace:
        assert self.remote is not None  # noqa: S101  # what has none is not forked
        place = _place_opener(self.db_key, self.clock, None)(self.remote)
        return replace(place, keyring=keyring_of(self.encryption))


def _hooks(plugins: Sequence[object]) -> Hooks | None:
    if not plugins:
        return None
    from ebooklet.plugins.hooks import hooks_of  # brings pluggy, so only where it is needed

    return hooks_of(plugins)


def _half(local: LocalStore | LocalHalf, serializer: Serializer) -> OpenHalf:
    if isinstance(local, LocalHalf):
        return replace(local, serializer=serializer.name)
    return BuiltHalf(local)


def _chosen(locks: LockService | None, proto: Proto) -> LockService | None:
    if locks is None and proto.mode == "lock":
        raise UnsupportedOperation(
            "this remote ignores conditional writes, so that writers need a lock: pass locks=, "
            "for example a TicketLockService, the same kind in every writer",
            op="open",
        )
    return locks


def _place_opener(db_key: str, clock: Clock, probes: ProbeCache | None) -> OpenPlace:
    """How other remotes are named: by the built store, in which the key is the same."""

    def open_place(remote: RemoteLike) -> RemotePlace:
        if not isinstance(remote, RemoteStore):
            raise TypeError(
                "a Database looks nothing up: pass a built RemoteStore, not "
                f"{type(remote).__name__}"
            )
        return RemotePlace(
            store=remote,
            db_key=db_key,
            clock=clock,
            locks=partial(_chosen, None),
            probe=prober(remote, db_key, clock, cache=probes),
            owned=False,
        )

    return open_place
