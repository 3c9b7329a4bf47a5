"""CONTRACT §5, `map`: a function over all items, in new processes or in any executor."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from pathlib import Path
from typing import Any, Final

import pytest

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.database import EBooklet
from ebooklet.errors import EBookletError
from ebooklet.ports.remote_store import ByteRange
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.contract.conftest import Place
from tests.contract.mapped import Reversed, double, fail_on_three, where

pytestmark = pytest.mark.usefixtures("lean_processes")

WITHOUT_SERVER: Final = pytest.mark.parametrize("place", ["memory"], indirect=True)
MIB: Final = 1 << 20


class Inline(Executor):
    """The smallest executor there can be: it runs everything at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001  # handed on, as executors do
            future.set_exception(exc)
        return future


class Late(Executor):
    """Begins nothing before `most` calls wait for it, and then finishes the oldest."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        if len(self.waiting) >= self.most:
            self.finish_one()
        return future

    def finish_one(self) -> None:
        future, work = self.waiting.pop(0)
        try:
            future.set_result(work())
        except Exception as exc:  # noqa: BLE001  # handed on, as executors do
            future.set_exception(exc)


class CountingStore(MemoryRemoteStore):
    """Counts the bytes that ranges moved."""

    moved = 0

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        for body in super().get_ranges(ranges):
            assert isinstance(body, bytes)
            self.moved += len(body)
            yield body


@pytest.fixture
def db(place: Place) -> Iterator[EBooklet[Any]]:
    """A writer with ten numbers: some only local, some stored, some to be fetched."""
    with place.open(file="other") as other:
        other.update({f"k{n}": n for n in range(10)})
        other.push()
    with place.open() as db:
        assert db["k4"] == 4
        db["k5"] = 50
        db["k10"] = 10
        del db["k6"]
        yield db


EXPECTED: Final = {"k0": 0, "k2": 4, "k4": 8, "k5": 100, "k8": 16, "k10": 20}


# In processes


@pytest.mark.parametrize("place", ["file", "moto"], indirect=True)
def test_in_new_processes(db: EBooklet[Any]) -> None:
    """All items are seen, None is skipped, and no worker is a fork of this process."""
    assert dict(db.map(double, n_workers=2)) == EXPECTED
    seen = dict(db.map(where, n_workers=2))
    assert seen.keys() == db.keys()
    pids = {pid for pid, _ in seen.values()}
    assert 1 <= len(pids) <= 2
    assert {kind for _, kind in seen.values()} == {"SpawnProcess"}
    assert multiprocessing.active_children() == []
    db["after"] = 1  # the file is as good as before
    assert db.push()


@WITHOUT_SERVER
def test_a_serializer_of_ones_own_travels(place: Place) -> None:
    """The class is found by its name in the worker, where values are decoded."""
    with place.open(value_serializer=Reversed) as db:
        db.update({"k1": 12, "k2": 3})
        assert dict(db.map(double, n_workers=1)) == {"k1": 24}


SCRIPT: Final = """
import sys, warnings
import ebooklet

class Own:
    dumps = staticmethod(lambda value: repr(value).encode())
    @staticmethod
    def loads(data):
        return int(data)

def shout(key, value):
    return key.upper(), value + 1

def main():
    with ebooklet.open(
        "memory://script", sys.argv[1], "c", value_serializer=Own, lock_timeout=1
    ) as db:
        db.update({"a": 1, "b": 2})
        print(sorted(db.map(shout, n_workers=2)))
        try:
            db.map(lambda key, value: value)
        except TypeError as error:
            print(error)

