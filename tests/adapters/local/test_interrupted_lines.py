"""Ctrl-C between any two lines that change a local file: what was there is there, old or new.

Python raises `KeyboardInterrupt` between two steps of ours or of Booklet's. Here it comes at a line
that is counted out beforehand, and what is left of the file is compared with a model, by all the ways
in which it is read: in the handle that goes on, and in the next one.
"""

from __future__ import annotations

import gc
import linecache
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeAlias

import booklet
import pytest

from ebooklet.adapters.local.booklet import BookletLocalStore, open_store
from ebooklet.adapters.local.booklet.append import WORTH_IT, _Chains
from ebooklet.adapters.local.booklet.handles import Handle
from ebooklet.adapters.local.booklet.inspection import is_sound
from ebooklet.adapters.local.booklet.layout import COUNT_AT, HEADER_BYTES, parse_header
from ebooklet.adapters.localfiles import files
from tests.adapters.local.conftest import CLOCK

_OURS: Final = tuple(
    str(Path(module.__file__ or "").parent) + os.sep
    for module in (sys.modules[open_store.__module__], files, booklet)
)
_SAMPLED: Final = 4  # moments of each life in `make test`
TORTURE: Final = bool(os.environ.get("EBOOKLET_TORTURE"))

Model: TypeAlias = dict[str, bytes]
# What is done, and what it sets and, where None, deletes.
Step: TypeAlias = tuple[Callable[[BookletLocalStore], object], dict[str, bytes | None]]

OLD: Final[Model] = {f"k{n}": b"old %d" % n for n in range(12)}


def _set(*names: str) -> list[Step]:
    return [
        (lambda store, name=name: store.set(name, b"new", 2), {name: b"new"})  # type: ignore[misc]
        for name in names
    ]


def _set_many(names: list[str]) -> Step:
    items = [(name, b"many", 3) for name in names]
    return (lambda store: store.set_many(items), dict.fromkeys(names, b"many"))


def _delete(*names: str) -> Step:
    return (lambda store: store.delete(names), dict.fromkeys(names))


def _read(store: BookletLocalStore) -> object:
    return store.get("k1"), store.get_entry("k2"), list(store.get_many(["k3", "n1"]))


_MANY: Final = [f"n{n}" for n in range(WORTH_IT + 6)]
LIVES: Final[dict[str, list[Step]]] = {
    "set": [
        *_set("k1", "k2", "n1"),
        (_read, {}),
        *_set("k3", "k3", "n1"),
        (BookletLocalStore.sync, {}),
    ],
    "load": [*_set("k1", "n1"), _set_many(_MANY), _delete("n2", "k1"), *_set("n3")],
    "update": [_set_many([*OLD, "n1"]), (BookletLocalStore.count, {})],
    "delete": [_delete("k0", "absent", "k5", "k11"), *_set("k5"), _delete("k5", "k6")],
    "grow": [_set_many([f"n{n}" for n in range(140)]), *_set("k1")],
    "compact": [
        *_set("k1"),
        (lambda store: store.compact(evict=["k4"]), {"k4": None}),
        *_set("k2"),
    ],
    "clear": [*_set("k1"), (BookletLocalStore.clear, dict.fromkeys((*OLD, "k1"))), *_set("n1")],
    "metadata": [*_set("k1"), (lambda store: store.set_metadata(b'{"a": 1}', 5), {}), *_set("k1")],
}


class _Interrupt:
    """Raises `KeyboardInterrupt` at a line of the code that changes files, or counts these."""

    def __init__(self, moment: int | None) -> None:
        self.lines: list[tuple[str, int]] = []
        self._moment = moment
        self._within: set[tuple[FrameType, int]] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:  # as settrace wants it
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        if event == "line" and not self._leaves(frame):
            self.lines.append((frame.f_code.co_filename, frame.f_lineno))
            if len(self.lines) - 1 == self._moment:
                raise KeyboardInterrupt
        return self

    def _leaves(self, frame: FrameType) -> bool:
        """Whether it is the second visit of a `with`: Python lets no signal in before it has left."""
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        here = (frame, frame.f_lineno)
        if not line.lstrip().startswith("with "):
            return False
        if here in self._within:
            self._within.discard(here)
            return True
        self._within.add(here)
        return False


def _began(path: Path) -> BookletLocalStore:
    store = open_store(path, clock=CLOCK, n_buckets=100, lock_timeout=0)
    store.set_many((key, value, 1) for key, value in OLD.items())
    store.set("dead", b"", 1)
    store.sync()
    store.delete(["dead"])
    store.sync()
    return store


def _lived(store: BookletLocalStore, steps: list[Step], interrupt: _Interrupt) -> int | None:
    """Number of the step that was interrupted; None if none was."""
    before = sys.gettrace()
    for number, (act, _) in enumerate(steps):
        sys.settrace(interrupt)
        try:
            act(store)
        except KeyboardInterrupt:
            return number
        finally:
            sys.settrace(before)
    return None


