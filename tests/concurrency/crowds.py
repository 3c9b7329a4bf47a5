"""Many at once: threads on one handle, processes on one file, writers and readers of one remote.

Each crowd goes on for as long as it is given turns, and says how much it did. It raises where a
value is torn, a count is not exact, or somebody fails in a way that nobody was told of.
"""

from __future__ import annotations

import faulthandler
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeAlias

import ebooklet
from ebooklet.database import EBooklet
from ebooklet.errors import ConflictError, LockTimeout, PushInProgressError
from ebooklet.services.place import RemoteLike

Turns: TypeAlias = Callable[[], Iterator[int]]
GROUP: Final = 5  # keys that are always written together
N_GROUPS: Final = 3
PADDING: Final = "x" * 120  # so that values do not fit into the index
STUCK_S: Final = 600  # without an end after the last turn: everybody's stack is shown


@dataclass(frozen=True)
class Rounds:
    """So many turns for each."""

    n: int

    def __call__(self) -> Iterator[int]:
        """Count them."""
        return iter(range(self.n))


@dataclass(frozen=True)
class Until:
    """Turns as long as there is time."""

    end: float  # of the monotonic clock, which all processes of a machine share

    def __call__(self) -> Iterator[int]:
        """Count them."""
        for n in count():
            if time.monotonic() > self.end and n:
                return
            yield n


@dataclass(frozen=True)
class Where:
    """A database, and a folder for local files of it."""

    remote: RemoteLike
    folder: Path

    def open(self, name: str | None, flag: Any = "w", **options: Any) -> EBooklet[Any]:
        """Open it by a local file of this name."""
        path = None if name is None else self.folder / f"{name}.blt"
        options.setdefault("lock", "optimistic")
        if flag == "c":
            options["value_serializer"] = "json"
        return ebooklet.open(self.remote, path, flag, **options)


def all_at_once(executor: Executor, tasks: list[Callable[[], Counter[str]]]) -> Counter[str]:
    """Run everything; the first failure is raised when all have ended."""
    faulthandler.dump_traceback_later(_patience(tasks), exit=True)
    try:
        with executor:
            futures = [executor.submit(task) for task in tasks]
        return sum((future.result() for future in futures), Counter())
    finally:
        faulthandler.cancel_dump_traceback_later()


def _patience(tasks: list[Callable[[], Counter[str]]]) -> float:
    ends = [each.end for task in tasks for each in _arguments(task) if isinstance(each, Until)]
    return STUCK_S + max(0.0, max(ends, default=0.0) - time.monotonic())


def _arguments(task: Callable[[], Counter[str]]) -> tuple[object, ...]:
    return task.args if isinstance(task, partial) else ()


# Threads on one handle.


def threads(where: Where, turns: Turns, *, n: int = 32) -> Counter[str]:
    """Threads read, write, delete, walk, count, sync, push and pull through one handle, all at once.

    Beside them a second writer pushes to the same remote.
    """
    with where.open("threads", "c") as db, where.open("beside", "c") as other:
        n_counting = n // 2
        tasks: list[Callable[[], Counter[str]]] = [
            partial(_count_alone, db, f"own/{each:02}", turns) for each in range(n_counting)
        ]
        tasks.append(partial(_push_beside, other, turns))
        kinds = (_push, _pull, _walk, _look, _come_and_go, _first)
        tasks += [partial(kinds[each % len(kinds)], db, turns) for each in range(n - len(tasks))]
        done = all_at_once(ThreadPoolExecutor(n), tasks)
        db.push()
        content = dict(db.items())
        assert not list(db.changes())
        assert len(db) == len(content) == len(list(db))
        own = [value for key, value in content.items() if key.startswith("own/")]
        assert sum(value["n"] for value in own) == done["counted"]
        assert content["beside"]["n"] == done["pushed beside"]
        assert sum(key.startswith("first/") for key in content) == done["first"]
        assert not [key for key in content if key.startswith("brief/")]
    with where.open(None, "r") as cold:
        assert dict(cold.items()) == content
        assert cold.fsck(check_objects=True).ok
    return done


def _value(key: str, n: int) -> dict[str, Any]:
    return {"key": key, "n": n, "again": n, "padding": PADDING}


def _check(key: str, value: dict[str, Any]) -> None:
    assert value == _value(key, value["n"]), (key, value)


