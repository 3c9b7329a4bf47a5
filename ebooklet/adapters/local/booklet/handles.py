"""Handles of the booklet package, opened without waiting and made harmless in forked children.

Booklet, closed or collected in a child, marks the header and frees the parent's lock, since a
forked child shares its parent's open file. So every handle is known here, and the child's
descriptors are pointed elsewhere before any of its code runs.
"""

from __future__ import annotations

import io
import mmap
import os
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Protocol, cast
from weakref import WeakMethod, WeakSet, finalize

import booklet

from ebooklet.adapters.local.booklet.layout import (
    BLOCK_BYTES,
    BLOCK_HEADER,
    COUNT_AT,
    DEAD,
    HASH_BYTES,
    POINTER_BYTES,
    RESERVED,
)
from ebooklet.adapters.localfiles.beside import file_of
from ebooklet.adapters.localfiles.diskfailures import told
from ebooklet.adapters.localfiles.files import write_rest
from ebooklet.errors import EBookletError, LocalFileError

# Held over a fork, so that no handle is half known; reentrant, as collecting garbage closes handles.
_FORKING: Final = threading.RLock()
_OPEN: WeakSet[Handle]
# Attributes of Booklet's own: what `len` returns, and where `get` looks first.
_COUNT: Final = "_n_keys"
_BUFFERED: Final = "_buffer_index_set"
_BLOCKS: Final = "_buffer_data"
_LINKS: Final = "_buffer_index"
# What Booklet raises before it changes anything, and what is dealt with where it is raised. Whatever
# else comes out of it, such as an interrupt, may have come between two of its steps.
_WHOLE: Final = (OSError, LookupError, ValueError, TypeError, OverflowError, EBookletError)


def unforked() -> AbstractContextManager[object]:
    """Have forks in other threads wait until the end of the context."""
    return _FORKING


class RawBytes:
    """Stands in for serializers that Booklet does not know; values are never decoded here."""

    @staticmethod
    def dumps(obj: bytes) -> bytes:
        """Return the bytes."""
        return obj

    @staticmethod
    def loads(data: bytes) -> bytes:
        """Return the bytes."""
        return data


class BookletFile(Protocol):
    """What is used of `booklet.VariableLengthValue`."""

    def get(self, key: str) -> bytes | None: ...  # noqa: D102

    def get_timestamp(  # noqa: D102  # Booklet's own, as are the others
        self, key: str, include_value: bool = ..., decode_value: bool = ...
    ) -> tuple[int, bytes] | None: ...

    def set(self, key: str, value: bytes, timestamp: int, encode_value: bool = ...) -> None: ...  # noqa: D102

    def set_metadata(self, data: object, timestamp: int) -> None: ...  # noqa: D102

    def set_reserved(self, slot: int, data: bytes, timestamp: int) -> None: ...  # noqa: D102

    def get_reserved(self, slot: int, include_timestamp: bool) -> tuple[bytes, int] | None: ...  # noqa: D102

    def sync(self) -> None: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102

    def __contains__(self, key: object) -> bool: ...

    def __delitem__(self, key: str) -> None: ...

    def __len__(self) -> int: ...


