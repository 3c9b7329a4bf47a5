"""The working copy: a local store, the remote it follows, and what lies between them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final
from uuid import UUID

from ebooklet.core.dictionaries import Dictionaries
from ebooklet.core.head import Head, Proto
from ebooklet.core.keyring import Keyring
from ebooklet.core.minting import SidMinter
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef
from ebooklet.core.sealing import PLAIN, DatabaseSealer
from ebooklet.core.walks import Walks
from ebooklet.errors import (
    EBookletError,
    EncryptionError,
    LockTimeout,
    OfflineError,
    RemoteMissingError,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.hooks import DatabaseHooks
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.lock_service import Lease
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.ports.serializer import Serializer, TrainedSerializer
from ebooklet.services.fetched import FetchedItem, FetchedValues
from ebooklet.services.guards import Guards, being_pushed
from ebooklet.services.heads import HeadStore
from ebooklet.services.journal import Journal
from ebooklet.services.lastplace import LastPlace
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S, ChooseLock, no_lock
from ebooklet.services.log import find_row, log_params
from ebooklet.services.nodes import NodeReader
from ebooklet.services.pending import PendingChanges
from ebooklet.services.segmentreads import SegmentReads
from ebooklet.services.settings import Settings
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.unreachable import UnreachableRemoteStore


def _no_remote(op: str, key: str) -> EBookletError:
    return RemoteMissingError("this database was opened without a remote", op=op, key=key)


def _offline(op: str, key: str) -> EBookletError:
    return OfflineError(
        "not stored locally, and the database was opened offline: open it again once the remote can "
        "be reached, and call load_items() before it cannot",
        op=op,
        key=key,
    )


BORROW_TIMEOUT_S: Final = 5.0  # longest wait to store copies, which can be fetched again


class WorkingCopy(Guards):
    """State shared by the services; holds no policy of its own.

    Invariant: a key in the local store is either pending or equal to what the base commit has,
    so that a value found there is fresh and needs no look into the index.

    Attributes:
        base: what the local half was last in step with; None while the remote has no commit.
        former: the last head of a remote that was deleted, while there is no base.
        pending: what changed here since.
        keyring: what encrypted databases are opened with.
        sealer: how this one's blocks are stored.
        lock: guards `base`, `pending` and writes to the local store. Held over a request only to
            fetch user metadata too large for the head, by a pull and by `discard`.
        hooks: who is told and asked of what happens; None for nobody.
        mirrored: the remote, with its segments read elsewhere; None to read them there as well.
        segments: where they are read from: what comes has to be checked, see `services.parts`.
        reads: reads of them, in as few requests as the pace of their remote makes best.
    """

    def __init__(
        self,
        *,
        local: LocalStore,
        remote: RemoteStore | None,
        db_key: str,
        clock: Clock,
        settings: Settings,
        mirrored: RemoteStore | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        super().__init__()
        self.local = local
        self.remote = remote
        self.mirrored = mirrored
        self.db_key = db_key
        self.clock = clock
        self.settings = settings
        self.lock = threading.RLock()
        self.push_lock = threading.Lock()
        self.base_lock = threading.RLock()  # held by whoever moves the base: one push or pull
        self.pending = PendingChanges()
        self.journal = Journal(local, LastPlace(local, remote, db_key))
        self.elsewhere: str | None = None  # where the database is, if not where it was looked for
        self.base: Snapshot | None = None
        self.former: Snapshot | None = None
        self.lease: Lease | None = None
        # For work on the whole remote by a handle that holds no lock.
        self.exclusive_locks: ChooseLock = no_lock
        self.lock_timeout = DEFAULT_LOCK_TIMEOUT_S
        self.forces_turn = False  # whether the first lock taken for a moment is taken by force
        self.fetched = FetchedValues()
        self.hooks: DatabaseHooks | None = None
        self.evicted: dict[str, None] = {}  # what `on_evict` has not been told of yet
        self.walks = Walks()
        self._moving = False
        self.dictionaries = Dictionaries()
        self.trained: TrainedSerializer | None = None  # writes values with them
        self.serializer: Serializer | None = None  # of the values, for who decides by them
        self.deciding: int | None = None  # thread inside the caller's function for conflicts
        self.retrain = False  # whether the next push is to train one
        self.proto: Proto | None = None  # how heads are moved; None until a remote was looked at
        self.params = TreeParams()
        self.keyring = Keyring() if keyring is None else keyring
        self.sealer: DatabaseSealer = PLAIN
        self.minter = SidMinter()
        self.owns_local = True
        self.owns_remote = True
        self.connect()

    # Where things are

    def connect(self) -> None:
        """Ask the remote from here on, or nobody, as the settings say."""
        if self.remote is None:
            source: RemoteStore = UnreachableRemoteStore(self.local.location, _no_remote)
        elif self.settings.offline:
            source = UnreachableRemoteStore(self.remote.location, _offline)
        else:
            source = self.remote
        self._source = source
        self.segments = self.mirrored if self.asks_remote and self.mirrored else source
        if self.elsewhere is not None:  # its segments are not here, whatever lies under this key
            self.segments = UnreachableRemoteStore(source.location, self._not_here)
        self.reads = SegmentReads(self.segments, self.db_key, self.clock)
        self.nodes = NodeReader(self.segments, self.db_key, self.local, self.reads)
        self.log_nodes = NodeReader(self.segments, self.db_key, self.local, self.reads)
        self.heads = HeadStore(source, self.db_key, self.clock, self._in_log, self.settings.branch)

    def _in_log(self, head: Head, seq: int, write_id: bytes) -> bool:
        return find_row(self.log_nodes, head, seq, write_id) is not None

    def stand_off(self, elsewhere: str | None) -> None:
        """Read nothing at this place, as the database is elsewhere; None: it is here."""
        if elsewhere != self.elsewhere:
            with self.lock:
                self.elsewhere = elsewhere
                proto = self.proto
                self.connect()
                self.set_base(self.base)
                self.proto = proto

    def put_on(self, branch: str | None) -> None:
        """See heads from this branch from here on; None: from their default one."""
        self.settings = replace(self.settings, branch=branch)
        self.heads.branch = branch

    def _not_here(self, op: str, key: str) -> EBookletError:
        return RemoteMissingError(
            f"not stored locally, and there is no database at {self.location}: it was last seen "
            f"at {self.elsewhere}; open it with that",
            op=op,
            key=key,
        )

    @property
    def uuid(self) -> UUID:
        """The database's identity, shared by both halves."""
        return self.local.uuid

    @property
    def commit_mode(self) -> str | None:
        """How heads are moved: "cas" or "lock"; None until that is known."""
        return None if self.proto is None else self.proto.mode

    @property
    def asks_remote(self) -> bool:
        """Whether there is a remote, and it may be asked."""
        return self.remote is not None and not self.settings.offline

    def reachable_remote(self) -> RemoteStore:
        """The remote store itself, whatever its mirror shows; its calls raise when there is none, or offline."""
        return self._source

    @property
    def location(self) -> str:
        """Where the database is, for messages."""
        if self.remote is None:
            return self.local.location
        return f"{self.remote.location}/{self.db_key}"

    @property
    def view_root(self) -> NodeRef | None:
        """Root of the index that reads look into; None after `clear` or flag n."""
        return None if self.base is None or self.pending.replace else self.base.root

    @property
    def view_count(self) -> int:
        """Number of keys under `view_root`."""
        return 0 if self.base is None or self.pending.replace else self.base.count

    def abandon_in_child(self) -> None:
        """After a fork, in the child: refuse from here on, and leave all that is held alone.

        A thread that the child does not have may hold the old locks.
        """
        self.forked = True
        self.lock = threading.RLock()
        self.push_lock = threading.Lock()
        self.base_lock = threading.RLock()

    @contextmanager
    def pushing(self, op: str) -> Iterator[None]:
        """Be the only one on this handle who may move the head; where others are, wait for nobody.

        Raises:
            PushInProgressError: another thread is.
        """
        lock = self.push_lock  # of this process: a child forked inside has another one
        if not lock.acquire(blocking=False):
            raise being_pushed(op)
        try:
            yield
        finally:
            lock.release()

    # The base

    def set_base(self, snapshot: Snapshot | None) -> None:
        """Move to another base; the caller has dropped stale local copies already.

        Raises:
            EncryptionError: it is encrypted, and cannot be opened by the caller's keys.
        """
        if snapshot is not None:
            self.sealer = self.adopt(snapshot)
            self.former = None
            self.proto = snapshot.head.proto
            self.params = snapshot.head.params
        self.base = snapshot

    def adopt(self, snapshot: Snapshot) -> DatabaseSealer:
        """Have the nodes of a head read as it says, and return the sealer of its blocks."""
        sealer = self.keyring.sealer_of(snapshot.head, snapshot.record)
        self.nodes.adopt(snapshot, sealer)
        self.log_nodes.params = log_params(snapshot.head.params)
        return sealer

    def reload(self) -> None:
        """Take over what is written down, by another process too: the base and what is pending."""
        with self.lock:
            if self.local.writable:
                self.pending.absorb()
                self.journal.flush(self.pending)
            base = self.journal.read_base()
            same_base = base is self.base or (
                base is not None
                and self.base is not None
                and (base.data, base.other) == (self.base.data, self.base.other)
            )
            self._require_branch(base)
            left = self.pending.clear()
            self.journal.load(self.pending)
            if not self.pending.resume(left, same_base=same_base):
                # What was fetched belongs to the state left behind.
                self.fetched.take()
            self.set_base(self.base if same_base else base)
            if self.base is None and (former := self.journal.read_former()) is not None:
                self.follow(former)

    def follow(self, former: Snapshot) -> None:
        """Have no base, after a remote that was deleted with this head."""
        self.set_base(None)
        self.put_on(None)  # it had branches that the next one has not
        self.former = former
        if former.head.encrypted or not self.keyring.wanted:
            self.sealer = self.keyring.sealer_of(former.head)
            self.params = former.head.params

    def begin_sealing(self) -> None:
        """Be a database that does not exist yet, and that is encrypted from its first commit on."""
        try:
            self.sealer = self.keyring.create(self.clock.token_bytes)
        except EncryptionError as exc:
            exc.key = self.db_key
            raise
        self.params = self.keyring.params(self.clock.token_bytes)

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Keep values fetched from the old base out of the local store while the base moves."""
        with self.lock:
            self._moving = True
        try:
            yield
        finally:
            with self.lock:
                self._moving = False

    # The local store

    def keep_fetched(self, base: Snapshot | None, items: Sequence[FetchedItem]) -> None:
        """Store values fetched from `base`, unless the key or the base changed meanwhile."""
        with self.lock:
            if self.base is not base or self._moving or self.closed:
                return
            self.pending.absorb()
            if self.pending.replace:
                return  # cleared meanwhile: of the base nothing is seen any more
            if self.pending:
                items = [item for item in items if item[0] not in self.pending]
            if self.local.writable:
                self.journal.stored(key for key, _, _ in items)
                self.local.set_many(items)
                return
            full = self.fetched.add(items)
        if full:
            self.flush_fetched()

    def restamp(self, times: Mapping[str, int]) -> None:
        """Give values stored here other timestamps (µs); the caller holds the lock."""
        if times:
            found = self.local.get_many(list(times))
            self.local.set_many((key, value, times[key]) for key, (_, value) in found)

    def flush_fetched(self) -> None:
        """Hand a reader's fetched values to the shared local store, if its base is still ours."""
        if not self.fetched:
            return
        try:
            # The store first, then our own lock: the order of everything that borrows.
            with self.local.exclusive(BORROW_TIMEOUT_S), self.lock:
                items = self.fetched.take()
                if self.local.changed_elsewhere:
                    return  # another process may have changed these very keys meanwhile
                if self.base is not None and self.journal.base_is(self.base):
                    self.journal.stored(key for key, _, _ in items)
                    self.local.set_many(items)
                    self.journal.flush(self.pending)
                    self.local.sync()
        except LockTimeout:
            # Another process is writing. These are copies: keep the memory bounded, and go on.
            with self.lock:
                self.fetched.take()

    def sync(self) -> None:
        """Make local changes durable: journal first, so that no stored change goes unnoticed."""
        if not self.local.writable:
            self.flush_fetched()
            return
        with self.lock:
            self.pending.absorb()
            self.journal.flush(self.pending)
            self.local.sync()