GUARD
"""


def run_script(tmp_path: Path, guard: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "program.py"
    script.write_text(SCRIPT.replace("GUARD", guard))
    argv = [sys.executable, "-W", "error", str(script), str(tmp_path / "script.blt")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)


def test_from_a_script(tmp_path: Path) -> None:
    """A guarded script maps its own functions and serializer; a lambda is refused with the remedy."""
    done = run_script(tmp_path, 'if __name__ == "__main__":\n    main()')
    assert done.returncode == 0, done.stderr
    mapped, refused = done.stdout.splitlines()
    assert mapped == "[('A', 2), ('B', 3)]"
    assert "lambda" in refused
    assert "executor=ThreadPoolExecutor()" in refused


def test_from_a_script_without_a_guard(tmp_path: Path) -> None:
    """It fails, as each process would open the database again, and says what the script lacks."""
    done = run_script(tmp_path, "main()")
    assert done.returncode == 1
    assert "__name__ == '__main__'" in done.stderr


@WITHOUT_SERVER
def test_an_error_in_a_process(db: EBooklet[Any]) -> None:
    """It comes out as it was raised there, and the processes end."""
    with pytest.raises(LookupError, match="k3 is three"):
        list(db.map(fail_on_three, n_workers=2))
    assert multiprocessing.active_children() == []


@WITHOUT_SERVER
def test_closing_the_iteration_ends_the_processes(db: EBooklet[Any]) -> None:
    """Nobody has to take all results."""
    results = db.map(where, n_workers=2)
    next(results)
    assert multiprocessing.active_children() != []
    results.close()
    assert multiprocessing.active_children() == []


# In any executor


def processes() -> Executor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("make", [ThreadPoolExecutor, processes, Inline])
@WITHOUT_SERVER
def test_in_an_executor(db: EBooklet[Any], make: Callable[[], Executor]) -> None:
    """Anything with `submit` will do; it is left open."""
    with make() as executor:
        for _ in range(2):
            assert dict(db.map(double, executor=executor)) == EXPECTED
        assert executor.submit(len, "open").result() == 4


@WITHOUT_SERVER
def test_keys_may_be_named(db: EBooklet[Any]) -> None:
    """In any iterable; unknown ones, and things that are no keys, are skipped."""
    asked = ["k2", "unknown", "k10", "k6", 5, None, "k2"]
    with ThreadPoolExecutor() as pool:
        found = list(db.map(double, iter(asked), executor=pool))  # type: ignore[arg-type]  # wrong on purpose
        assert sorted(found) == [("k10", 20), ("k2", 4), ("k2", 4)]
        assert list(db.map(double, [], executor=pool)) == []
        with pytest.raises(TypeError, match="one string"):
            list(db.map(double, "k2", executor=pool))
        assert list(db.map(lambda key, _: key, executor=pool, keys=("k0", "k1"))) == ["k0", "k1"]


@WITHOUT_SERVER
def test_results_come_as_they_finish(db: EBooklet[Any]) -> None:
    """A slow item holds up no other."""
    others = threading.Event()

    def wait_for_others(key: str, value: int) -> str:
        if key == "k0":
            assert others.wait(60)
        return key

    with ThreadPoolExecutor(2) as pool:
        results = db.map(wait_for_others, ["k0", "k1", "k2"], n_workers=2, executor=pool)
        assert next(results) == "k1"
        others.set()
        assert sorted(results) == ["k0", "k2"]


@WITHOUT_SERVER
def test_an_error_cancels_the_rest(db: EBooklet[Any]) -> None:
    """What was under way and not begun is not run, and the database goes on."""
    ran: list[str] = []

    def run(key: str, value: int) -> None:
        ran.append(key)
        raise LookupError(key)

    late = Late(4)
    with pytest.raises(LookupError, match="k0"):
        list(db.map(run, n_workers=2, executor=late))
    assert ran == ["k0"]
    assert [future.cancelled() for future in late.futures] == [False, True, True, True]
    assert db["k0"] == 0


class Dying(Inline):
    """Its worker ends without a word at the second batch; then it takes no more."""

    submitted = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        if self.submitted == 2:
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("a process was terminated abruptly"))
            return future
        return super().submit(fn, *args, **kwargs)


@WITHOUT_SERVER
def test_a_worker_that_dies(db: EBooklet[Any]) -> None:
    """Which items were under way is told, and that nothing was changed."""
    with pytest.raises(BrokenExecutor) as told:
        list(db.map(double, ["k0", "k2", "k4"], n_workers=1, executor=Dying()))
    assert any(
        "Under way were 'k2'" in note and "run it again" in note for note in told.value.__notes__
    )


@WITHOUT_SERVER
def test_a_failed_fetch_raises(place: Place) -> None:
    """A value that cannot be fetched is no missing one."""
    store = FaultyRemoteStore(place.store()[0])
    with ebooklet.open(store, None, "c", value_serializer="json") as db:
        db.update({f"k{n}": "x" * 100 for n in range(5)})
        db.push()
    with ebooklet.open(store, None) as db:
        store.add(StoreRule(StoreFault.REFUSE, op="get", times=None))
        with pytest.raises(ebooklet.RemoteUnavailable):
            list(db.map(where, executor=Inline()))
        store.clear()
        assert len(list(db.map(where, executor=Inline()))) == 5


@WITHOUT_SERVER
def test_writing_while_taking_results(db: EBooklet[Any]) -> None:
    """Allowed, also of new keys and of deletions; the iteration is over what there was."""
    expected = set(db)
    seen = []
    for key in db.map(lambda key, _: key, executor=Inline(), n_workers=1):
        seen.append(key)
        db[f"result of {key}"] = 1
        db[key] = -1
        if key == "k0":
            del db["k9"]
    assert set(seen) in (expected, expected - {"k9"})
    assert len(seen) == len(set(seen))
    assert set(db) == expected - {"k9"} | {f"result of {key}" for key in seen} | (
        {"k9"} & set(seen)
    )


@pytest.mark.parametrize("how", ["map", "items"])
def test_memory_is_bounded(how: str) -> None:
    """No more values are fetched, and sent off, than a window ahead of who takes the results."""
    store = CountingStore()
    size, n_values = 2 * MIB, 40
    with ebooklet.open(store, None, "c", value_serializer="bytes") as db:
        for number in range(n_values):
            db[f"k{number:02}"] = number.to_bytes(2) * (size // 2)
        db.push()
    with ebooklet.open(store, None) as db:
        store.moved = 0
        late = Late(4)
        results = (
            db.map(lambda key, _: key, n_workers=2, executor=late) if how == "map" else db.items()
        )
        for taken, _ in enumerate(results):
            assert len(late.waiting) <= 4
            assert store.moved <= (taken + 5) * size + 18 * MIB
            if taken == n_values - 6:
                break
        assert taken == n_values - 6


@WITHOUT_SERVER
def test_many_small_values_go_together(place: Place) -> None:
    """They are fetched by few requests and sent in few batches."""
    store = FaultyRemoteStore(place.store()[0])
    with ebooklet.open(store, None, "c", value_serializer="json") as db:
        db.update({f"k{n:05}": "x" * 100 for n in range(5000)})
        db.push()
    calls = 0

    class Counting(Inline):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            nonlocal calls
            calls += 1
            return super().submit(fn, *args, **kwargs)

    with ebooklet.open(store, None) as db:
        store.calls.clear()
        assert sum(1 for _ in db.map(where, executor=Counting())) == 5000
    assert len([call for call in store.calls if call.op == "get"]) < 100
    assert calls < 500


@WITHOUT_SERVER
def test_what_map_refuses(db: EBooklet[Any]) -> None:
    """Wrong numbers of workers at once, a closed handle at the next step."""
    for wrong, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="n_workers"):
            db.map(double, n_workers=wrong)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match=r"executor must be .* not int; .* n_workers"):
        db.map(double, executor=5)  # type: ignore[call-overload]  # wrong on purpose
    with processes() as pool, pytest.raises(TypeError, match="at the top of a module"):
        db.map(lambda key, _: key, executor=pool)
    results = db.map(where, executor=Inline())
    next(results)
    db.close()
    with pytest.raises(ValueError, match="closed"):
        list(results)
    with pytest.raises(ValueError, match="closed"):
        db.map(double)
