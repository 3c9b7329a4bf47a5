"""One handle of a local file, shared by threads: leases, borrowing, and what lies beside the file."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar
from uuid import UUID

from ebooklet.adapters.localfiles.diskfailures import explained
from ebooklet.adapters.localfiles.finding import is_there
from ebooklet.adapters.localfiles.gate import Waiting
from ebooklet.adapters.localfiles.leases import KEEPER
from ebooklet.adapters.localfiles.nodecache import NodeCache
from ebooklet.adapters.localfiles.session import FileSession, OpenFile
from ebooklet.errors import ForkedProcessError, LocalFileError, LockTimeout
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import Condition, Mode

H = TypeVar("H", bound=OpenFile)
C = TypeVar("C")
Read: TypeAlias = Callable[[str], bytes | None]
# Of some keys up to so many bytes of values, or one value more: timestamps (µs) and values.
ReadMany: TypeAlias = Callable[[Sequence[str], int], list[tuple[int, bytes] | None]]
_OPEN: Final = weakref.WeakSet["SharedFile[Any, Any]"]()


class SharedFile(ABC, Generic[H, C]):
    """The file as threads share it: opened, leased or borrowed as each call needs it.

    Threads are kept apart by one lock. A writer holds the file until `close`. A reader holds it
    for a second at a time and becomes the writer for a moment where it has to write.

    A store found `edited` or `crashed` stays so for the next open until `sync` is called: `close`
    alone keeps the finding, so that an open that failed half-way cannot swallow edits.

    Type parameters: the file as it is open, and how to make one.
    """

    def __init__(
        self,
        session: FileSession[H, C, Any],
        *,
        mode: Mode,
        creation: C | None,
        replace: bool,
        lock_timeout: float,
        clock: Clock,
    ) -> None:
        self._use_lock(threading.RLock())
        self._mode = mode
        self._clock = clock
        self._lock_timeout = lock_timeout
        self._closed = False
        self._leases = 0  # begun so far
        self._lease = 0  # number of the one that runs
        self._borrows = 0  # nested `exclusive` blocks of a reader
        self._guard: Callable[[], object] = _unguarded
        self._handle: H | None = None
        self._read: Read | None = None  # by which the open file is read, while it is
        self._read_many: ReadMany | None = None  # the same, for those kinds that have it
        self._write: Callable[..., None] | None = None  # likewise, once the mark was taken away
        self._deletions = 0  # grows whenever keys go, so that snapshots look again
        self._session = session
        self._nodes = NodeCache(session.sidecar.folder / "nodes")
        waiting = Waiting(clock, lock_timeout)
        self._finalizer = weakref.finalize(self, session.finish_unasked)
        _OPEN.add(self)
        if mode == "write":
            self._condition = session.open_writer(waiting, creation, replace=replace)
            self._adopt()
        else:
            created = None
            if replace or (creation is not None and not is_there(session.location)):
                created = session.open_writer(waiting, creation, replace=replace)
                session.finish()
            with self._lock:  # or on a busy machine the lease has ended before it is used
                self._condition = session.lease(waiting)
                self._start_lease()
            self._condition = created or self._condition
        self._told = session.generation

    # What is peculiar to a kind of file.

    @abstractmethod
    def contains(self, key: str) -> bool:
        """Whether the key is there."""

    @abstractmethod
    def _adopt(self) -> H:
        """Work with the handle that the session has opened or put in place, and return it."""

    # The hot path.

    def get(self, key: str) -> bytes | None:
        """The value, or None when the key is absent."""
        # Bound methods: `with` on a lock takes twice as long, and this is the hottest path.
        self._acquire()
        try:
            return (self._read or self._reader())(key)
        finally:
            self._release()

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

    # Slots, logs, nodes.

    def read_slot(self, name: str) -> bytes | None:
        """Content of a slot, or None."""
        self._check()
        return self._session.sidecar.read_slot(name)

    def write_slot(self, name: str, data: bytes | None) -> None:
        """Replace a slot atomically and durably; None removes it."""
        with self._writing_sidecar():
            self._session.sidecar.write_slot(name, data)

    def read_log(self, name: str) -> bytes:
        """Content of a log; empty when there is none."""
        self._check()
        return self._session.sidecar.read_log(name)

    def append_log(self, name: str, data: bytes) -> None:
        """Append; survives a SIGKILL at once and a power cut after the next `sync`."""
        with self._writing_sidecar():
            self._session.sidecar.append_log(name, data)

    def replace_log(self, name: str, data: bytes) -> None:
        """Replace a log's whole content atomically and durably."""
        with self._writing_sidecar():
            self._session.sidecar.replace_log(name, data)

    def cached_nodes(self, refs: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Those of the nodes that are still there; to be verified."""
        self._check()
        return self._nodes.get(refs)

    def cache_nodes(self, nodes: Mapping[bytes, bytes]) -> None:
        """Remember nodes; failures are silent."""
        self._check()
        self._nodes.put(nodes)

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
                self._write = None  # the next one takes the mark away, which was left just now

    def close(self) -> None:
        """Make everything durable and release the file; idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._lease = 0
            self._drop()
            self._nodes.close()
            self._finalizer.detach()
            self._session.finish()

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
        self._handle = self._read = self._read_many = None
        return False

    def _use_lock(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._acquire = lock.acquire
        self._release = lock.release

    # Behind it. All of it is called with the lock held.

    def _drop(self) -> None:
        """Forget the handle, and all that leads to it."""
        self._handle = self._read = self._read_many = self._write = None

    def _reader(self) -> Read:
        while True:
            self._opened()
            read = self._read
            if read is not None:  # else the lease ended just now
                return read

    def _is_still_there(self, key: str, deletions: int) -> bool:
        return self._deletions == deletions or self.contains(key)

    def _check(self) -> None:
        if self._session.forked:
            raise ForkedProcessError(
                f"{self.location} was opened before this process was forked: open it again here"
            )
        if self._closed:
            raise LocalFileError(f"{self.location} is closed: open it again")

    def _opened(self) -> H:
        handle = self._handle
        if handle is not None:
            return handle
        self._check()
        if self._owns():
            return self._adopt()
        return self._come_back(Waiting(self._clock, self._lock_timeout))

    def _come_back(self, waiting: Waiting) -> H:
        """As a reader, lease the file, in which others may have been meanwhile."""
        self._session.lease(waiting)
        try:
            self._guard()
        except BaseException:
            self._session.release()
            raise
        return self._start_lease()

    def _start_lease(self) -> H:
        self._leases += 1
        self._lease = self._leases
        KEEPER.watch(self, self._lease)
        return self._adopt()

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
        self._session.finish()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[H]:
        """The handle, ready to be written to; for a reader, as a writer for this moment."""
        with self._lock:
            if self._owns():
                self._check()
                with explained(self._session.location):
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
                try:
                    with explained(self._session.location):
                        yield
                except BaseException:
                    self._session.unlogged = True
                    raise
                return
            # Whoever writes now may be waiting for this lease, which nobody could end meanwhile.
            self._lease = 0
            self._drop()
            self._session.release()
            with self._session.borrowed_sidecar(Waiting(self._clock, self._lock_timeout)):
                yield


def _unguarded() -> None:
    """Let everything be read."""


def _let_go() -> None:
    """In a forked child: make every inherited handle refuse, and leave the parent's locks alone."""
    for file in list(_OPEN):
        file.abandon_in_child()


os.register_at_fork(after_in_child=_let_go)
