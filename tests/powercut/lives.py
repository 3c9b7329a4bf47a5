"""A life of a database on a disk that is watched, and what a power cut at any moment may leave."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias
from unittest.mock import patch

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.lmdb.environments import looks_like_lmdb
from ebooklet.adapters.localfiles import sidecar
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.database import EBooklet
from ebooklet.ports.local_store import LocalOpener
from ebooklet.services.request import Flag
from tests.powercut.disk import Crash, Disk, Way, after_power_cut

Content: TypeAlias = dict[str, bytes]
Script: TypeAlias = "Callable[[Liver], object]"
_names = itertools.count()
_WAYS: Final[tuple[Way, ...]] = ("all", "none", "some", "some", "some", "but one", "only one")
_DEEDS: Final = (
    *("set", "set", "set", "over", "over", "over", "delete", "delete", "many", "metadata", "sync"),
    *("push", "pull", "others", "load", "prune", "close", "reader"),
)


@dataclass
class Moment:
    """What was so between two calls, as far as a crash may show it again."""

    step: int  # number of steps of the disk by then
    content: Content  # what the database showed
    pending: frozenset[str]
    promised: bool  # `sync` or `close` had just returned
    committed: Content  # what the remote shows everybody


@dataclass
class Life:
    """A recorded life.

    Attributes:
        disk: what was written.
        moments: what was so, in order.
        remotes: number of steps, and the objects of the bucket from then on.
    """

    kind: str
    disk: Disk
    url: str
    moments: list[Moment] = field(default_factory=list)
    remotes: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def store(self) -> MemoryRemoteStore:
        return MemoryRemoteStore(self.url.split("/")[2])

    def look_at_remote(self) -> None:
        objects = self.objects()
        if not self.remotes or self.remotes[-1][1] != objects:
            self.remotes.append((len(self.disk.steps), dict(objects)))

    def objects(self) -> dict[str, Any]:
        return self.store._bucket.objects  # a bucket as it was at another moment


def options(kind: str) -> dict[str, Any]:
    return {
        "value_serializer": "bytes",
        "lock": "optimistic",
        "local": kind,
        "n_buckets": 60,
        "buffer_size": 4000,
    }


def value(chance: random.Random) -> bytes:
    """A value that shows when a part of it is another's."""
    mark = b"%08d" % next(_names)
    return mark * chance.choice((1, 2, 9, 60, 300))


class Liver:
    """Does what programs do, and notes after each call what was so."""

    def __init__(self, life: Life, seed: int) -> None:
        self.life = life
        self.chance = random.Random(seed)
        self.path = life.disk.folder / "a.blt"
        self.db: EBooklet[bytes] = None  # type: ignore[assignment]
        self.other = open_database(life.url, None, "c", lock="optimistic", value_serializer="bytes")
        self.committed: Content = {}
        self.content: Content = {}
        self.pending: set[str] = set()

    def note(self, *, promised: bool = False) -> None:
        life = self.life
        moment = Moment(
            len(life.disk.steps),
            dict(self.content),
            frozenset(self.pending),
            promised,
            dict(self.committed),
        )
        life.moments.append(moment)
        life.look_at_remote()

    def open(self, flag: Flag) -> None:
        self.db = open_database(self.life.url, self.path, flag, **options(self.life.kind))
        self.follow()
        self.note()

    def follow(self) -> None:
        """Know what an open or a pull has brought."""
        for key in {*self.committed, *self.content} - self.pending:
            if key in self.committed:
                self.content[key] = self.committed[key]
            else:
                self.content.pop(key, None)

    def set(self, key: str) -> None:
        found = value(self.chance)
        self.content[key] = found
        self.pending.add(key)
        self.note()
        self.db[key] = found
        self.note()

    def update(self, keys: list[str]) -> None:
        found = {key: value(self.chance) for key in keys}
        self.note()
        self.db.update(found)
        self.content.update(found)
        self.pending.update(found)
        self.note()

    def delete(self, key: str) -> None:
        if key in self.content:
            self.note()
            del self.content[key]
            self.pending.add(key)
            self.note()
            del self.db[key]
            self.note()

    def sync(self) -> None:
        self.db.sync()
        self.note(promised=True)

    def push(self) -> None:
        self.note()
        pushed = self.db.push(conflict="ours")
        assert not pushed.failures
        self.committed = dict(self.content)
        self.pending.clear()
        self.note()

    def others_push(self) -> None:
        self.other.pull()
        others = [key for key in self.committed if key not in self.pending]
        for key in self.chance.sample(others, min(4, len(others))):
            if self.chance.random() < 0.3:
                del self.other[key]
                self.committed.pop(key)
            else:
                self.committed[key] = self.other[key] = value(self.chance)
        name = f"theirs{next(_names)}"
        self.committed[name] = self.other[name] = value(self.chance)
        self.other.push()
        self.note()

    def pull(self) -> None:
        self.note()
        self.follow()
        self.note()
        self.db.pull()
        self.note()

    def close(self) -> None:
        self.db.close()
        self.note(promised=True)


