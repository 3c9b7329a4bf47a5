"""The folder beside a local file: the mark, slots and logs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias
from uuid import UUID

from ebooklet.adapters.localfiles.beside import folder_beside
from ebooklet.adapters.localfiles.boot import boot_id
from ebooklet.adapters.localfiles.files import (
    TEMPORARY,
    read_file,
    replace_file,
    sync_file,
    sync_folder,
    write_all,
)
from ebooklet.adapters.localfiles.flushed import (
    POSITION,
    Flushed,
    checked_state,
    decode_positions,
    decode_states,
    encode_states,
)
from ebooklet.errors import LocalFileError, ReadOnlyError

Carried: TypeAlias = Literal["edited", "crashed"] | None

_MARK: Final = "mark"
_UNFINISHED: Final = "mark.unfinished"
_SERIALIZER: Final = "serializer"
_BOOT: Final = "boot"
_FLUSHED: Final = "flushed"
_DEAD: Final = "dead"
_OF_THE_FILE: Final = (_SERIALIZER, _BOOT, _FLUSHED, _DEAD)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_MARK: Final = 4096
_MAX_FLUSHED: Final = 1 << 22
_MAX_STATE: Final = 1 << 31
_CREATE_OR_CUT: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Mark:
    """What the local file looked like when this library last had it in order."""

    size: int  # bytes
    mtime_ns: int
    uuid: UUID
    carried: Carried = None  # a finding that no writer has dealt with yet
    flushed: Flushed | None = None  # None where that tells nothing: a file in whole transactions

    def fits(self, stat: os.stat_result) -> bool:
        """Whether the file is still as it was."""
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(
            {
                "format": 1,
                "size": self.size,
                "mtime_ns": self.mtime_ns,
                "uuid": self.uuid.hex,
                "carried": self.carried,
                "flushed": self.flushed,
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes | None) -> Mark | None:
        """Read `encode`'s output; None for anything else."""
        try:
            found = json.loads(data or b"")
            size, mtime_ns, carried = found["size"], found["mtime_ns"], found["carried"]
            if found["format"] != 1 or carried not in ("edited", "crashed", None):
                return None
            if not (isinstance(size, int) and isinstance(mtime_ns, int)):
                return None
            state = found.get("flushed")  # missing in marks of earlier versions
            flushed = checked_state(state) if state is not None else None
            return cls(size, mtime_ns, UUID(hex=found["uuid"]), carried, flushed)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


