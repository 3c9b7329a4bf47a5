"""Running a function over many items, in worker processes or in any executor (CONTRACT §5, `map`).

Values travel as they are stored, and are decoded where the function runs. Items go in batches, few
of them at a time: what is under way is bounded, however large the database and however slow the
workers or whoever takes the results.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import ExitStack, contextmanager
from itertools import chain
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, TypeAlias

from ebooklet.core.batches import take_batch
from ebooklet.core.keys import check_keys
from ebooklet.core.numbers import check_whole
from ebooklet.ports.serializer import Serializer
from ebooklet.services.conflicts import describe
from ebooklet.services.iterating import iter_keys
from ebooklet.services.staging.writer import StagedWriter
from ebooklet.services.streaming import stream
from ebooklet.services.working_copy import WorkingCopy

Item: TypeAlias = tuple[str, bytes]

_BATCHES_A_WORKER: Final = 2  # one that it works on, and one that waits for it


class _Done(NamedTuple):
    results: list[Any]
    seconds: float


class _BatchSize(NamedTuple):
    n_items: int
    n_bytes: int
    quick_s: float  # a batch that took less costs more to send than it need


_YIELDED: Final = _BatchSize(256, 1 << 20, 0.02)
# Each staging has requests of its own, and a segment: fewer and larger ones.
_WRITTEN: Final = _BatchSize(16_384, 8 << 20, 2.0)


class _Work(NamedTuple):
    run: Callable[..., _Done]
    given: tuple[object, ...]  # to each call, before the batch
    size: _BatchSize


def map_items(
    copy: WorkingCopy,
    serializer: Serializer,
    func: Callable[[str, Any], Any],
    keys: Iterable[str] | None,
    n_workers: int | None,
    executor: Executor | None,
    writer: StagedWriter[Any] | None = None,
) -> Generator[Any, None, None]:
    """Yield what `func(key, value)` returns, as it finishes; None is left out.

    Args:
        copy: the working copy.
        serializer: of the values.
        func: called where the executor runs it.
        keys: which; those without a value are left out. None: all that there are when the
            iteration begins.
        n_workers: number of processes, or of an executor's workers to be kept busy.
        executor: stays open; None starts processes, and ends them with the iteration.
        writer: writes the results, pairs (key, value), in the worker; what it staged is yielded.

    Raises:
        TypeError: `func` runs in other processes of this machine, and cannot be sent there; or
            `executor` is none.
        BrokenExecutor: a worker died; a note says which items were under way.
        BaseException: whatever `func` raised; what was not begun by then is not run.
    """
    copy.require_open()
    if n_workers is not None:
        check_whole("n_workers", n_workers)
    n_workers = n_workers or os.cpu_count() or 1
    _check_executor(executor)
    if executor is None or _is_process_pool(executor):
        _check_can_travel(func=func, value_serializer=serializer, writer=writer)
    names = chain.from_iterable(iter_keys(copy)) if keys is None else check_keys(keys)
    values = stream(copy, names)
    items = ((key, found.value) for key, found in values if found is not None)
    if writer is None:
        work = _Work(_apply, (func, serializer), _YIELDED)
    else:
        work = _Work(_write, (func, serializer, writer), _WRITTEN)
    return _run(copy, items, work, n_workers, executor)


def _run(
    copy: WorkingCopy,
    items: Iterator[Item],
    work: _Work,
    n_workers: int,
    executor: Executor | None,
) -> Generator[Any, None, None]:
    done: SimpleQueue[Future[_Done]] = SimpleQueue()
    under_way: dict[Future[_Done], list[str]] = {}  # with the keys of each, the oldest first
    limit = 1  # items of a batch; grows while batches are quick
    with _naming(under_way), ExitStack() as stack:
        pool = stack.enter_context(_processes(n_workers)) if executor is None else executor
        stack.callback(_cancel, under_way)
        exhausted = False
        while True:
            while not exhausted and len(under_way) < _BATCHES_A_WORKER * n_workers:
                batch, exhausted = take_batch(items, limit, work.size.n_bytes)
                if batch:
                    future = pool.submit(work.run, *work.given, batch)
                    under_way[future] = [key for key, _ in batch]
                    future.add_done_callback(done.put)
            if not under_way:
                return
            finished = done.get()
            copy.require_open()
            results, seconds = finished.result()
            del under_way[finished]
            if seconds < work.size.quick_s:
                limit = min(2 * limit, work.size.n_items)
            yield from results


def _apply(func: Callable[[str, Any], Any], serializer: Serializer, batch: Sequence[Item]) -> _Done:
    """What runs in the worker."""
    began = time.perf_counter()
    results = [func(key, serializer.loads(raw)) for key, raw in batch]
    return _Done([one for one in results if one is not None], time.perf_counter() - began)


def _write(
    func: Callable[[str, Any], Any],
    serializer: Serializer,
    writer: StagedWriter[Any],
    batch: Sequence[Item],
) -> _Done:
    """What runs in the worker, where it writes."""
    began = time.perf_counter()
    results = []
    for key, raw in batch:
        one = func(key, serializer.loads(raw))
        if one is None:
            continue
        if not isinstance(one, tuple) or len(one) != 2 or not isinstance(one[0], str):
            raise TypeError(
                "with write=True the function returns pairs (key, value), the key a str, or None; "
                f"for {key!r} it returned {_kind(one)}"
            )
        results.append(one)
    if not results:
        return _Done([], time.perf_counter() - began)
    with writer:
        writer.update(results)
    return _Done([writer.result], time.perf_counter() - began)


def _kind(one: object) -> str:
    """What a result is, for a message: values may be large, or secret."""
    if not isinstance(one, tuple):
        return f"one {type(one).__name__}"
    if len(one) != 2:
        return f"a tuple of {len(one)}"
    return f"a key of type {type(one[0]).__name__}"


@contextmanager
def _naming(under_way: Mapping[Future[_Done], list[str]]) -> Iterator[None]:
    """Say what was under way when a worker died."""
    try:
        yield
    except BrokenExecutor as exc:
        keys = list(chain.from_iterable(under_way.values()))
        if keys:
            exc.add_note(
                f"Under way were {describe(keys)}: whatever a worker died of is among them. The "
                "database is as it was, so that it is safe to run it again"
            )
        exc.add_note(
            "A worker process ended at once, or was killed. Processes import the program anew: what "
            "starts them belongs under `if __name__ == '__main__':`, and the function in a module "
            "or a script, not in an interactive session"
        )
        raise


def _cancel(under_way: Iterable[Future[_Done]]) -> None:
    for future in under_way:
        future.cancel()


def _check_executor(executor: object) -> None:
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor must be one of concurrent.futures, or anything that submits as they do, not "
            f"{type(executor).__name__}; how many processes there are is n_workers"
        )


def _is_process_pool(executor: Executor) -> bool:
    """Whether it is one of Python's own, which pickles; others may have better ways."""
    module = sys.modules.get("concurrent.futures.process")  # or else there is none of them
    return module is not None and isinstance(executor, module.ProcessPoolExecutor)


def _check_can_travel(**parts: object) -> None:
    for what, thing in parts.items():
        try:
            pickle.dumps(thing)
        except Exception as exc:  # pickling runs foreign code, which may raise anything
            raise TypeError(
                f"{what} cannot be sent to another process ({exc}): it must be defined at the top "
                "of a module, and be no lambda or inner function. Or pass an executor that needs "
                "no pickling, as executor=ThreadPoolExecutor()"
            ) from exc


@contextmanager
def _processes(n_workers: int) -> Iterator[Executor]:
    """New processes, which end with the block; work not yet begun is dropped.

    Never forked ones: a forked child shares the position in the database's file with its parent,
    and holds copies of locks that nobody will release in it.
    """
    # Here, as they load much that only those need who start processes.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(n_workers, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