def _content(store: BookletLocalStore) -> Model:
    """What all ways to read it agree on."""
    names = list(store.keys())
    assert len(names) == len(set(names)) == store.count()
    asked = sorted({*OLD, *_MANY, *names})
    one_by_one = {key: value for key in asked if (value := store.get(key)) is not None}
    in_bulk = {key: entry.value for key, entry in store.get_many(asked)}
    assert sorted(one_by_one) == sorted(names) == sorted(key for key, _ in store.timestamps())
    assert one_by_one == in_bulk
    return one_by_one


def _agrees(found: Model, steps: list[Step], interrupted: int | None) -> bool:
    model: dict[str, bytes | None] = dict(OLD)
    for _, change in steps[:interrupted]:
        model |= change
    during = steps[interrupted][1] if interrupted is not None else {}
    return all(
        found.get(key) in {model.get(key), during.get(key, model.get(key))}
        for key in {*model, *found, *during}
    )


def _moments(lines: list[tuple[str, int]]) -> Iterator[int]:
    """Each line the first times and the last time that it is reached; loops go on alike."""
    met: dict[tuple[str, int], list[int]] = {}
    for moment, line in enumerate(lines):
        met.setdefault(line, []).append(moment)
    for found in met.values():
        yield from sorted({*found[:3], found[-1]})


# Interrupted while it opens a file, Booklet leaves that to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", LIVES)
def test_an_interrupt_at_any_line(tmp_path: Path, name: str) -> None:
    """What was set before is there, each key of what was interrupted is old or new, nothing is odd.

    The handle goes on with all of it, so does the next one, and Booklet finds the file in order.
    """
    steps = LIVES[name]
    dry = _Interrupt(None)
    store = _began(tmp_path / "dry.blt")
    assert _lived(store, steps, dry) is None
    assert _agrees(_content(store), steps, None)
    store.close()
    moments = list(_moments(dry.lines))
    if not TORTURE:
        moments = random.Random(name).sample(moments, _SAMPLED)
    for moment in moments:
        where = (*dry.lines[moment], moment)
        path = tmp_path / f"{moment}.blt"
        store = _began(path)
        interrupted = _lived(  # None: what the garbage collector does is counted, and varies
            store, steps, _Interrupt(moment)
        )
        if moment % 2:
            found = _content(store)
            assert _agrees(found, steps, interrupted), where
            store.set("after", b"it", 9)
            store.close()
        else:
            found = {}
            store.close()
        with path.open("rb") as file:
            header = parse_header(file.read(HEADER_BYTES), "a")
            assert is_sound(file.fileno(), header, path.stat().st_size), where
        store = open_store(path, clock=CLOCK, create=False, lock_timeout=0)
        again = _content(store)
        store.close()
        if found:
            assert again == found | {"after": b"it"}, where
        assert _agrees({k: v for k, v in again.items() if k != "after"}, steps, interrupted), where
        path.unlink()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["second piece", "link", "count"])
def test_an_interrupted_load_leaves_nothing_to_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What is then set in its place is what bulk reads show, and a deletion leaves nothing.

    Found by Ctrl-C in `load_items`: blocks that nothing led to were read in bulk for good.
    """
    items = [(f"n{n}", b"stale", 1) for n in range(1100)]  # in two pieces
    store = open_store(tmp_path / "a.blt", clock=CLOCK, n_buckets=3000)
    with monkeypatch.context() as patch:
        if step == "second piece":
            write, pieces = files.write_all, [1]

            def write_some(fd: int, data: bytes) -> None:
                if not pieces:
                    raise KeyboardInterrupt
                pieces.pop()
                write(fd, data)

            patch.setattr("ebooklet.adapters.local.booklet.append.write_all", write_some)
        else:
            once = [_interrupt]
            kind: type = Handle if step == "count" else _Chains
            real = getattr(kind, step)

            def first_interrupted(*args: object) -> object:
                return (once.pop() if once else real)(*args)

            patch.setattr(kind, step, first_interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.set_many(items)
    names = [name for name, _, _ in items]
    assert (
        store.count()
        == len(list(store.keys()))
        == sum(name in OLD or store.contains(name) for name in names)
    )
    store.set_many((name, b"fresh", 2) for name in names)
    assert {entry.value for _, entry in store.get_many(names)} == {b"fresh"}
    assert store.delete(names) == len(names)
    assert store.count() == len(list(store.keys())) == 0
    store.close()


def test_a_count_that_is_too_small_is_mended(tmp_path: Path) -> None:
    """A header that tells of fewer keys than there are, as an earlier version could leave it."""
    path = tmp_path / "a.blt"
    store = _began(path)
    store.close()
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(COUNT_AT)
        file.write((1).to_bytes(4, "little"))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    store = open_store(path, clock=CLOCK, create=False)
    assert store.condition == "clean"
    assert store.delete([*OLD][1:]) == len(OLD) - 1
    assert (store.count(), _content(store)) == (1, {"k0": OLD["k0"]})
    store.close()
    with booklet.open(path, "r") as book:
        assert dict(book.items()) == {"k0": OLD["k0"]}
    gc.collect()
