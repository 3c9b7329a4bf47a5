"""One handle of a local file, shared by threads: the hot path, leases and borrowing."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID

from ebooklet.adapters.local.booklet.finding import is_there
from ebooklet.adapters.local.booklet.gate import Waiting
from ebooklet.adapters.local.booklet.handles import Handle, serializer_name
from ebooklet.adapters.local.booklet.layout import MAX_BUCKETS
from ebooklet.adapters.local.booklet.leases import KEEPER
from ebooklet.adapters.local.booklet.nodecache import NodeCache
from ebooklet.adapters.local.booklet.rebuild import buckets_for
from ebooklet.adapters.local.booklet.session import Creation, Session
from ebooklet.errors import (
    ForkedProcessError,
    LocalFileError,
    LockTimeout,
    UnsupportedOperation,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import Condition, Mode

_Read: TypeAlias = Callable[[str], bytes | None]
_Write: TypeAlias = Callable[[str, bytes, int, bool], None]

# One write moves less than 2 GiB, and Booklet takes what was not written for written.
_MAX_VALUE: Final = (2 << 30) - (1 << 20)
_OPEN: weakref.WeakSet[SharedFile]


class SharedFile:
    """The file as threads share it: opened, leased or borrowed as each call needs it.

    Threads are kept apart by one lock. A writer holds the file until `close`. A reader holds it
    for a second at a time and becomes the writer for a moment where it has to write.
    """

    def __init__(
        self,
        location: Path,
        *,
        mode: Mode,
        creation: Creation | None,
        replace: bool,
        buffer_size: int,
        lock_timeout: float,
        clock: Clock,
    ) -> None:
        self._use_lock(threading.RLock())
        self._mode = mode
        self._clock = clock
        self._lock_timeout = lock_timeout
        self._closed = False
        self._deletions = 0
        self._leases = 0  # begun so far
        self._lease = 0  # number of the one that runs
        self._borrows = 0  # nested `exclusive` blocks of a reader
        self._guard: Callable[[], object] = _unguarded
        self._read: _Read | None = None
        self._write: _Write | None = None
        self._handle: Handle | None = None
        self._room = sys.maxsize  # sets until the index may be full; exact when it was computed
        session = Session(location, clock=clock, buffer_size=buffer_size)
        self._session = session
        self._nodes = NodeCache(session.sidecar.folder / "nodes")
        waiting = Waiting(clock, lock_timeout)
        self._finalizer = weakref.finalize(self, session.finish)
        _OPEN.add(self)
        if mode == "write":
            self._condition = session.open_writer(waiting, creation, replace=replace)
            self._adopt()
        else:
            created = None
            if replace or (creation is not None and not is_there(location)):
                created = session.open_writer(waiting, creation, replace=replace)
                session.finish()
            with self._lock:  # or on a busy machine the lease has ended before it is used
                self._condition = session.lease(waiting)
                self._start_lease()
            self._condition = created or self._condition
        self._told = session.generation

    # Facts.

    @property
    def location(self) -> str:
        """Path of the file."""
        return str(self._session.location)

    @property
    def uuid(self) -> UUID:
        """The uuid in the file's header."""
        assert self._session.uuid is not None  # noqa: S101  # known since the open
        return self._session.uuid

    @property
    def value_serializer(self) -> str | None:
        """Name of the value serializer; None for a class of the user's own."""
        return self._session.serializer

    @property
    def writable(self) -> bool:
        """Whether this handle is the writer."""
        return self._mode == "write"

    @property
    def condition(self) -> Condition:
        """How the file was found."""
        return self._condition

    @property
    def generation(self) -> int:
        """Grows when a reader comes back to a file that another process has changed."""
        return self._session.generation

    @property
    def changed_elsewhere(self) -> bool:
        """Whether a reader, coming back to the file, found it, a slot or a log changed."""
        return self._session.noticed and self._mode == "read"

    def freshen(self) -> None:
        """Lease the file now, if no writer is in; see the port."""
        with self._lock:
            self._check()
            if self._handle is None and not self._owns():
                with contextlib.suppress(LockTimeout):
                    self._come_back(Waiting(self._clock, 0))

    def guard(self, check: Callable[[], object]) -> None:
        """Ask this at each lease; see the port."""
        with self._lock:
            self._guard = check

    def acknowledge(self) -> None:
        """Note that what another process changed has been taken in."""
        with self._lock:
            self._session.noticed = False

    @contextlib.contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Be the writer for a few calls that belong together; see the port."""
        with self._lock:
            self._check()
            if self._mode == "read":
                if self._borrows == 0:
                    self._borrow(timeout)
                self._borrows += 1
        try:
            yield
        finally:
            with self._lock:
                if self._mode == "read":
                    self._borrows -= 1
                    if self._borrows == 0 and not self._closed:
                        self._give_back()

    def change_mode(self, mode: Mode, *, timeout: float) -> None:
        """Become the writer, or a reader, in place; see the port."""
        waiting = Waiting(self._clock, timeout)
        while True:
            with self._lock:
                self._check()
                if mode == self._mode:
                    return
                if mode == "read":
                    self._session.settle(told=False)  # what may fail, before anything is given up
                    self._mode = mode
                    self._give_back()
                    self._session.noticed = False
                    return
                if not self._borrows:  # else another thread is the writer for a moment
                    self._become_writer(waiting)
                    return
            if not waiting.pause():
                raise self._session.gate.timeout()

    # The hot path.

    def get(self, key: str) -> bytes | None:
        """The value, or None when the key is absent."""
        # Bound methods: `with` on a lock takes twice as long, and this is the hottest path.
        self._acquire()
        try:
            return (self._read or self._reader())(key)
        finally:
            self._release()

    def set(self, key: str, value: bytes, timestamp: int) -> None:
        """Write one value; with the system at the latest after the next `sync`."""
        if len(value) > _MAX_VALUE:
            raise UnsupportedOperation(
                f"a value has {len(value)} bytes; a Booklet file holds up to {_MAX_VALUE} in one",
                op="set",
                key=key[:200],
            )
        self._acquire()
        try:
            write = self._write or self._writer()
            if self._room < 1:
                write = self._make_room()
            else:
                self._room -= 1
            write(key, value, timestamp, False)
        finally:
            self._release()

    # The end.

    def sync(self) -> None:
        """Make everything durable and the next open `clean`; nothing to do for a reader."""
        with self._lock:
            if self._closed:
                return
            self._check()
            if self._owns():
                # What a reader was not told of at its open is for the next open to tell.
                told = self._mode == "write" or self._session.generation == self._told
                self._session.settle(told=told)
                self._write = None

    def close(self) -> None:
        """Make everything durable and release the file; idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._lease = 0
            self._drop()
            self._nodes.close()
            if not self._session.forked:
                self._finalizer()

    def abandon_in_child(self) -> None:
        """After a fork, in the child: refuse from here on."""
        self._use_lock(threading.RLock())  # a thread left in the parent may hold the old one
        self._drop()
        self._session.abandon_in_child()
        self._nodes.abandon()

    def end_lease(self, number: int) -> bool:
        """Give the file back until the next call; for the lease keeper, whom nothing may delay."""
        if number != self._lease:
            return True
        if self._lock.acquire(blocking=False):
            try:
                if number == self._lease:
                    self._lease = 0
                    self._drop()
                    self._session.release()
            finally:
                self._lock.release()
            return True
        # Whoever holds the lock now, or next, renews the lease at the next call.
        self._handle = self._read = None
        return False

    def _use_lock(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._acquire = lock.acquire
        self._release = lock.release

    # Behind the hot path. All of it is called with the lock held.

    def _adopt(self) -> Handle:
        """Work with the handle that the session has opened or put in place."""
        session = self._session
        handle = session.handle
        assert handle is not None  # noqa: S101  # the session just opened it
        self._handle = handle
        self._read = _raw_get(handle, session.header().value_serializer)
        self._write = None
        self._room = sys.maxsize
        if session.gate.is_shut:
            buckets = session.header().n_buckets
            if buckets < MAX_BUCKETS:
                self._room = buckets - len(handle.file)
            # The newest finalizer runs first at exit, and must be ours, before Booklet's own.
            self._finalizer.detach()
            self._finalizer = weakref.finalize(self, session.finish)
        return handle

    def _drop(self) -> None:
        self._handle = self._read = self._write = None

    def _check(self) -> None:
        if self._session.forked:
            raise ForkedProcessError(
                f"{self.location} was opened before this process was forked: open it again here"
            )
        if self._closed:
            raise LocalFileError(f"{self.location} is closed: open it again")

    def _opened(self) -> Handle:
        handle = self._handle
        if handle is not None:
            return handle
        self._check()
        if self._owns():
            return self._adopt()
        return self._come_back(Waiting(self._clock, self._lock_timeout))

    def _come_back(self, waiting: Waiting) -> Handle:
        """As a reader, lease the file, in which others may have been meanwhile."""
        self._session.lease(waiting)
        try:
            self._guard()
        except BaseException:
            self._session.release()
            raise
        return self._start_lease()

    def _start_lease(self) -> Handle:
        self._leases += 1
        self._lease = self._leases
        KEEPER.watch(self, self._lease)
        return self._adopt()

    def _reader(self) -> _Read:
        while True:
            self._opened()
            read = self._read
            if read is not None:  # else the lease ended just now
                return read

    def _writer(self) -> _Write:
        """Booklet's set, after the mark was taken away; for a reader, one that borrows."""
        self._check()
        if not self._owns():
            return self._set_as_reader
        self._session.soil()
        self._write = self._opened().file.set
        return self._write

    def _set_as_reader(self, key: str, value: bytes, timestamp: int, _encode: bool) -> None:
        with self._writing():
            self.set(key, value, timestamp)

    def _make_room(self) -> _Write:
        """Count exactly; grow the index into a new file before Booklet would do it in place."""
        handle = self._opened()
        handle.file.sync()
        count = len(handle.file)
        buckets = self._session.header().n_buckets
        if buckets - count < max(1, buckets // 8):
            self._session.rebuild(n_buckets=buckets_for(count + 1))
            self._adopt()
            handle = self._opened()
        else:
            self._room = buckets - count
        self._room -= 1
        self._session.soil()
        self._write = handle.file.set
        return self._write

    def _owns(self) -> bool:
        return self._session.gate.is_shut

    def _borrow(self, timeout: float) -> None:
        """As a reader, become the writer."""
        self._lease = 0
        self._drop()
        self._session.borrow(Waiting(self._clock, timeout))
        self._adopt()

    def _become_writer(self, waiting: Waiting) -> None:
        self._lease = 0
        self._drop()
        self._session.release()
        self._condition = self._session.open_writer(waiting)  # on failure the next call leases
        self._mode = "write"
        self._told = self._session.generation
        self._adopt()

    def _give_back(self) -> None:
        """Be a reader again."""
        self._drop()
        self._room = sys.maxsize
        self._session.finish()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Handle]:
        """The handle, ready to be written to; for a reader, as a writer for this moment."""
        with self._lock:
            if self._owns():
                self._check()
                self._session.soil()
                yield self._opened()
                return
            with self.exclusive(self._lock_timeout):
                self._session.soil()
                yield self._opened()

    @contextlib.contextmanager
    def _writing_sidecar(self) -> Iterator[None]:
        with self._lock:
            self._check()
            if self._owns():
                yield
                return
            # Whoever writes now may be waiting for this lease, which nobody could end meanwhile.
            self._lease = 0
            self._drop()
            self._session.release()
            with self._session.borrowed_sidecar(Waiting(self._clock, self._lock_timeout)):
                yield


def _unguarded() -> None:
    """Let everything be read."""


def _raw_get(handle: Handle, value_serializer: int) -> _Read:
    """The quickest way to a value's bytes: Booklet's `get`, where that decodes nothing."""
    if serializer_name(value_serializer) in ("bytes", None):
        return handle.file.get
    read = handle.file.get_timestamp

    def get(key: str) -> bytes | None:
        entry = read(key, True, False)
        return None if entry is None else entry[1]

    return get


def _let_go() -> None:
    """In a forked child: make every inherited handle refuse, and leave the parent's locks alone."""
    for file in list(_OPEN):
        file.abandon_in_child()


_OPEN = weakref.WeakSet()
os.register_at_fork(after_in_child=_let_go)