class Handle:
    """An open Booklet and the descriptor of its file."""

    __slots__ = ("__weakref__", "_writes", "changing", "fd", "file")

    def __init__(self, file: BookletFile, path: Path) -> None:
        self._writes = _have_all_written(file, path)
        self.changing = _Changing(self._writes)  # context of Booklet's changes to the file
        self.file = file
        self.fd = next(_descriptors(file))

    @property
    def can_count(self) -> bool:
        """Whether Booklet keeps the number of its keys where `count` puts it."""
        return vars(self.file).get(_COUNT) == len(self.file)

    def count(self, n_keys: int) -> None:
        """Tell Booklet, and the header, how many keys the file has."""
        setattr(self.file, _COUNT, n_keys)
        os.pwrite(self.fd, n_keys.to_bytes(4, "little"), COUNT_AT)

    @property
    def buffered(self) -> set[bytes] | None:
        """Hashes of the keys that Booklet has not written yet; None if it keeps them elsewhere."""
        found = vars(self.file).get(_BUFFERED)
        return found if isinstance(found, set) else None

    @property
    def killed(self) -> array[int] | None:
        """Positions of the blocks marked dead since the list was cleared; None if nobody knows."""
        return None if self._writes is None else self._writes.killed

    def fail(self, exc: OSError) -> None:
        """Refuse all reads and writes from now on: a change in place was made only in part.

        Booklet would begin anew with the first of its changes, and take the new blocks for old.
        """
        if self._writes is not None:
            self._writes.fail(exc)

    def on_failure(self, call: Callable[[], object]) -> None:
        """Have a method called when a change in place fails, as long as its object lives."""
        if self._writes is not None:
            self._writes.on_failure = WeakMethod(call)

    def check(self) -> None:
        """Raise `LocalFileError` if a change in place has failed."""
        if self._writes is not None:
            self._writes.check()

    @property
    def in_doubt(self) -> bool:
        """Whether a change was left between two of its steps, and not mended since."""
        return self._writes is not None and self._writes.in_doubt

    def doubt(self) -> None:
        """Have nothing be read or written until the session has mended what may be half done."""
        if self._writes is not None:
            self._writes.doubt()

    def take_back(self) -> list[tuple[str, bytes, int]]:
        """Empty the buffers of a Booklet in doubt, and the file of what they have written.

        Returns:
            The items that were in them, in order. They stay known until `trust`.
        """
        writes = self._writes
        if writes is None:
            return []
        parts = vars(self.file)
        blocks, links, hashes = (parts.get(name) for name in (_BLOCKS, _LINKS, _BUFFERED))
        if isinstance(blocks, bytearray) and isinstance(links, bytearray) and hashes is not None:
            if blocks and links:  # nothing leads to them: Booklet clears the blocks before it links
                begin = int.from_bytes(links[HASH_BYTES : HASH_BYTES + POINTER_BYTES], "little")
                if begin < os.fstat(self.fd).st_size:
                    os.ftruncate(self.fd, begin)
            writes.rescued = writes.rescued or list(_items(bytes(blocks)))
            for buffer in (blocks, links, hashes):
                buffer.clear()
        return writes.rescued

    def trust(self, n_keys: int) -> None:
        """Go on with a file that was found sound, with so many keys."""
        self.count(n_keys)
        if self._writes is not None:
            self._writes.trust()

    def forget_rescued(self) -> None:
        """Forget what was taken back, which was written by now."""
        if self._writes is not None:
            self._writes.rescued = []

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self.check()
        with self.changing:
            self.file.sync()

    def abandon(self) -> None:
        """Close the file as it is; its header says that it was not closed in order."""
        with _FORKING:
            _OPEN.discard(self)
            for finalizer in _finalizers(self.file):
                finalizer()

    def close(self) -> None:
        """Write what is buffered and close; idempotent.

        Raises:
            OSError: not all could be written, as on a full disk; it is closed nevertheless, and
                the header says that it was not closed in order.
        """
        try:
            self.check()
            self.file.sync()
        except BaseException:
            # Booklet's own would try again, fail again, and keep the file and its lock.
            self.abandon()
            raise
        with _FORKING:
            _OPEN.discard(self)
            self.file.close()


_OPEN = WeakSet()


def open_handle(
    path: Path,
    flag: Literal["r", "w", "n"],
    *,
    buffer_size: int,
    header: bytes | None = None,
) -> Handle | None:
    """Open a Booklet whose header was found good.

    Args:
        path: the file.
        flag: to read, to write, or to create.
        buffer_size: bytes that Booklet buffers of writes.
        header: with "n", the 200 bytes to begin with.

    Returns:
        None when another program holds the file.
    """
    with _FORKING:
        try:
            file = booklet.open(
                path,
                flag,
                key_serializer="str",
                value_serializer=RawBytes,
                buffer_size=buffer_size,
                init_bytes=header,
                timeout=0,
            )
        except booklet.LockTimeoutError:
            return None
        handle = Handle(cast("BookletFile", file), path)
        _OPEN.add(handle)
        return handle


def new_header(value_serializer: int) -> bytes:
    """The header that Booklet gives a new file, with one bucket."""
    names = booklet.available_serializers
    buffer = io.BytesIO()
    file = booklet.open(
        buffer,
        "n",
        key_serializer="str",
        value_serializer=names[value_serializer - 1] if value_serializer else RawBytes,
        n_buckets=1,
    )
    header = buffer.getvalue()[:200]
    file.close()
    return header


def serializer_number(name: str) -> int:
    """Booklet's number of a serializer; 0 when it has none of that name."""
    known = booklet.available_serializers
    if name == "bytes":
        return 1  # written as None, which every version of Booklet reads
    return known.index(name) + 1 if name in known else 0


def serializer_name(number: int) -> str | None:
    """Our name of a serializer that Booklet has a number for; None when it has not."""
    known = booklet.available_serializers
    if not 0 < number <= len(known):
        return None
    return known[number - 1] or "bytes"


