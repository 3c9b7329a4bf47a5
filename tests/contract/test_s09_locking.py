"""CONTRACT §9: one writer at a time, remotely and locally, and what becomes of it.

Waiting costs nothing here: whoever waits does so on a clock that moves when it sleeps, while the
servers, the files and the other processes are real.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.file import open_service as open_file_locks
from ebooklet.adapters.locks.lease import open_service as open_leases
from ebooklet.adapters.locks.null import open_service as open_null
from ebooklet.adapters.locks.ticket import open_service as open_tickets
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.database import EBooklet
from ebooklet.errors import LockLostError, LockTimeout
from ebooklet.ports.lock_service import Lease, LockService
from ebooklet.services.departing import await_departures
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import S3Server
from tests.contract.conftest import Place, make_place

pytestmark = pytest.mark.usefixtures("lean_processes")

WRITER = """
import pickle, sys
import ebooklet
where, path = pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2] or None
db = ebooklet.open(where, path, "c", "json", lock=sys.argv[3])
db["theirs"] = 1
db.sync()
print("open", flush=True)
sys.stdin.readline()
"""
YEAR_US = 365 * 24 * 3600 * 1_000_000

leases = pytest.mark.parametrize("place", ["memory", "moto"], indirect=True)
in_memory = pytest.mark.parametrize("place", ["memory"], indirect=True)


@pytest.fixture(params=["file", "seaweedfs", "rclone"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Places that other processes reach: one of each kind of lock."""
    return make_place(request.param, tmp_path, request)


@contextmanager
def another_process(
    place: Place, file: str | None = None, lock: str = "exclusive"
) -> Iterator[subprocess.Popen[str]]:
    """A process that has the database open for writing, with one unpushed key."""
    where = pickle.dumps(place.connect("db")).hex()
    path = "" if file is None else str(place.path(file))
    argv = [sys.executable, "-c", WRITER, where, path, lock]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def created(place: Place, **options: Any) -> EBooklet[Any]:
    """An open writer of a database that exists."""
    db = place.open(file=None, **options)
    db["k"] = 0
    db.push()
    return db


def kinds(db: EBooklet[Any]) -> dict[str, str]:
    return {change["key"]: change["kind"] for change in db.changes()}


class TestOneWriter:
    """Of a remote, from open to close."""

    def test_writers_lock_and_readers_do_not(self, place: Place) -> None:
        """w, c and n take the lock, also before there is a database, and give it back."""
        with place.open(file="new") as creating:
            assert creating.lock is not None
            with pytest.raises(LockTimeout):
                place.open(file=None, lock_timeout=0)
            creating["k"] = 0
            creating.push()
        flags: list[Any] = ["w", "c", "n"]
        for flag in flags:
            with place.open(file=None, flag=flag) as writer:
                assert writer.lock is not None
                writer.lock.verify()
                with pytest.raises(TimeoutError):
                    place.open(file=None, flag=flag, lock_timeout=0)
                with place.open(file=None, flag="r") as reader:
                    assert reader.lock is None
                    assert dict(reader) == {"k": 0}
            assert writer.lock.lost

    def test_locks_lie_beside_the_database(self, place: Place) -> None:
        """Not below `db_key + "/"`, and a database's name cannot look like one."""
        with created(place):
            names = set(place.objects())
        assert not [name for name in names if name.startswith("db/")]
        if place.kind != "file":  # its lock is a file that is no object
            assert "db.lock" in names
        with pytest.raises(ValueError, match="lock"):
            place.open("db.lock")

    def test_in_mode_lock(self, locked_place: Place) -> None:
        """Tickets beside the database, gone when it is closed."""
        with created(locked_place) as writer:
            assert writer.lock is not None
            tickets = [name for name in locked_place.objects() if ".lock" in name]
            assert len(tickets) == 2
            assert all(name.startswith("db.lock.") for name in tickets)
            with pytest.raises(LockTimeout):
                locked_place.open(file=None, flag="w", lock_timeout=0)
        assert not [name for name in locked_place.objects() if ".lock" in name]


