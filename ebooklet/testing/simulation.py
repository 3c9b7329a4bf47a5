"""Many processes in virtual time: a discrete-event simulation of clients of one store.

Each task is a thread, and exactly one runs at a time; whenever it sleeps or waits for the store,
the one that is due next goes on. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import os
import random
import sys
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from ebooklet.adapters.objects import read_body
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.errors import OutcomeUnknown, RemoteUnavailable, StoreError
from ebooklet.ports.remote_store import Body, Condition, ObjectMeta, StoredObject

__all__ = ["RoughWorldStore", "World", "WorldClock", "WorldStore", "on_one_processor"]


@contextmanager
def on_one_processor(number: int) -> Iterator[None]:
    """Have simulations made inside run on one processor, where threads can be bound to one.

    Their tasks take turns: one that passes to another processor costs more time than most tasks do.

    Args:
        number: which, counted round: for simulations in several processes at once.
    """
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[number % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class _Ended(BaseException):
    """A task that still waits when its world has ended lets go of all it holds."""


class _Turn:
    """What a task waits for. A bare lock: an event would take most of the time of a simulation."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def give(self) -> None:
        """Once only."""
        self._lock.release()

    def wait(self) -> None:
        """Until it is given."""
        self._lock.acquire()


class World:
    """Virtual time and the tasks in it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.now = 1000.0
        self.failure: BaseException | None = None
        self._ended = False
        self._queue: list[tuple[float, float, _Turn]] = []
        self._over = _Turn()

    def spawn(self, task: Callable[[], None]) -> None:
        """Add a task, to be started by `run`."""
        turn = _Turn()

        def body() -> None:
            turn.wait()
            if self._ended:
                return
            try:
                task()
            except BaseException as exc:  # noqa: BLE001 - raised again by `run`
                self.failure = self.failure or exc
            if not self._ended:
                self._go_on()

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        self._due(self.random.random() * 2, turn)

    def run(self) -> None:
        """Run everything to its end, or to the first failure."""
        self._go_on()
        self._over.wait()
        self._ended = True
        for _, _, turn in self._queue:
            turn.give()
        if self.failure is not None:
            raise self.failure

    def sleep(self, seconds: float) -> None:
        """Called by a task: let others run for so long. What is left after the end does not wait."""
        if self._ended:
            return
        turn = _Turn()
        self._due(max(0.0, seconds), turn)
        self._go_on()
        turn.wait()
        if self._ended:
            raise _Ended

    def _due(self, seconds: float, turn: _Turn) -> None:
        heapq.heappush(self._queue, (self.now + seconds, self.random.random(), turn))

    def _go_on(self) -> None:
        """Let whoever is due next run; `run` itself, where nobody is or something has failed."""
        if self._queue and self.failure is None:
            due, _, turn = heapq.heappop(self._queue)
            self.now = max(self.now, due)
            turn.give()
        else:
            self._over.give()


class WorldClock:
    """A task's clock: runs at its own rate from its own start."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rate = world.random.uniform(0.98, 1.02)
        self._offset = world.random.uniform(-1e6, 1e6)

    def now_us(self) -> int:
        """Years off."""
        return int((self.monotonic() + 2e9) * 1e6)

    def monotonic(self) -> float:
        """Seconds of this machine."""
        return self._world.now * self._rate + self._offset

    def sleep(self, seconds: float) -> None:
        """At times much longer: the process was suspended."""
        suspended = self._world.random.random() < 0.02
        self._world.sleep(seconds / self._rate + (300 if suspended else 0))

    def token_bytes(self, n: int) -> bytes:
        """From the world's seed."""
        return self._world.random.randbytes(n)