class _WholeWrites(io.FileIO):
    """The file under a Booklet, which takes what was not written for written.

    On a disk that has no room left, values would be cut off without a word, and others be appended
    to what is there of them.

    The position is kept here and given with each read and write, and what was there at the open, the
    index above all, is read through a map: Booklet seeks and reads a few bytes for each key.
    """

    def __init__(self, file: io.FileIO, path: Path) -> None:
        super().__init__(file.fileno(), "r+b", closefd=False)
        self.killed = array("Q")  # positions of blocks marked dead
        self.on_failure: WeakMethod[Callable[[], object]] | None = None
        self.in_doubt = False
        self.rescued: list[tuple[str, bytes, int]] = []  # from the buffers of one in doubt
        self._failed: str | None = None  # why nothing may be written
        self._location = file_of(path)
        self._owner = file  # Booklet's finalizer knows it, and it closes the descriptor
        self._fd = file.fileno()
        self._at = file.tell()
        self._map = mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)
        self._mapped = len(self._map)  # bytes; the file never becomes smaller while it is open

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            position = super().seek(position, whence)
        elif whence == os.SEEK_CUR:
            position += self._at
        self._at = position
        return position

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = max(0, os.fstat(self._fd).st_size - self._at)
        begin, end = self._at, self._at + size
        data = self._map[begin:end] if end <= self._mapped else os.pread(self._fd, size, begin)
        self._at += len(data)
        return data

    def write(self, data: bytes | bytearray) -> int:  # type: ignore[override]  # what it is given
        if self._failed is not None:
            self.check()
        if data == DEAD:
            self.killed.append(self._at - HASH_BYTES)
        try:
            done = os.pwrite(self._fd, data, self._at)
            if done < len(data):
                super().seek(self._at + done)
                write_rest(self._fd, data, done)
        except OSError as exc:
            if len(data) <= POINTER_BYTES:  # blocks are longer, and are appended
                self.fail(exc)
            failure = told(exc, self._location)
            if failure is exc:
                raise
            raise failure from exc
        self._at += len(data)
        return len(data)

    def fail(self, exc: OSError) -> None:
        self.in_doubt = False
        self._stop(str(exc.strerror))

    def doubt(self) -> None:
        if self._failed is None:
            self.in_doubt = True
            self._stop("interrupted")

    def trust(self) -> None:
        self._failed = None
        self.in_doubt = False

    def _stop(self, why: str) -> None:
        self._failed = why
        call = None if self.on_failure is None else self.on_failure()
        if call is not None:
            call()

    def check(self) -> None:
        if self._failed is not None:
            raise LocalFileError(
                f"{self._location} could not be changed in place ({self._failed}): close it "
                "and open it again, which repairs it",
                op="sync",
            )

    def truncate(self, size: int | None = None) -> int:
        return super().truncate(self._at if size is None else size)

    def close(self) -> None:
        super().close()
        self._map.close()
        self._owner.close()


class _Changing:
    """A context in which Booklet changes the file, which is in doubt where it does not finish that.

    Python raises `KeyboardInterrupt` between any two of Booklet's steps: blocks written and not linked,
    a block killed that the chain still leads through, keys that are not counted.
    """

    __slots__ = ("_writes",)

    def __init__(self, writes: _WholeWrites | None) -> None:
        self._writes = writes  # not the handle: it is closed when the last reference goes

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self._writes is not None and not issubclass(kind, _WHOLE):
            self._writes.doubt()


def _items(blocks: bytes) -> Iterator[tuple[str, bytes, int]]:
    """What blocks say that lie one after another, but for those of reserved keys."""
    at = 0
    while at < len(blocks):
        _, _, key_bytes, value_bytes, stamp = BLOCK_HEADER.unpack_from(blocks, at)
        value_at = at + BLOCK_BYTES + key_bytes
        key = blocks[at + BLOCK_BYTES : value_at]
        at = value_at + value_bytes
        if key not in RESERVED:
            yield key.decode(), blocks[value_at:at], int.from_bytes(stamp, "little")


def _have_all_written(file: BookletFile, path: Path) -> _WholeWrites | None:
    """Put `_WholeWrites` under a Booklet that writes, whatever it calls its file."""
    writes = None
    for name, value in list(vars(file).items()):
        if isinstance(value, io.FileIO):
            writes = _WholeWrites(value, path)
            setattr(file, name, writes)
    return writes


def _finalizers(file: BookletFile) -> list[finalize[..., object]]:
    """What closes a Booklet's file when it is forgotten."""
    return [value for value in vars(file).values() if isinstance(value, finalize)]


def _descriptors(file: BookletFile) -> Iterator[int]:
    """Descriptors of the files a Booklet holds open, whatever it calls them."""
    for value in vars(file).values():
        if isinstance(value, io.IOBase) and not value.closed:
            yield value.fileno()


def _divert() -> None:
    """In a forked child: let the parent's descriptors lead nowhere."""
    handles = list(_OPEN)
    _OPEN.clear()
    if handles:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for handle in handles:
            os.dup2(nowhere, handle.fd, inheritable=False)
        os.close(nowhere)
    _FORKING.release()


os.register_at_fork(
    before=_FORKING.acquire, after_in_parent=_FORKING.release, after_in_child=_divert
)