class TestWaiting:
    """For another writer."""

    def test_the_error_names_holder_age_and_remedy(self, shared_place: Place) -> None:
        """Process, host, how long it has the lock, what to do; and how long was waited."""
        clock = ManualClock()
        with another_process(shared_place) as process:
            with pytest.raises(LockTimeout) as caught:
                shared_place.open(file=None, clock=clock, lock_timeout=12)
            message = str(caught.value)
        for words in (str(process.pid), socket.gethostname(), "'write'", "force_lock=True", " s ("):
            assert words in message
        assert "an unknown time" not in message
        assert isinstance(caught.value, TimeoutError)
        assert 12 <= clock.monotonic() < 20

    @pytest.mark.parametrize("years", [-20, 30])
    @leases
    def test_no_clock_is_shared(self, place: Place, years: int) -> None:
        """A waiter whose clock is decades off waits as long, and neither is taken for dead."""
        holder = created(place)
        clock = ManualClock(now_us=SystemClock().now_us() + years * YEAR_US)
        with pytest.raises(LockTimeout):
            place.open(file=None, flag="w", clock=clock, lock_timeout=30)
        assert 30 <= clock.monotonic() < 40
        holder["k"] = 1
        assert holder.push()
        holder.close()
        with place.open(file=None, flag="w", clock=clock, lock_timeout=0) as db:
            db["k"] = 2
            assert db.push()

    def test_what_was_read_before_is_read_again(self, place: Place) -> None:
        """A writer that waited sees what the former holder pushed meanwhile."""
        holder = created(place)
        # The second: one that has pushed before is no stranger to the head that is read first.
        holder["k"] = 1
        holder.push()

        def leaves(_: float) -> None:
            if not holder._copy.closed:
                holder["k"] = "pushed while the other waited"
                holder.push()
                holder.close()

        clock = ManualClock(on_sleep=leaves)
        with place.open(file=None, flag="w", clock=clock) as db:
            assert dict(db) == {"k": "pushed while the other waited"}

    @in_memory
    def test_without_any_wait(self, place: Place) -> None:
        """The same when the former holder came and went before the lock was first looked at."""
        created(place).close()

        class InBetween:
            """Lets another writer come and go before the lock is asked for."""

            def __init__(self, inner: LockService) -> None:
                self.inner = inner

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

            def acquire(self, name: str, **options: Any) -> Lease:
                with place.open(file=None, flag="w") as db:
                    db["k"] = "in between"
                    db.push()
                return self.inner.acquire(name, **options)

        service = InBetween(open_leases(place.store()[0], SystemClock()))
        with place.open(file=None, flag="w", lock=service) as db:
            assert db["k"] == "in between"


class TestCost:
    """Of a lock that nobody else wants."""

    def test_requests(self, moto: S3Server) -> None:
        """Two to take it, one to give it back; no more reading of the head than without it."""
        bucket = moto.new_bucket()
        # A port may have been another server's: what was found out about that one is no matter here.
        ProbeCache().put(moto.endpoint_url, SystemClock(), "cas", "quoted", "")
        with ebooklet.open(moto.connection(bucket, "db"), None, "c", "json") as db:
            db["k"] = 0
            db.push()
        with CountingProxy(moto.endpoint_url) as proxy:
            connection = moto.at(proxy.url).connection(bucket, "db")
            with ebooklet.open(connection, None, "w"):
                pass
            await_departures()
            asked = [(e.method, e.path.partition("?")[0].rpartition("/")[2]) for e in proxy.log]
        lock = [("GET", "db.lock"), ("PUT", "db.lock"), ("PUT", "db.lock")]
        assert [request for request in asked if request[1] == "db.lock"] == lock
        assert [request for request in asked if request[1] != "db.lock"] == [("GET", "db")]

    def test_time(self, place: Place, locked_place: Place) -> None:
        """None is waited; a second where listings have to settle."""
        for where, seconds in ((place, 0), (locked_place, 1)):
            created(where).close()
            clock = ManualClock()
            where.open(file=None, flag="w", clock=clock).close()
            assert seconds <= clock.monotonic() <= seconds * 1.2