class WorldStore(MemoryRemoteStore):
    """A store whose requests and answers take time, get lost, or land late.

    Args:
        world: gives time and chance.
        coarse: whether times are told in whole seconds.
        conditions: whether conditions on writes are honoured; otherwise they are ignored.
    """

    def __init__(self, world: World, *, coarse: bool, conditions: bool) -> None:
        super().__init__(now_ms=self._told_ms)
        self._world = world
        self._coarse = coarse
        self._conditions = conditions

    def _told_ms(self) -> int:
        return int(self._world.now) * 1000 if self._coarse else int(self._world.now * 1000)

    def _delay(self) -> None:
        slow = self._world.random.random() < 0.05
        self._world.sleep(self._world.random.random() * (5 if slow else 0.1))

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """Delayed both ways."""
        self._delay()
        found = super().get(key, start=start, stop=stop)
        self._delay()
        return found

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """Delayed both ways; a conditional one loses its answer at times."""
        self._delay()
        lost = condition is not None and self._world.random.random() < 0.1
        if lost and self._world.random.random() < 0.5:
            self._delay()
            raise OutcomeUnknown("the request was lost", op="put", key=key)
        meta = super().put(key, body, condition=condition if self._conditions else None)
        self._delay()
        if lost:
            raise OutcomeUnknown("the answer was lost", op="put", key=key)
        return meta

    def delete(self, keys: Iterable[str]) -> None:
        """One by one."""
        for key in keys:
            self._delay()
            super().delete([key])

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Delayed both ways."""
        self._delay()
        found = list(super().list(prefix, after=after))
        self._delay()
        return iter(found)


class RoughWorldStore(WorldStore):
    """A `WorldStore` on which writes also arrive late, or twice, or without an answer.

    As far as a server may: a conditional write, or one under a name that is written once, may do
    so whenever it likes. One that nothing but a lock protects may lose its answer, and is not late.
    Whoever gets no answer to a write of a protected name often cannot read it at once either.

    Args:
        world: gives time and chance.
        conditions: whether conditions on writes are honoured.
        protected: names that nothing but a lock protects where they are not.
        rough: how often something happens to a write, from 0 to 1.
    """

    def __init__(
        self, world: World, *, conditions: bool, protected: Container[str], rough: float
    ) -> None:
        super().__init__(world, coarse=not conditions, conditions=conditions)
        self._protected = protected
        self._rough = rough
        self._cut_off: set[int] = set()  # threads whose next read of a protected name fails

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """Delayed both ways; see the class."""
        if key in self._protected and threading.get_ident() in self._cut_off:
            self._cut_off.remove(threading.get_ident())
            self._delay()
            raise RemoteUnavailable("the store was not reached", op="get", key=key)
        return super().get(key, start=start, stop=stop)

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """Delayed both ways; see the class."""
        try:
            return self._put_roughly(key, read_body(body), condition)
        except OutcomeUnknown:
            if key in self._protected and self._world.random.random() < 0.5:
                self._cut_off.add(threading.get_ident())
            raise

    def _put_roughly(self, key: str, data: bytes, condition: Condition | None) -> ObjectMeta:
        world = self._world
        if world.random.random() < self._rough:
            locked = key in self._protected and not self._conditions
            once = key in self._protected or ".d/" in key  # no lock's own object
            fate = world.random.choice(("lost", "unanswered", "late", "twice"))
            if once and fate == "lost":
                self._delay()
                raise OutcomeUnknown("the request was lost", op="put", key=key)
            if once and (fate == "unanswered" or (locked and fate == "twice")):
                super().put(key, data, condition=condition)
                raise OutcomeUnknown("the answer was lost", op="put", key=key)
            if once and not locked:
                world.spawn(lambda: self._arrive(key, data, condition))
                if fate == "late":
                    raise OutcomeUnknown("no answer came", op="put", key=key)
        return super().put(key, data, condition=condition)

    def _arrive(self, key: str, data: bytes, condition: Condition | None) -> None:
        self._world.sleep(self._world.random.random() * 20)
        with suppress(StoreError):
            MemoryRemoteStore.put(self, key, data, condition=condition)
