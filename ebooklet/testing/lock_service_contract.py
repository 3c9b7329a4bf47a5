"""What every lock service owes those who write: the contract suite of the LockService port."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final, Protocol
from uuid import uuid4

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.holding import HEARTBEAT_THREAD
from ebooklet.errors import LockLostError, LockTimeout
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease, LockService
from ebooklet.testing.clock import SkewedClock
from ebooklet.testing.contract import Contract

__all__ = ["LockServiceContract", "OpenService", "Traces"]


class OpenService(Protocol):
    """Opens another client of the store that a contract's test uses."""

    def __call__(self, brisk: bool, clock: Clock = ...) -> LockService:
        """With `brisk`, a dead holder should block others for a second or two at most."""
        ...


Traces = Callable[[str], list[str]]

_LONG_S: Final = 60.0  # longer than any test waits when all is well


class LockServiceContract(Contract):
    """Every lock service passes this: subclass it and give it three fixtures.

    - `open_service(brisk, clock)` opens another client of the same store, by default with the
      machine's own clock. With `brisk`, a dead holder should block others for a second or two at
      most.
    - `traces(name)` lists what the store holds of a lock: objects, files.
    - `worker_source` is Python text that defines the same function for other processes, or None
      where no other process can reach the store; those tests are skipped then.

    Numbers in the docstrings are those of the port's promises.
    """

    contenders: ClassVar[int] = 16  # threads; fewer where a change of holder is slow
    processes: ClassVar[int] = 16
    takes_from_suspended: ClassVar[bool] = True  # False where only force can

    @pytest.fixture
    def name(self) -> str:
        """A lock that no other test has used."""
        return f"db-{uuid4().hex}"

    def test_second_holder_waits_in_vain(self, open_service: OpenService, name: str) -> None:
        """1, 5: while one holds, another gets `LockTimeout`, which is a `TimeoutError`."""
        lease = open_service(False).acquire(name, timeout=_LONG_S)
        with pytest.raises(TimeoutError) as caught:
            open_service(False).acquire(name, timeout=0)
        assert isinstance(caught.value, LockTimeout)
        lease.check()
        lease.release()

    def test_timeout_names_the_holder(self, open_service: OpenService, name: str) -> None:
        """5: the error tells host, process, purpose and the way out."""
        lease = open_service(False).acquire(name, timeout=_LONG_S, purpose="a long push")
        with pytest.raises(LockTimeout) as caught:
            open_service(False).acquire(name, timeout=0)
        message = str(caught.value)
        for word in (lease.info.host, str(lease.info.pid), "a long push", "force_lock", name):
            assert word in message
        lease.release()

    def test_a_wait_takes_its_time(self, open_service: OpenService, name: str) -> None:
        """5: waiting in vain lasts as long as was asked for."""
        clock = SystemClock()
        lease = open_service(False).acquire(name, timeout=_LONG_S)
        began = clock.monotonic()
        with pytest.raises(LockTimeout):
            open_service(False).acquire(name, timeout=0.3)
        assert clock.monotonic() - began >= 0.3
        lease.verify()
        lease.release()

    def test_a_wait_ends_with_the_holder(self, open_service: OpenService, name: str) -> None:
        """5: who waits gets the lock when it is released, knows that it waited, and not before."""
        lease = open_service(False).acquire(name, timeout=_LONG_S)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(open_service(False).acquire, name, timeout=_LONG_S)
            with pytest.raises(FutureTimeout):
                waiting.result(0.2)
            lease.verify()
            lease.release()
            after = waiting.result(_LONG_S)
        assert after.token > lease.token
        assert after.waited
        after.release()

    def test_release_lets_the_next_in(self, open_service: OpenService, name: str) -> None:
        """1, 2: after a release another client enters, with a greater token."""
        first = open_service(False).acquire(name, timeout=_LONG_S)
        first.release()
        second = open_service(False).acquire(name, timeout=_LONG_S)
        assert second.token > first.token
        second.release()

    def test_release_twice_frees_once(self, open_service: OpenService, name: str) -> None:
        """A second release does not free the next holder's lock."""
        first = open_service(False).acquire(name, timeout=_LONG_S)
        first.release()
        second = open_service(False).acquire(name, timeout=_LONG_S)
        first.release()
        second.verify()
        second.release()

    def test_released_lease_is_lost(self, open_service: OpenService, name: str) -> None:
        """What was given back must not be taken for held."""
        lease = open_service(False).acquire(name, timeout=_LONG_S)
        before = lease.lost
        lease.release()
        assert (before, lease.lost) == (False, True)
        with pytest.raises(LockLostError):
            lease.check()
        with pytest.raises(LockLostError):
            lease.verify()

    def test_token_is_greater_than_the_fence(self, open_service: OpenService, name: str) -> None:
        """2: the head's token counts, also where the lock's own trace is gone."""
        service = open_service(False)
        fence = 1 << 45
        first = service.acquire(name, timeout=_LONG_S, fence=fence)
        assert first.token > fence
        first.release()
        second = service.acquire(name, timeout=_LONG_S, fence=first.token)
        assert second.token > first.token
        second.release()

    def test_tokens_increase_through_many_holders(
        self, open_service: OpenService, name: str
    ) -> None:
        """2: each of several clients in a row gets a greater token."""
        tokens = []
        for _ in range(3):
            lease = open_service(False).acquire(name, timeout=_LONG_S)
            tokens.append(lease.token)
            lease.release()
        assert tokens == sorted(set(tokens))

    def test_one_holder_among_threads(self, open_service: OpenService, name: str) -> None:
        """1, 2: many clients at once are inside one at a time, with growing tokens."""
        assert self.contenders > 1, "one alone contends with nobody"
        inside: list[int] = []
        most: list[int] = []
        tokens: list[int] = []

        def contend(number: int) -> None:
            lease = open_service(False).acquire(name, timeout=_LONG_S)
            inside.append(number)
            most.append(len(inside))
            tokens.append(lease.token)
            inside.remove(number)
            lease.release()

        with ThreadPoolExecutor(self.contenders) as pool:
            list(pool.map(contend, range(self.contenders)))
        assert most == [1] * self.contenders
        assert tokens == sorted(set(tokens))

    def test_one_holder_among_processes(
        self, worker_source: str | None, name: str, tmp_path: Path
    ) -> None:
        """1, 2: real processes are inside one at a time, with growing tokens."""
        assert self.processes > 1, "one alone contends with nobody"
        arguments = ("count", name, "2", str(tmp_path))
        with _Worker.many(worker_source, self.processes, *arguments) as workers:
            answers = [worker.answer()["tokens"] for worker in workers]
        assert [len(told) for told in answers if isinstance(told, list)] == [2] * self.processes
        tokens = [int(line) for line in (tmp_path / "tokens").read_text().splitlines()]
        assert tokens == sorted(set(tokens))
        assert len(tokens) == 2 * self.processes

    @pytest.mark.parametrize("ahead_h", [-7, 5])
    def test_wall_clocks_wrong_by_hours(
        self, open_service: OpenService, name: str, ahead_h: int
    ) -> None:
        """4: a client whose clock is hours off waits as all do, and is followed as all are."""
        wrong = open_service(False, SkewedClock(SystemClock(), 3600 * ahead_h))
        first = open_service(False).acquire(name, timeout=_LONG_S)
        with pytest.raises(LockTimeout):
            wrong.acquire(name, timeout=0)
        assert wrong.break_lock(name, older_than_s=1800) == []
        first.verify()
        first.release()
        second = wrong.acquire(name, timeout=_LONG_S)
        assert second.token > first.token
        with pytest.raises(LockTimeout):
            open_service(False).acquire(name, timeout=0)
        assert open_service(False).break_lock(name, older_than_s=1800) == []
        second.verify()
        second.release()
        third = open_service(False).acquire(name, timeout=_LONG_S)
        assert third.token > second.token
        third.release()

    def test_what_stays_behind_does_not_grow(
        self, open_service: OpenService, traces: Traces, name: str
    ) -> None:
        """6: holders and those who waited in vain leave one trace at most, and no thread."""
        for _ in range(3):
            lease = open_service(False).acquire(name, timeout=_LONG_S)
            with pytest.raises(LockTimeout):
                open_service(False).acquire(name, timeout=0)
            lease.release()
        assert len(traces(name)) <= 1
        hearts = [thread for thread in threading.enumerate() if thread.name == HEARTBEAT_THREAD]
        for thread in hearts:
            thread.join(_LONG_S)
        assert not any(thread.is_alive() for thread in hearts)

    def test_names_do_not_touch_each_other(self, open_service: OpenService, name: str) -> None:
        """Locks of neighbouring names are held at once, and freed alone."""
        service = open_service(False)
        names = [name, name + "2", name.upper(), f"{name}/b", f"folder/{name}"]
        leases = [service.acquire(each, timeout=0) for each in names]
        leases[0].release()
        for lease in leases[1:]:
            lease.verify()
            lease.release()

    def test_inspect_tells_the_holder(self, open_service: OpenService, name: str) -> None:
        """The holder's record is seen by others; before and after nobody holds."""
        watcher = open_service(False)
        assert watcher.inspect(name) is None
        lease = open_service(False).acquire(name, timeout=_LONG_S, purpose="gc")
        info = watcher.inspect(name)
        assert info is not None
        assert (info.owner, info.pid, info.host) == (
            lease.info.owner,
            lease.info.pid,
            lease.info.host,
        )
        assert (info.purpose, info.token, info.state) == ("gc", lease.token, "held")
        assert info.age_s is None or info.age_s >= 0
        lease.release()
        after = watcher.inspect(name)
        assert after is None or after.state == "free"

    def test_failed_acquire_leaves_nothing(self, open_service: OpenService, name: str) -> None:
        """6: after a timeout and a release, the next need not wait for anybody's expiry."""
        lease = open_service(False).acquire(name, timeout=_LONG_S)
        for _ in range(2):
            with pytest.raises(LockTimeout):
                open_service(False).acquire(name, timeout=0)
        lease.verify()
        lease.release()
        open_service(False).acquire(name, timeout=0).release()

    def test_force_takes_it_from_a_live_holder(self, open_service: OpenService, name: str) -> None:
        """1, 2: by force another enters with a greater token, and the former holder loses."""
        former = open_service(True).acquire(name, timeout=_LONG_S)
        lease = open_service(True).acquire(name, timeout=0, force=True)
        assert lease.token > former.token
        assert lease.waited
        with pytest.raises(LockLostError):
            former.verify()
        assert former.lost
        former.release()
        # Not by `verify`: brisk clocks run out on a busy machine.
        info = open_service(True).inspect(name)
        assert info is not None
        assert info.owner == lease.info.owner
        lease.release()

    def test_break_lock_frees_others_only(self, open_service: OpenService, name: str) -> None:
        """Breaking returns whom it broke, spares the young and the breaker's own."""
        holder, breaker = open_service(True), open_service(True)
        assert breaker.break_lock(name) == []
        lease = holder.acquire(name, timeout=_LONG_S)
        assert holder.break_lock(name) == []
        assert breaker.break_lock(name, older_than_s=3600) == []
        assert [info.owner for info in breaker.break_lock(name)] == [lease.info.owner]
        with pytest.raises(LockLostError):
            lease.verify()
        after = breaker.acquire(name, timeout=_LONG_S, fence=lease.token)
        assert after.token > lease.token
        after.release()
        lease.release()

    def test_dropped_handle_is_freed(self, open_service: OpenService, name: str) -> None:
        """A lease that is garbage does not block the next holder."""
        service = open_service(False)
        lease: Lease | None = service.acquire(name, timeout=_LONG_S)
        assert lease is not None
        token = lease.token
        lease = None
        gc.collect()
        after = open_service(False).acquire(name, timeout=_LONG_S)
        assert after.token > token
        after.release()

    def test_killed_holder_is_followed(
        self, open_service: OpenService, worker_source: str | None, traces: Traces, name: str
    ) -> None:
        """3, 6: after SIGKILL the next enters within `takeover_s`, with a greater token.

        It clears away what the dead one left.
        """
        service = open_service(True)
        with _Worker.many(worker_source, 1, "hold", name) as (worker,):
            token = worker.answer()["token"]
            worker.process.kill()
            worker.process.wait()
            lease = service.acquire(name, timeout=service.takeover_s + 5)
        assert isinstance(token, int)
        assert lease.token > token
        lease.release()
        assert len(traces(name)) <= 1

    def test_suspended_holder_loses_politely(
        self, open_service: OpenService, worker_source: str | None, name: str
    ) -> None:
        """1: a holder that was stopped knows on waking, without a request, that it lost.

        Where the lock cannot be taken from it, nobody else gets it meanwhile.
        """
        service = open_service(True)
        with _Worker.many(worker_source, 1, "hold", name) as (worker,):
            worker.answer()
            worker.process.send_signal(signal.SIGSTOP)
            if self.takes_from_suspended:
                lease = service.acquire(name, timeout=service.takeover_s + 5)
            else:
                with pytest.raises(LockTimeout):
                    service.acquire(name, timeout=0)
                lease = service.acquire(name, timeout=0, force=True)
            worker.process.send_signal(signal.SIGCONT)
            assert worker.ask("lost") == {"lost": True}
            assert worker.ask("verify")["lost"] is True
            assert worker.ask("release") == {"released": True}
            info = service.inspect(name)
        assert info is not None
        assert info.owner == lease.info.owner
        lease.release()

    def test_forked_child_does_no_harm(self, worker_source: str | None, name: str) -> None:
        """A child's copy of a lease is lost, and releasing it leaves the parent's alone."""
        with _Worker.many(worker_source, 1, "fork", name) as (worker,):
            assert worker.answer() == {"child_lost": True, "parent_lost": False}


class _Worker:
    """A process running `ebooklet.testing.lock_worker`."""

    def __init__(self, source: str, arguments: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "ebooklet.testing.lock_worker", source, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    @classmethod
    @contextmanager
    def many(cls, source: str | None, number: int, *arguments: str) -> Iterator[list[_Worker]]:
        """Start some; none is left behind."""
        if source is None:
            pytest.skip("no other process can reach this store")
        workers = [cls(source, arguments) for _ in range(number)]
        try:
            yield workers
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.communicate()

    def answer(self) -> dict[str, object]:
        """The next line it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"the worker ended with {self.process.wait()} and no answer")
        answer: dict[str, object] = json.loads(line)
        return answer

    def ask(self, question: str) -> dict[str, object]:
        """Say a line and read the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.answer()