class TestDeadWriters:
    """Killed, suspended or cut off."""

    def test_a_killed_writer_is_followed(self, shared_place: Place) -> None:
        """Within two minutes, on every server; what it had not pushed is not there."""
        created(shared_place).close()
        with another_process(shared_place) as process:
            process.send_signal(signal.SIGKILL)
            process.wait()
            clock = ManualClock()
            with shared_place.open(file=None, flag="w", clock=clock, lock_timeout=120) as db:
                assert clock.monotonic() <= 120
                assert dict(db) == {"k": 0}
                db["k"] = 1
                assert db.push()

    @pytest.mark.parametrize("opened", [open_leases, open_tickets, open_file_locks, open_null])
    def test_what_the_services_promise(
        self, opened: Callable[..., LockService], tmp_path: Path
    ) -> None:
        """Two minutes at most, as they are registered."""
        service = opened(MemoryRemoteStore(), SystemClock(), folder=tmp_path)
        assert service.takeover_s <= 120

    @leases
    def test_a_living_writer_is_not(self, place: Place) -> None:
        """It renews the lock, so that the other waits in vain for as long as it does."""
        clock = ManualClock()
        holder = created(place, clock=clock)
        lock: Any = holder.lock
        renewed = [clock.monotonic()]

        def renew(_: float) -> None:
            if clock.monotonic() - renewed[-1] >= 15:
                assert lock.renew()
                renewed.append(clock.monotonic())

        clock.on_sleep = renew
        with pytest.raises(LockTimeout):
            place.open(file=None, flag="w", clock=clock, lock_timeout=200)
        assert len(renewed) > 10
        holder["k"] = 1
        assert holder.push()
        holder.close()

    def test_who_was_taken_for_dead_cannot_commit(self, place: Place, locked_place: Place) -> None:
        """`LockLostError` before anything is committed; everything stays pending."""
        for where in (place, locked_place):
            if where.kind == "file":  # the system frees such a lock, and only with its process
                continue
            clock = ManualClock()
            suspended = created(where, clock=clock)
            suspended["k"] = "late"
            suspended["pending"] = 1
            del suspended["k"]
            suspended.set_metadata({"pending": True})
            # It sleeps for as long as the other waits, as far as both can tell.
            with where.open(file=None, flag="w", clock=clock, lock_timeout=120) as db:
                db["k"] = "the next writer's"
                assert db.push().seq == 2
                for _ in range(2):
                    with pytest.raises(LockLostError, match="stay pending"):
                        suspended.push()
                assert kinds(suspended) == {"k": "deleted", "pending": "added"}
                assert suspended.get_metadata() == {"pending": True}
            suspended.close()
            with where.open(file=None, flag="r") as db:
                assert dict(db) == {"k": "the next writer's"}

    @in_memory
    def test_the_next_session_pushes_what_stayed(self, place: Place) -> None:
        """Opened again, it has all of it, on top of what the other did."""
        clock = ManualClock()
        created(place).close()
        with place.open(file="mine", flag="w", clock=clock) as suspended:
            suspended["mine"] = 1
            with place.open(file=None, flag="w", clock=clock, lock_timeout=120) as db:
                db["theirs"] = 1
                db.push()
            with pytest.raises(LockLostError):
                suspended.push()
        with place.open(file="mine", flag="w") as db:
            assert kinds(db) == {"mine": "added"}
            assert db.push().seq == 3
            assert dict(db) == {"k": 0, "mine": 1, "theirs": 1}