def _check_all(db: EBooklet[Any], keys: Iterable[str]) -> None:
    for key, value in db.get_items(keys):
        if value is not None:
            _check(key, value)


def _count_alone(db: EBooklet[Any], key: str, turns: Turns) -> Counter[str]:
    done = 0
    for _ in turns():
        value = db.get(key) or _value(key, 0)
        _check(key, value)
        assert value["n"] == done
        done += 1
        db[key] = _value(key, done)
        assert db[key]["n"] == done
        assert key in db
    return Counter({"counted": done})


def _push_beside(other: EBooklet[Any], turns: Turns) -> Counter[str]:
    done = 0
    for _ in turns():
        done += 1
        other["beside"] = _value("beside", done)
        other["beside/gone"] = _value("beside/gone", done)
        assert other.push()
        del other["beside/gone"]
        assert other.push()
    return Counter({"pushed beside": done})


def _push(db: EBooklet[Any], turns: Turns) -> Counter[str]:
    done = 0
    for _ in turns():
        with suppress(PushInProgressError):
            assert not db.push().failures
            done += 1
        db.sync()
    return Counter({"pushes": done})


def _pull(db: EBooklet[Any], turns: Turns) -> Counter[str]:
    done = seq = 0
    for _ in turns():
        found = db.pull()
        assert not found.conflicts
        assert found.seq >= seq
        seq = found.seq
        done += 1
        # Who does nothing but pull keeps pushes of the same handle waiting.
        _check_all(db, (f"own/{each:02}" for each in range(20)))
    return Counter({"pulls": done})


def _walk(db: EBooklet[Any], turns: Turns) -> Counter[str]:
    done = 0
    for _ in turns():
        with suppress(RuntimeError):  # keys came or went meanwhile, which is said
            before = ""
            for key, value in db.items():
                assert key >= before
                before = key
                _check(key, value)
            done += 1
        with suppress(RuntimeError):
            keys = list(db.keys("own/"))
            assert keys == sorted(set(keys))
        _check_all(db, ["beside", "no such key"])
    return Counter({"walks": done})


def _look(db: EBooklet[Any], turns: Turns) -> Counter[str]:
    n = 0
    for _ in turns():
        assert len(db) >= 0
        assert "no such key" not in db
        for change in db.changes():
            assert not change["conflict"], change
            n += 1
        with suppress(RuntimeError):
            assert all(moment > 0 for _, moment in db.timestamps())
    return Counter({"changes seen": n})


def _come_and_go(db: EBooklet[Any], turns: Turns) -> Counter[str]:
    """Keys that everybody of this kind sets and takes: each value is taken by one at the most."""
    taken = 0
    for n in turns():
        key = f"brief/{n % 7}"
        db[key] = _value(key, n)
        if (value := db.pop(key, None)) is not None:
            _check(key, value)
            taken += 1
    for n in range(7):
        db.pop(f"brief/{n}", None)
    return Counter({"taken": taken})


def _first(db: EBooklet[Any], turns: Turns) -> Counter[str]:
    """Of all that set a key if it is absent, all see what one of them has set."""
    won = 0
    for n in turns():
        key = f"first/{n % 50}"
        mine = _value(key, id(turns) + n)
        mine["again"] = mine["n"]
        found = db.setdefault(key, mine)
        _check(key, found)
        won += n < 50 and found is mine
    return Counter({"first": won})


# Processes on one local file.


