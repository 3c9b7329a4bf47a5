"""Migrations that break off, and old databases that change meanwhile."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.migration.conftest import OldDatabases, read

pytestmark = [
    pytest.mark.xdist_group("migration-alone"),
    pytest.mark.usefixtures("lean_processes"),
]

KILLED = Path(__file__).with_name("killed.py")
_names = itertools.count()


@pytest.fixture
def new(tmp_path: Path) -> str:
    """A place that another process can reach."""
    (tmp_path / "bucket").mkdir()
    return f"file://{tmp_path}/bucket/db"


def is_group(key: str) -> bool:
    return key.startswith("db/")


def run_killed(lone: OldDatabases, new: str, file: Path, moment: str) -> None:
    server = lone.server
    command = [
        *(sys.executable, KILLED, server.endpoint_url, server.access_key_id, server.access_key),
        *(lone.bucket, new, file, moment),
    ]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]


class TestBrokenOff:
    """The same call again goes on."""

    def test_an_outage_says_nothing_about_values(
        self, lone: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """It is raised, nothing is pushed, and the next call reads what is missing, no more."""
        file = tmp_path / "new.blt"
        outage = StoreRule(StoreFault.REFUSE, "get", is_group, skip=25, times=None)
        with pytest.raises(ebooklet.RemoteUnavailable):
            ebooklet.migrate(lone.store(outage), new, file)
        with pytest.raises(ebooklet.RemoteMissingError):
            ebooklet.open(new)
        asked: list[str] = []
        noted = StoreRule(
            StoreFault.DELAY, "get", lambda k: is_group(k) and asked.append(k) is not None
        )
        report = ebooklet.migrate(lone.store(noted), new, file)
        assert report
        assert read(new) == lone.content("db")
        groups = sum(is_group(key) for key in lone.objects())
        assert len(asked) <= groups - 20

    @pytest.mark.parametrize("moment", ["reading 0", "reading 20"])
    def test_a_kill_while_it_reads(
        self, lone: OldDatabases, new: str, tmp_path: Path, moment: str
    ) -> None:
        """Nothing is in the new place, and the next call completes it."""
        file = tmp_path / "new.blt"
        run_killed(lone, new, file, moment)
        with pytest.raises(ebooklet.RemoteMissingError):
            ebooklet.open(new)
        assert ebooklet.migrate(lone.connection("db"), new, file)
        assert read(new) == lone.content("db")
        with ebooklet.open(new, file, "w") as db:
            assert list(db.changes()) == []

    def test_a_kill_after_the_commit(self, lone: OldDatabases, new: str, tmp_path: Path) -> None:
        """The next call reports what stands, and commits nothing; the one after it is refused."""
        file = tmp_path / "new.blt"
        run_killed(lone, new, file, "committed")
        assert read(new) == lone.content("db")
        report = ebooklet.migrate(lone.store(), new, file)
        assert report
        assert report.keys == 40
        assert report.bytes_up == 0
        with ebooklet.open(new, file, "w") as db:
            assert db._copy.base is not None
            assert db._copy.base.head.seq == 1
            assert db._copy.base.head.branch.commit.id.hex() == report.commit
            assert list(db.changes()) == []
        with pytest.raises(ValueError, match="already"):
            ebooklet.migrate(lone.store(), new, file)

    def test_a_failed_commit(self, lone: OldDatabases, tmp_path: Path) -> None:
        """A push that fails leaves everything to the next call, which reads nothing again."""
        file = tmp_path / "new.blt"
        place = FaultyRemoteStore(MemoryRemoteStore(f"commit-{next(_names)}"))
        place.add(StoreRule(StoreFault.REFUSE, "put", "db", times=None))
        with pytest.raises(ebooklet.RemoteUnavailable):
            ebooklet.migrate(lone.store(), place, file)
        place.clear()
        denied = StoreRule(StoreFault.DENY, "get", is_group, times=None)
        assert ebooklet.migrate(lone.store(denied), place, file)
        assert denied.struck == 0
        assert read(place) == lone.content("db")

    def test_unreadable_values_are_asked_for_again(
        self, lone: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """What could not be read once may be there the next time."""
        file = tmp_path / "new.blt"
        denied = StoreRule(StoreFault.DENY, "get", is_group, skip=30, times=None)
        with pytest.raises(ebooklet.MigrationIncomplete) as caught:
            ebooklet.migrate(lone.store(denied), new, file)
        assert caught.value.failures
        assert ebooklet.migrate(lone.store(), new, file)
        assert read(new) == lone.content("db")


class TestChangedMeanwhile:
    """0.11 goes on writing to the old database."""

    def test_a_writer_at_work(self, fresh: OldDatabases, new: str, tmp_path: Path) -> None:
        """A push of 0.11 in the middle is noticed: nothing is pushed; the next call has it."""
        file = tmp_path / "new.blt"
        now: list[OldDatabases] = []
        writer = StoreRule(
            StoreFault.DELAY, "get", is_group, skip=10, then=lambda: now.append(fresh.push_later())
        )
        with pytest.raises(ebooklet.SnapshotExpired, match="nothing was pushed"):
            ebooklet.migrate(fresh.store(writer), new, file)
        with pytest.raises(ebooklet.RemoteMissingError):
            ebooklet.open(new)
        assert ebooklet.migrate(fresh.store(), new, file)
        assert read(new) == now[0].content("db")
        assert now[0].content("db") != fresh.content("db")

    def test_the_database_is_deleted(self, fresh: OldDatabases, new: str) -> None:
        """That is a change as well."""

        def delete() -> None:
            fresh.server.client().delete_object(Bucket=fresh.bucket, Key="db")

        rule = StoreRule(StoreFault.DELAY, "get", is_group, skip=10, then=delete)
        with pytest.raises(ebooklet.SnapshotExpired):
            ebooklet.migrate(fresh.store(rule), new)