class TestTakingAndBreaking:
    """By force."""

    def test_force_lock(self, shared_place: Place) -> None:
        """Taken at once from a dead one, and from a living one, which notices."""
        holder = created(shared_place)
        holder["late"] = 1
        clock = ManualClock()
        with shared_place.open(file=None, flag="w", force_lock=True, clock=clock) as db:
            # Where writes may be under way that nothing stops, they are given time to arrive.
            assert clock.monotonic() <= 1 or shared_place.kind == "rclone"
            assert clock.monotonic() <= 65
            db["forced"] = 1
            assert db.push()
            with pytest.raises(LockLostError):
                holder.push()
            assert kinds(holder) == {"late": "added"}
        holder.close()
        with another_process(shared_place) as process:
            process.send_signal(signal.SIGKILL)
            process.wait()
            with shared_place.open(
                file=None, flag="w", force_lock=True, clock=clock, lock_timeout=0
            ) as db:
                assert dict(db) == {"k": 0, "forced": 1}
                db["again"] = 1
                assert db.push()

    def test_breaking(self, place: Place) -> None:
        """All locks of others, or those older than a moment; returned; never one's own."""
        check_breaking(place)

    def test_breaking_in_mode_lock(self, locked_place: Place) -> None:
        """The same with tickets."""
        check_breaking(locked_place)

    @leases
    def test_breaking_stops_a_creation(self, place: Place) -> None:
        """There is no head yet in which word could be left: the lock itself is asked."""
        with place.open(file=None) as creating:
            creating["k"] = 0
            with ebooklet.open_session(place.connect("db"), "w") as session:
                assert len(session.break_other_locks()) == 1
            with pytest.raises(LockLostError):
                creating.push()
            assert kinds(creating) == {"k": "added"}
        with ebooklet.open_session(place.connect("db")) as session:
            assert not session.initialized

    @leases
    def test_the_next_writer_is_not_stopped(self, place: Place) -> None:
        """What shuts the former holder out lets whoever comes next in, without force."""
        holder = created(place)
        with ebooklet.open_session(place.connect("db"), "w") as session:
            session.break_other_locks()
        with place.open(file=None, flag="w", lock_timeout=0) as db:
            db["k"] = 1
            assert db.push()
            assert db.push(force_push=True)
            with pytest.raises(LockLostError):
                holder.push(force_push=True)
        holder.close()


def check_breaking(place: Place) -> None:
    holder = created(place)
    assert holder.lock is not None
    with ebooklet.open_session(place.connect("db"), "w") as session:
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        for moment in (an_hour_ago, an_hour_ago.isoformat(), 0):
            assert session.break_other_locks(moment) == []
        holder.lock.verify()
        broken = session.break_other_locks()
        assert [(info.pid, info.purpose) for info in broken] == [(os.getpid(), "write")]
        assert broken[0].owner == holder.lock.info.owner
        holder["late"] = 1
        with pytest.raises(LockLostError):
            holder.push()
        assert kinds(holder) == {"late": "added"}
        holder.close()
        assert session.break_other_locks() == []
    with ebooklet.open_session(place.connect("db"), "w", clock=ManualClock()) as session:
        with session.create_lock() as own:
            assert session.break_other_locks() == own.break_other_locks() == []
            assert own.verify()
        with pytest.raises(TypeError):
            session.break_other_locks(1.5)  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(ValueError, match="time zone"):
            session.break_other_locks("2026-01-01T00:00:00")