def processes(where: Where, turns: Turns, *, n: int = 8) -> Counter[str]:
    """Half of them write by turns, the other half read meanwhile; some do not want to wait."""
    with where.open("shared", "c") as db:
        db["total"] = 0
        db.push()
    tasks: list[Callable[[], Counter[str]]] = [
        partial(_write_by_turns, where, f"w{each}", turns, each == 0) for each in range(n // 2)
    ]
    tasks += [partial(_read_meanwhile, where, turns) for _ in range(n - len(tasks))]
    done = all_at_once(ProcessPoolExecutor(n, mp_context=get_context("spawn")), tasks)
    with where.open("shared", "w") as db:
        assert db["total"] == sum(db.values()) - db["total"] == done["written"]
        db.push()
    with where.open(None, "r") as cold:
        assert cold["total"] == done["written"]
        assert cold.fsck(check_objects=True).ok
    return done


def _write_by_turns(where: Where, name: str, turns: Turns, hurried: bool) -> Counter[str]:
    done: Counter[str] = Counter()
    for n in turns():
        try:
            db = where.open("shared", "w", lock_timeout=0.05 if hurried else STUCK_S)
        except LockTimeout:
            assert hurried
            done["turned away"] += 1
            continue
        with db:
            db[name] = db.get(name, 0) + 1
            db["total"] += 1
            if n % 3 == 0:
                assert db.push()
        done["written"] += 1
    return done


def _read_meanwhile(where: Where, turns: Turns) -> Counter[str]:
    seen: dict[str, int] = {}
    done = 0
    for _ in turns():
        with where.open("shared", "r", lock_timeout=STUCK_S) as db:
            now = dict(db.items())
            assert len(db) >= len(now)
        assert all(now.get(key, 0) >= value for key, value in seen.items()), (seen, now)
        seen = now
        done += 1
    return Counter({"read": done})


# Writers and readers of one remote.


def writers(
    where: Where, turns: Turns, *, n_writers: int = 8, n_readers: int = 16, n_processes: int = 8
) -> Counter[str]:
    """Optimistic writers add to one sum and stamp groups of keys, while readers look at commits.

    Args:
        where: the database.
        turns: of each.
        n_writers: how many write.
        n_readers: how many read.
        n_processes: over how many processes they are spread; 0: threads of this one.
    """
    with where.open("first", "c") as db:
        db.update({"sum": {"n": 0, "by": ""}, **{key: ["", 0] for key in _stamped()}})
        db.push()
    tasks: list[Callable[[], Counter[str]]] = [
        partial(_add, where, f"w{each}", turns) for each in range(n_writers)
    ]
    tasks += [partial(_watch, where, turns) for _ in range(n_readers)]
    executor: Executor = ThreadPoolExecutor(len(tasks))
    if n_processes:
        spread = [tasks[each::n_processes] for each in range(n_processes)]
        tasks = [partial(_in_threads, part, turns) for part in spread]
        executor = ProcessPoolExecutor(n_processes, mp_context=get_context("spawn"))
    done = all_at_once(executor, tasks)
    with where.open(None, "r") as cold:
        _check_commit(cold)
        assert cold["sum"]["n"] == done["added"]
        assert cold.fsck(check_objects=True).ok
    return done


def _in_threads(tasks: list[Callable[[], Counter[str]]], turns: Turns) -> Counter[str]:
    del turns  # for whoever reckons how long this may take
    return all_at_once(ThreadPoolExecutor(len(tasks)), tasks)


def _stamped() -> list[str]:
    return [f"group/{group}/{n}" for group in range(N_GROUPS) for n in range(GROUP)]


def merge(name: str, key: str, base: Any, ours: Any, theirs: Any) -> Any:
    """What both have added to the sum stands; a stamp is the later writer's, in all its group."""
    if key == "sum":
        assert base is not ebooklet.UNKNOWN
        return {"n": theirs["n"] + ours["n"] - base["n"], "by": name}
    return ours


def _add(where: Where, name: str, turns: Turns) -> Counter[str]:
    done: Counter[str] = Counter()
    with where.open(name, "c", conflict=partial(merge, name)) as db:
        for n in turns():
            # Signed, as two who make the same change of one value agree, and nobody is asked.
            db["sum"] = {"n": db["sum"]["n"] + 1, "by": name}
            db[f"count/{name}"] = done["added"] = done["added"] + 1
            group = n % N_GROUPS
            db.update({f"group/{group}/{each}": [name, n] for each in range(GROUP)})
            while True:
                with suppress(ConflictError):  # lost every race: it is said, and nothing is lost
                    assert db.push()
                    break
                done["lost all races"] += 1
            done["pushes"] += 1
    return done


def _watch(where: Where, turns: Turns) -> Counter[str]:
    done = seq = 0
    with where.open(None, "r") as db:
        for _ in turns():
            found = db.pull()
            assert found.seq >= seq
            seq = found.seq
            _check_commit(db)
            done += 1
    return Counter({"looks": done})


def _check_commit(db: EBooklet[Any]) -> None:
    """See that one commit is shown: counts add up, no group is torn."""
    content = dict(db.items())
    counts = [n for key, n in content.items() if key.startswith("count/")]
    assert content["sum"]["n"] == sum(counts), (content["sum"], counts)
    for group in range(N_GROUPS):
        stamps = [content[f"group/{group}/{n}"] for n in range(GROUP)]
        assert stamps == stamps[:1] * GROUP, stamps