class Sidecar:
    """The folder `<file>.ebk`. One writer at a time, which the caller sees to.

    `mark` exists while the file is in order; before the first write it is renamed to
    `mark.unfinished`, in one step, so that one of both always tells.
    """

    def __init__(self, location: Path) -> None:
        self.folder = folder_beside(location)
        self._location = location
        self._logs: dict[str, int] = {}  # descriptors of logs appended to
        self._unsynced: set[str] = set()
        self._start_noted = False

    def ensure(self) -> None:
        """Create the folder where it is missing.

        Raises:
            FileNotFoundError: the folder that holds the local file is missing.
            ReadOnlyError: it may not be written.
        """
        if not self._location.parent.is_dir():
            raise FileNotFoundError(
                f"the folder of {self._location} does not exist: create it first"
            )
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as exc:
            if exc.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise ReadOnlyError(
                f"{self._location.parent} may not be written: correct its permissions, or open "
                "with 'r'",
                op="open",
            ) from None
        self.refuse_link()

    def refuse_link(self) -> None:
        """Refuse a folder that leads elsewhere: what lies there may be anybody's.

        Raises:
            LocalFileError: it is a symbolic link.
        """
        if self.folder.is_symlink():
            raise LocalFileError(
                f"{self.folder} is a symbolic link: remove it, EBooklet keeps its state there",
                op="open",
            )

    # The mark.

    def mark(self) -> Mark | None:
        """The mark of a file in order."""
        return Mark.decode(self._small(_MARK))

    def unfinished(self) -> tuple[bool, Mark | None]:
        """Whether a writer started and did not finish, and the mark from before it, if any."""
        data = self._small(_UNFINISHED)
        return data is not None, Mark.decode(data)

    def begin(self) -> None:
        """Note that the file is about to change; no matter whether that was noted already.

        Durable: after a power cut, too, no write may be found under a mark from before it.
        """
        try:
            (self.folder / _MARK).rename(self.folder / _UNFINISHED)
            self.note_start()
            sync_folder(self.folder)
        except FileNotFoundError:
            if not (self.folder / _UNFINISHED).exists():
                replace_file(self.folder / _UNFINISHED, b"", self.folder)

    def disown(self) -> None:
        """After `begin`, have the unfinished mark say nothing of the file, nor whose it is."""
        replace_file(self.folder / _UNFINISHED, b"", self.folder)

    def finish(self, mark: Mark) -> None:
        """Note that the file is in order."""
        replace_file(self.folder / _MARK, mark.encode(), self.folder)
        (self.folder / _UNFINISHED).unlink(missing_ok=True)

    # What was flushed.

    def note_start(self) -> None:
        """Note that what is not flushed was written since this start of the system.

        To be called only where nothing from before it is left. Not durable, as it need not outlive it.
        """
        if not self._start_noted:
            fd = os.open(self.folder / _BOOT, _CREATE_OR_CUT, 0o666)
            try:
                write_all(fd, boot_id().encode())
            finally:
                os.close(fd)
            self._start_noted = True

    def lost_power(self) -> bool:
        """Whether the system was started anew since a writer began; False where none can tell."""
        now = boot_id()
        return bool(now) and self._small(_BOOT) != now.encode()

    def flushed(self, inode: int) -> Flushed | None:
        """The newest state of a file that was flushed; None when none is known."""
        known = self._states()
        return max((state for state in known if state.inode == inode), default=None)

    def next_serial(self) -> int:
        """A number greater than those of all states so far."""
        return 1 + max((state.serial for state in self._states()), default=0)

    def will_publish(self, state: Flushed) -> None:
        """Note the state of a file that will take the place of the present one; durable."""
        states = sorted([*decode_states(self._small(_FLUSHED, _MAX_FLUSHED)), state])[-2:]
        replace_file(self.folder / _FLUSHED, encode_states(states), self.folder)

    def dead_list(self) -> tuple[int, int]:
        """Which list of dead blocks is there, and its bytes; zeros if none."""
        try:
            fd = os.open(self.folder / _DEAD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return 0, 0
        try:
            return _list_in(fd)
        finally:
            os.close(fd)

    def append_dead(self, data: bytes) -> tuple[int, int]:
        """Append to the list of dead blocks, durably; return what `dead_list` would."""
        path = self.folder / _DEAD
        if self.dead_list() == (0, 0):  # none, or one that was cut
            self.replace_dead(b"", self.next_serial())
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if data:
                write_all(fd, data)
                os.fsync(fd)
            return _list_in(fd)
        finally:
            os.close(fd)

    def replace_dead(self, data: bytes, number: int) -> None:
        """Put another list of dead blocks in place, durably; states of the old one know none."""
        replace_file(self.folder / _DEAD, POSITION.pack(number) + data, self.folder)

    def forget_dead(self) -> None:
        """Have no list of dead blocks, which needs no room: states of the old one know none."""
        (self.folder / _DEAD).unlink(missing_ok=True)

    def dead_of(self, state: Flushed) -> frozenset[int] | None:
        """Positions of the blocks that were dead in a state; None when they are not known."""
        if not state.dead:
            return frozenset(state.more)
        data = self._small(_DEAD, _MAX_STATE) or b""
        listed = data[POSITION.size :]
        if data[: POSITION.size] != POSITION.pack(state.listed) or len(listed) < state.dead:
            return None
        try:
            return decode_positions(listed[: state.dead]).union(state.more)
        except ValueError:
            return None

    def _states(self) -> list[Flushed]:
        states = decode_states(self._small(_FLUSHED, _MAX_FLUSHED))
        for mark in (self.mark(), self.unfinished()[1]):
            if mark is not None and mark.flushed is not None:
                states.append(mark.flushed)
        return states

    def _small(self, name: str, limit: int = _MAX_MARK) -> bytes | None:
        """The bytes of a file in the folder; one that cannot be read is no proof of anything."""
        try:
            return read_file(self.folder / name, limit)
        except LocalFileError:
            return None

    def purge(self) -> None:
        """Forget slots, logs and marks: they belong to another database."""
        self.close()
        self._start_noted = False
        for path in self.folder.iterdir():
            if path.name.startswith(("slot.", "log.", TEMPORARY)) or path.name in _OF_THE_FILE:
                path.unlink(missing_ok=True)
        # Last: as long as a mark is there, its uuid makes the next open repeat the purge.
        for name in (_MARK, _UNFINISHED):
            (self.folder / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove unfinished files that a killed writer left."""
        for path in self.folder.glob(TEMPORARY + "*"):
            path.unlink(missing_ok=True)

    # Slots and logs.

    def state(self) -> frozenset[tuple[str, int, int, int]]:
        """What tells whether slots or logs were changed: names, inodes, sizes and times."""
        found = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.startswith(("slot.", "log.")):
                        stat = entry.stat(follow_symlinks=False)
                        found.append((entry.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            pass  # no folder, or a file was replaced just now: the next look will show
        return frozenset(found)

    def serializer(self) -> str | None:
        """Name of a serializer that Booklet has no number for."""
        data = read_file(self.folder / _SERIALIZER, 1000)
        return data.decode("utf-8", "replace") if data else None

    def set_serializer(self, name: str) -> None:
        """Note the name of a serializer that Booklet has no number for."""
        replace_file(self.folder / _SERIALIZER, name.encode(), self.folder)

    def read_slot(self, name: str) -> bytes | None:
        """Content of a slot."""
        return read_file(self._path("slot", name), _MAX_STATE)

    def write_slot(self, name: str, data: bytes | None) -> None:
        """Replace or remove a slot, durably."""
        path = self._path("slot", name)
        if data is None:
            path.unlink(missing_ok=True)
        else:
            replace_file(path, data, self.folder)

    def read_log(self, name: str) -> bytes:
        """Content of a log; empty when there is none."""
        return read_file(self._path("log", name), _MAX_STATE) or b""

    def append_log(self, name: str, data: bytes) -> None:
        """Append; with the system when it returns."""
        fd = self._logs.get(name)
        if fd is None:
            fd = self._logs[name] = os.open(self._path("log", name), _APPEND, 0o666)
        self._unsynced.add(name)
        write_all(fd, data)

    def replace_log(self, name: str, data: bytes) -> None:
        """Replace a log, durably."""
        path = self._path("log", name)
        replace_file(path, data, self.folder)
        self._unsynced.discard(name)
        fd = self._logs.pop(name, None)
        if fd is not None:
            os.close(fd)

    def sync_logs(self) -> None:
        """Make what was appended durable."""
        while self._unsynced:
            name = next(iter(self._unsynced))
            with contextlib.suppress(FileNotFoundError):
                sync_file(self._path("log", name))
            self._unsynced.discard(name)

    def close(self) -> None:
        """Close the logs; idempotent."""
        while self._logs:
            os.close(self._logs.popitem()[1])
        self._unsynced.clear()

    def _path(self, kind: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise LocalFileError(
                f"{name!r} cannot name a {kind}: use letters, digits, '.', '_' and '-'", op=kind
            )
        return self.folder / f"{kind}.{name}"


def _list_in(fd: int) -> tuple[int, int]:
    """Number and bytes of an open list of dead blocks; it is not read, as it may be long."""
    head, size = os.pread(fd, POSITION.size, 0), os.fstat(fd).st_size
    if len(head) < POSITION.size or size > _MAX_STATE:
        return 0, 0
    return POSITION.unpack(head)[0], size - POSITION.size