class TestLockByHand:
    """`create_lock()` of a session: the same lock, with the methods of earlier versions."""

    def test_its_methods(self, place: Place) -> None:
        """Not taken at first; taken, asked about, given back, and taken with `with`."""
        connection = place.connect("db")
        with ebooklet.open_session(connection, "w", lock_timeout=0) as session:
            lock = session.create_lock()
            assert (lock.locked(), lock.verify(), lock.lease) == (False, False, None)
            assert lock.other_locks() == []
            assert lock.acquire()
            assert lock.acquire()  # still
            assert lock.locked()
            assert lock.verify()
            assert lock.lease is not None
            assert lock.other_locks() == []
            with ebooklet.open_session(connection, "w", lock_timeout=0) as other:
                rival = other.create_lock()
                assert not rival.acquire(blocking=False)
                assert not rival.acquire(timeout=0)
                with pytest.raises(LockTimeout), rival:
                    pass
                assert [info.pid for info in rival.other_locks()] == [os.getpid()]
                with pytest.raises(LockTimeout):
                    place.open(file=None, lock_timeout=0)
                lock.release()
                lock.release()
                assert not lock.locked()
                with rival as held:
                    assert held is rival
                    assert rival.locked()
                    assert not lock.acquire(False)
                    assert rival.break_other_locks() == []
                assert lock.acquire(timeout=5)
            refused: list[dict[str, Any]] = [{"blocking": False, "timeout": 1}, {"timeout": -2}]
            for wrong in refused:
                with pytest.raises(ValueError, match="timeout"):
                    session.create_lock().acquire(**wrong)
        assert not lock.locked()
        place.open(file=None, lock_timeout=0).close()

    def test_waiting_without_end(self, place: Place) -> None:
        """`acquire()` waits for as long as it takes."""
        holder = created(place)
        waited: list[float] = []

        def then_leave(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 5:
                holder.close()

        clock = ManualClock(on_sleep=then_leave)
        with ebooklet.open_session(place.connect("db"), "w", clock=clock) as session:
            assert session.create_lock().acquire()
        assert len(waited) >= 5

    def test_in_mode_lock(self, locked_place: Place) -> None:
        """A ticket, before there is a database, and given back with the session."""
        session = ebooklet.open_session(locked_place.connect("db"), "w", clock=ManualClock())
        lock = session.create_lock()
        with lock:
            assert lock.verify()
            with pytest.raises(LockTimeout):
                locked_place.open(file=None, lock_timeout=0)
        assert lock.acquire()
        session.close()
        assert not [name for name in locked_place.objects() if ".lock" in name]


class TestLocally:
    """One writing handle for each file."""

    @in_memory
    def test_in_one_process(self, place: Place) -> None:
        """A second handle waits in vain, whatever it thinks of the remote lock; readers come in."""
        with place.open(file="a", lock="optimistic") as db:
            db["k"] = 1
            db.sync()
            with pytest.raises(LockTimeout, match=str(os.getpid())):
                place.open(file="a", flag="w", lock="optimistic", lock_timeout=0)
            caught: list[BaseException] = []

            def rival() -> None:
                try:
                    place.open(file="a", flag="w", lock="optimistic", lock_timeout=0)
                except LockTimeout as error:
                    caught.append(error)

            thread = threading.Thread(target=rival)
            thread.start()
            thread.join()
            assert len(caught) == 1
        place.open(file="a", flag="w", lock="optimistic", lock_timeout=0).close()

    @pytest.mark.parametrize("place", ["file"], indirect=True)
    def test_between_processes(self, place: Place) -> None:
        """The error names the other process; once that is killed, the file is free at once."""
        with another_process(place, "a", "optimistic") as process:
            with pytest.raises(LockTimeout, match=str(process.pid)):
                place.open(file="a", flag="w", lock="optimistic", lock_timeout=0)
            process.send_signal(signal.SIGKILL)
            process.wait()
            with place.open(file="a", flag="w", lock="optimistic", lock_timeout=0) as db:
                assert dict(db) == {"theirs": 1}

    @in_memory
    def test_threads_share_a_handle(self, place: Place) -> None:
        """For reads and writes alike; nothing is lost, nothing is mixed up."""
        with place.open(file="a") as db:

            def work(number: int) -> None:
                for n in range(50):
                    db[f"{number}/{n}"] = [number, n]
                    assert db[f"{number}/{n}"] == [number, n]
                    assert len(db) >= n

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(work, range(8)))
            assert len(db) == 400
            assert db.push().n_set == 400
            assert all(value == [int(part) for part in key.split("/")] for key, value in db.items())