def at_random(length: int) -> Script:
    """So many random calls."""

    def script(one: Liver) -> None:
        chance = one.chance
        for _ in range(length):
            keys = sorted(one.content) or ["k0"]
            match chance.choice(_DEEDS):
                case "set":
                    one.set(f"k{chance.randrange(60)}")
                case "over":
                    one.set(chance.choice(keys))
                case "delete":
                    one.delete(chance.choice(keys))
                case "sync":
                    one.sync()
                case "push":
                    if chance.random() < 0.3:
                        one.others_push()
                    one.pull()
                    one.push()
                case "pull":
                    one.pull()
                case "others":
                    one.others_push()
                case "load":
                    one.db.load_items()
                    one.note()
                case "prune":
                    one.db.prune()
                    one.note()
                case "many":
                    one.update([f"m{chance.randrange(300)}" for _ in range(70)])
                case "metadata":
                    one.db.set_metadata({"n": next(_names)})
                    one.note()
                case "close":
                    one.close()
                    one.open("w")
                case "reader":
                    one.close()
                    with open_database(one.life.url, one.path, "r", local=one.life.kind) as reader:
                        one.follow()
                        one.note()
                        assert dict(reader.items()) == one.content
                        one.note()
                    one.open("w")

    return script


def recorded(kind: str, folder: Path, seed: int, script: Script | None = None) -> Life:
    """Live, and record it: what the script says, or some random calls."""
    life = Life(kind, Disk(folder), f"memory://powercut-{next(_names)}/db")
    with life.disk.recording(life.look_at_remote, lossless=looks_like_lmdb):
        one = Liver(life, seed)
        one.open("c")
        one.update([f"k{n}" for n in range(20)])
        one.sync()
        one.push()
        (script or at_random(30))(one)
        assert dict(one.db.items()) == one.content, seed
        one.close()
        one.other.close()
    return life


def crashes(life: Life, chance: random.Random) -> Iterator[tuple[int, Crash]]:
    """Power cuts at random moments, without end."""
    while True:
        after = chance.randrange(1, len(life.disk.steps) + 1)
        way = chance.choice(_WAYS)
        yield after, Crash(way, chance.choice((512, 4096)), chance.randrange(1 << 32))


def lay_out(life: Life, after: int, crash: Crash, folder: Path) -> None:
    """Put what a power cut after so many steps leaves into a folder, and the remote of then."""
    names, files, folders = after_power_cut(life.disk.steps[:after], crash)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for inside in sorted(folders):
        (folder / inside).mkdir(exist_ok=True)
    inodes: dict[int, int] = {}
    for path, number in sorted(names.items(), key=lambda item: item[0].count("/")):
        if "/" in path and str(Path(path).parent) not in folders:
            continue
        data, time = files.get(number, (b"", 0))
        place = folder / path
        place.write_bytes(data)
        os.utime(place, ns=(time, time))
        inodes[life.disk.inodes[number]] = place.stat().st_ino
    for name in ("mark", "mark.unfinished", "flushed"):
        _renumber(folder / "a.blt.ebk" / name, inodes)
    objects = life.objects()
    objects.clear()
    objects.update([then for step, then in life.remotes if step <= after][-1])


def _renumber(path: Path, inodes: dict[int, int]) -> None:
    """Inodes outlive a power cut, but not that files are laid out anew."""
    if path.exists() and (data := path.read_bytes()):
        time = path.stat().st_mtime_ns
        found = json.loads(data)
        for state in [found["flushed"]] if isinstance(found, dict) else found:
            if state is not None:
                state[1] = inodes.get(state[1], 0)
        path.write_text(json.dumps(found))
        os.utime(path, ns=(time, time))


def check(life: Life, after: int, folder: Path, which: str = "") -> None:
    """What was left opens, with all that was promised and nothing that never was.

    Args:
        life: the life that was cut off.
        after: so many steps of the disk.
        folder: what was left.
        which: of many, for messages.
    """
    promised = [n for n, one in enumerate(life.moments) if one.promised and one.step <= after]
    since = promised[-1] if promised else 0
    possible = [one for one in life.moments[since:] if one.step <= after]
    possible += [one for one in life.moments if one.step > after][:3]  # of the call under way
    path = folder / "a.blt"
    assert path.exists() or not promised, f"{which}: the file is gone"
    with (
        warnings.catch_warnings(),
        patch.object(sidecar, "boot_id", lambda: "after the power cut"),
    ):
        warnings.simplefilter("ignore")
        with contextlib.closing(
            open_database(life.url, path, "c", **options(life.kind))
        ) as database:
            content = _look_at(life, database, possible, which)
        with open_database(life.url, None, "r") as cold:
            assert dict(cold.items()) == content, f"{which}: something else was pushed"
        with contextlib.closing(
            _opener(life.kind)(path, clock=SystemClock(), mode="read")
        ) as again:
            assert again.condition == "clean", f"{which}: it was left in disorder"


def _look_at(life: Life, database: EBooklet[bytes], possible: list[Moment], which: str) -> Content:
    content = dict(database.items())
    pending = {change["key"] for change in database.changes()}
    committed: Content = {}
    if "db" in life.objects():
        with open_database(life.url, None, "r") as head:
            committed = dict(head.items())
    for key in {*content, *committed, *(key for one in possible for key in one.content)}:
        allowed = [one.content.get(key) for one in possible if key in one.pending]
        if any(key not in one.pending for one in possible):
            allowed.append(committed.get(key))
        found = content.get(key)
        assert found in allowed, (
            f"{which}: {key} is {_short(found)}, and may be {[_short(one) for one in allowed]}"
        )
    unchanged = pending.difference(*(one.pending for one in possible))
    assert not unchanged, f"{which}: pending, but never changed: {sorted(unchanged)}"
    assert len(database) == len(content)
    database.push(conflict="ours")
    assert not list(database.changes())
    return content


def _opener(kind: str) -> LocalOpener:
    if kind == "lmdb":
        from ebooklet.adapters.local.lmdb import open_store as open_lmdb

        return open_lmdb
    from ebooklet.adapters.local.booklet import open_store

    return open_store


def _short(found: bytes | None) -> str:
    return "absent" if found is None else f"{found[:8]!r}, {len(found)} bytes"
