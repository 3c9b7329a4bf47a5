"""A disk that loses what was not flushed: what a program wrote is recorded, and dropped in part.

The recorder sees each call of `os` that changes a folder, and finds what came by other ways (maps,
libraries in C) as a difference at the next one. A power cut after any of these steps leaves what was
flushed, and of the rest any part: of each sector some version since the flush, of each name likewise,
as file systems promise no more; the sizes and times of files are kept or lost on their own.

Source: Pillai et al., "All File Systems Are Not Created Equal" (ALICE), OSDI 2014, §3; Mohan et al.,
"Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing" (CrashMonkey), OSDI 2018, §5.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Way: TypeAlias = Literal["all", "none", "some", "but one", "only one"]
_VERSIONS: Final = 24  # of a file that are told apart in one crash
_UNSEEN: Final = ("nodes", "nodes-journal", "lock")  # may vanish or lie at any time; only a lock
_CHANGING: Final = (
    *("open", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "utime", "fchmod", "close"),
    *("rename", "replace", "unlink", "remove", "mkdir", "link"),
)


class Step(NamedTuple):
    """One change of the disk, or one flush."""

    kind: Literal[
        "whole", "write", "size", "time", "flush", "name", "gone", "move", "folder", "flush names"
    ]
    file: int = 0  # number of the file
    at: int = 0  # byte position, size or time
    data: bytes = b""
    path: str = ""  # relative to the folder
    target: str = ""


class Disk:
    """The steps of everything that is done in a folder while it is being recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[Step] = []
        self.inodes: dict[int, int] = {}  # number of a file -> inode
        self._numbers: dict[int, int] = {}  # inode -> number of the file
        self._contents: dict[int, bytes] = {}
        self._times: dict[int, int] = {}
        self._names: dict[str, int] = {}
        self._folders: set[str] = {""}
        self._lossless: Callable[[bytes], bool] = lambda _: False
        self._each: Callable[[], object] = lambda: None
        self._busy = False

    @contextmanager
    def recording(
        self, each: Callable[[], object], *, lossless: Callable[[bytes], bool] = lambda _: False
    ) -> Iterator[None]:
        """Record what this process does in the folder.

        Args:
            each: called with each step, to note what else is so by then.
            lossless: whether a file, by its first bytes, is in the care of a library whose own
                promises are taken over: what it writes is whole, in order and flushed.
        """
        self._lossless, self._each = lossless, each
        originals = {name: getattr(os, name) for name in _CHANGING}
        for name, original in originals.items():
            setattr(os, name, self._seen(name, original))
        try:
            yield
            self._look()
        finally:
            for name, original in originals.items():
                setattr(os, name, original)

    def _seen(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._busy:
                return original(*args, **options)
            if name in ("fsync", "fdatasync", "rename", "replace"):
                self._look()  # what came by other ways since the last call
            flushed = self._flushed(args[0]) if name in ("fsync", "fdatasync") else None
            result = original(*args, **options)
            if name in ("rename", "replace"):
                self._moved(*(os.path.relpath(path, self.folder) for path in args[:2]))
            self._look()
            if flushed is not None:
                self.steps.append(flushed)
            return result

        return call

    def _flushed(self, fd: int) -> Step | None:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            path = Path(f"/proc/self/fd/{fd}").readlink()
            if not path.is_relative_to(self.folder):
                return None
            return Step("flush names", path=_plain(path.relative_to(self.folder)))
        number = self._numbers.get(found.st_ino)
        return None if number is None else Step("flush", number)

    def _moved(self, source: str, target: str) -> None:
        if source in self._names:
            number = self._names[target] = self._names.pop(source)
            self.steps.append(Step("move", number, path=source, target=target))

    def _look(self) -> None:
        self._busy = True
        try:
            self._each()
            self._compare()
        finally:
            self._busy = False

    def _compare(self) -> None:
        found: dict[str, os.stat_result] = {}
        for place in self.folder.rglob("*"):
            path = str(place.relative_to(self.folder))
            if place.is_dir():
                if path not in self._folders:
                    self._folders.add(path)
                    self.steps.append(Step("folder", path=path))
            elif place.name not in _UNSEEN:
                found[path] = place.stat()
        alive = {one.st_ino for one in found.values()}
        for inode in [known for known in self._numbers if known not in alive]:
            del self._numbers[inode]  # the system may use it again
        for path in [name for name in self._names if name not in found]:
            del self._names[path]
            self.steps.append(Step("gone", path=path))
        for path, seen in found.items():
            number = self._numbers.get(seen.st_ino)
            if number is None:
                number = self._numbers[seen.st_ino] = len(self.inodes) + 1
                self.inodes[number] = seen.st_ino
                self._contents[number], self._times[number] = b"", 0
            if self._names.get(path) != number:
                self._names[path] = number
                self.steps.append(Step("name", number, path=path))
            self._compare_file(path, number, seen)

    def _compare_file(self, path: str, number: int, seen: os.stat_result) -> None:
        old, new = self._contents[number], (self.folder / path).read_bytes()
        if self._lossless(new[:64]):
            if old != new or self._times[number] != seen.st_mtime_ns:
                self._contents[number], self._times[number] = new, seen.st_mtime_ns
                self.steps.append(Step("whole", number, seen.st_mtime_ns, new))
            return
        if old != new:
            self._contents[number] = new
            if len(new) < len(old):
                self.steps.append(Step("size", number, len(new)))
                old = old[: len(new)]
            for start, end in _differences(old, new):
                self.steps.append(Step("write", number, start, new[start:end]))
        if self._times[number] != seen.st_mtime_ns:
            self._times[number] = seen.st_mtime_ns
            self.steps.append(Step("time", number, seen.st_mtime_ns))


def _plain(path: Path) -> str:
    return "" if path == Path() else str(path)


def _differences(old: bytes, new: bytes) -> Iterator[tuple[int, int]]:
    """Spans of `new` that differ from `old`, apart by 16 bytes at least."""
    at, common = 0, len(old)
    step = 4096
    while at < common:
        if old[at : at + step] == new[at : min(at + step, common)]:
            at += step
            continue
        end = min(at + step, common)
        first = next(i for i in range(at, end) if old[i] != new[i])
        last, i = first, first
        while i < end and i - last < 16:
            if old[i] != new[i]:
                last = i
            i += 1
        yield first, last + 1
        at = last + 1
    if len(new) > common:
        yield common, len(new)


@dataclass
class _File:
    """A file of a crash: what was flushed, and what happened to it since."""

    flushed: bytearray = field(default_factory=bytearray)
    time: int = 0
    later: list[Step] = field(default_factory=list)


class Crash(NamedTuple):
    """How a power cut deals with what was not flushed."""

    way: Way
    sector: int  # bytes that a disk writes at once
    seed: int


def after_power_cut(
    steps: list[Step], crash: Crash
) -> tuple[dict[str, int], dict[int, tuple[bytes, int]], set[str]]:
    """What is on the disk after a power cut that follows these steps.

    Returns:
        Names with the numbers of their files; content and time (ns) of each file; the folders.
    """
    chance = random.Random(crash.seed)
    files: dict[int, _File] = {}
    names: dict[str, int] = {}
    later_names: list[Step] = []
    folders = {""}
    for step in steps:
        match step.kind:
            case "write" | "size" | "time":
                files.setdefault(step.file, _File()).later.append(step)
            case "whole":
                files[step.file] = _File(bytearray(step.data), step.at)
            case "flush":
                one = files.setdefault(step.file, _File())
                for done in one.later:
                    _apply(one, done)
                one.later.clear()
            case "flush names":
                kept = []
                for done in later_names:
                    if step.path in _folders_of(done):
                        _rename(names, folders, done)
                    else:
                        kept.append(done)
                later_names = kept
            case _:
                later_names.append(step)
                files.setdefault(step.file, _File())
    for done in _chosen(later_names, crash, chance):
        _rename(names, folders, done)
    left = {number: _left_of(one, crash, chance) for number, one in files.items() if number}
    return names, left, folders


def _folders_of(step: Step) -> set[str]:
    return {_plain(Path(path).parent) for path in (step.path, step.target) if path}


def _apply(one: _File, step: Step) -> None:
    if step.kind == "time":
        one.time = step.at
    elif step.kind == "size":
        del one.flushed[step.at :]
    else:
        if len(one.flushed) < step.at:
            one.flushed.extend(bytes(step.at - len(one.flushed)))
        one.flushed[step.at : step.at + len(step.data)] = step.data


def _rename(names: dict[str, int], folders: set[str], step: Step) -> None:
    if step.kind == "folder":
        folders.add(step.path)
    elif step.kind == "name":
        names[step.path] = step.file
    elif step.kind == "gone":
        names.pop(step.path, None)
    else:  # whether or not the old name was flushed in its own folder
        names.pop(step.path, None)
        names[step.target] = step.file


def _chosen(steps: list[Step], crash: Crash, chance: random.Random) -> list[Step]:
    if crash.way == "all" or not steps:
        return steps
    if crash.way == "none":
        return []
    if chance.random() < 0.6:  # as a journal of names keeps them: up to some moment
        return steps[: chance.randrange(len(steps) + 1)]
    if crash.way == "some":
        return [step for step in steps if chance.random() < 0.5]
    one = chance.randrange(len(steps))
    return steps[:one] + steps[one + 1 :] if crash.way == "but one" else [steps[one]]


def _left_of(one: _File, crash: Crash, chance: random.Random) -> tuple[bytes, int]:
    if not one.later:
        return bytes(one.flushed), one.time
    times = [one.time, *(step.at for step in one.later if step.kind == "time")]
    time = {"all": times[-1], "none": one.time}.get(crash.way, chance.choice(times))
    if crash.way == "none":
        return bytes(one.flushed), time
    # Each sector as it was after some of the writes to it, and never some of these without others.
    whole = _File(bytearray(one.flushed))
    versions = [bytes(whole.flushed)]
    writes = [step for step in one.later if step.kind != "time"]
    looked_at = {*chance.sample(range(len(writes)), min(_VERSIONS, len(writes))), len(writes) - 1}
    for number, step in enumerate(writes):
        _apply(whole, step)
        if number in looked_at:
            versions.append(bytes(whole.flushed))
    if crash.way == "all":
        return versions[-1], time
    size = max(map(len, versions))
    odd = chance.randrange(max(1, size // crash.sector + 1))
    likely = chance.choice((0.1, 0.5, 0.9))
    parts = []
    for number, at in enumerate(range(0, size, crash.sector)):
        if crash.way == "some":
            last = len(versions) - 1
            pick = last if chance.random() < likely else chance.randrange(last + 1)
        elif crash.way == "but one":
            pick = 0 if number == odd else len(versions) - 1
        else:
            pick = len(versions) - 1 if number == odd else 0
        parts.append(versions[pick][at : at + crash.sector].ljust(crash.sector, b"\0"))
    length = chance.choice(
        (len(versions[0]), len(versions[-1]), chance.choice(list(map(len, versions))))
    )
    if crash.way == "only one":
        length = len(versions[-1])
    return b"".join(parts)[:length].ljust(length, b"\0"), time
