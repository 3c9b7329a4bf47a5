"""The hot path to a Booklet: its own `get` and `set`, behind a lock."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, TypeAlias

from ebooklet.adapters.local.booklet.handles import Handle
from ebooklet.adapters.local.booklet.layout import MAX_BUCKETS
from ebooklet.adapters.local.booklet.lookup import direct_read, mapped_reads
from ebooklet.adapters.local.booklet.rebuild import buckets_for
from ebooklet.adapters.local.booklet.session import Creation, Session
from ebooklet.adapters.localfiles.shared import SharedFile
from ebooklet.errors import UnsupportedOperation
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import Mode

_Write: TypeAlias = Callable[[str, bytes, int, bool], None]

# One write moves less than 2 GiB, and Booklet takes what was not written for written.
_MAX_VALUE: Final = (2 << 30) - (1 << 20)


class BookletFileAccess(SharedFile[Handle, Creation]):
    """The hot path to a Booklet; see the shared file for how threads and processes share it."""

    _session: Session

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
        self._room = sys.maxsize  # sets until the index may be full; exact when it was computed
        super().__init__(
            Session(location, clock=clock, buffer_size=buffer_size),
            mode=mode,
            creation=creation,
            replace=replace,
            lock_timeout=lock_timeout,
            clock=clock,
        )

    # The hot path.

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
            self._room -= 1
            write(key, value, timestamp, False)
        except BaseException as exc:
            self._doubt(exc)
            raise
        finally:
            self._release()

    # Behind the hot path. All of it is called with the lock held.

    def _adopt(self) -> Handle:
        """Work with the handle that the session has opened or put in place."""
        session = self._session
        session.mend()
        handle = session.handle
        assert handle is not None  # noqa: S101  # the session just opened it
        handle.check()
        handle.on_failure(self._drop)
        header = session.header()
        self._write = self._read_many = None
        self._room = sys.maxsize
        if not session.gate.is_shut:
            self._read, self._read_many = mapped_reads(handle.fd, header)
        else:
            self._read = direct_read(handle, header)
            if header.n_buckets < MAX_BUCKETS:
                self._room = header.n_buckets - len(handle.file) - len(handle.buffered or ())
            # The newest finalizer runs first at exit, and must be ours, before Booklet's own.
            earlier, self._finalizer = (
                self._finalizer,
                weakref.finalize(self, session.finish_unasked),
            )
            earlier.detach()
        self._handle = handle  # last, or after an interrupt it would be there without a way to read
        return handle

    def _drop(self) -> None:
        super()._drop()
        self._room = sys.maxsize

    def _doubt(self, exc: BaseException) -> None:
        """Have the file mended before its next use if a change to it was left half done."""
        handle = self._session.handle
        if handle is not None:
            handle.changing.__exit__(type(exc), exc, None)

    def _rebuild(
        self, *, n_buckets: int = 0, skip: Collection[str] = (), clear: bool = False
    ) -> None:
        """Have the session write the file anew."""
        self._drop()  # first: whenever an interrupt comes, the next call goes on with the new file
        self._session.rebuild(n_buckets=n_buckets, skip=skip, clear=clear)
        self._adopt()

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
        handle.flush()
        count = len(handle.file)
        buckets = self._session.header().n_buckets
        if buckets - count < max(1, buckets // 8):
            self._rebuild(n_buckets=buckets_for(count + 1))
            handle = self._opened()
        else:
            self._room = buckets - count
        self._session.soil()
        self._write = handle.file.set
        return self._write
