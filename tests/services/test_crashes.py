"""Killed at any moment, unasked: what was synced or pushed is there, and the next push heals."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ebooklet
from ebooklet.bootstrap import open as open_database
from ebooklet.testing.children import in_child
from ebooklet.testing.servers import S3Server

SEEDS = range(int(os.environ.get("EBOOKLET_TORTURE", "1")))
pytestmark = pytest.mark.usefixtures("lean_processes")

# Writes rounds of keys; each line on stdout is a promise that the parent holds it to. The system
# kills it in the middle of whatever it does: nobody handles SIGALRM, so that it ends as by SIGKILL.
WRITER = """
import json, pickle, signal, sys
from ebooklet.bootstrap import open as open_database
where, path, mode, after = sys.argv[1:]
db = open_database(pickle.loads(bytes.fromhex(where)), path, "w")
say = lambda **fact: print(json.dumps(fact), flush=True)
say(opened=len(db))
signal.setitimer(signal.ITIMER_REAL, float(after))
for round_ in range(db["round"] + 1, 10_000):
    for n in range(40):
        db[f"{n % 25:03}/{round_:05}"] = [round_, "x" * (n * 50)]
    db["round"] = round_
    if round_ > 2:
        db.pop(f"001/{round_ - 2:05}", None)
    if mode == "sync":
        db.sync()
        say(synced=round_)
    elif mode == "push":
        say(pushing=round_)
        db.push()
        say(pushed=round_)
"""


def run_and_kill(
    where: str | ebooklet.S3Connection, path: Path, mode: str, after: float
) -> list[dict[str, int]]:
    """Let the system kill a writer `after` so many seconds of writing; return what it promised."""
    remote = pickle.dumps(where).hex()
    argv = [sys.executable, "-W", "ignore", "-c", WRITER, remote, str(path), mode, str(after)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGALRM
    lines = done.stdout.splitlines()
    facts = []
    for line in lines:
        try:
            facts.append(json.loads(line))
        except json.JSONDecodeError:
            assert line is lines[-1]
    return facts


def last(facts: list[dict[str, int]], name: str) -> int:
    return max((fact[name] for fact in facts if name in fact), default=-1)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A remote in a folder, shared by processes, with one commit in it."""
    (tmp_path / "remote").mkdir()
    url = f"file://{tmp_path}/remote/db"
    with open_database(url, tmp_path / "a.blt", "c", value_serializer="json") as db:
        db["round"] = -1
        db.push()
    return url


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_synced_survives(url: str, tmp_path: Path, seed: int) -> None:
    """After `sync` returned, a kill in the middle of later sets loses nothing of it."""
    path = tmp_path / "a.blt"
    chance = random.Random(seed)
    promised = -1
    for _ in range(3):
        facts = run_and_kill(url, path, "sync", chance.uniform(0.01, 0.3))
        promised = max(promised, last(facts, "synced"))
        with open_database(url, path, "w") as db:
            assert db.get("round", -1) >= promised
            for round_ in range(promised + 1):
                for n in range(25):
                    key = f"{n:03}/{round_:05}"
                    if n == 1:
                        continue
                    last_n = n + 25 if n + 25 < 40 else n
                    assert db[key][0] == round_
                    assert len(db[key][1]) in (n * 50, last_n * 50)
            assert len(db) == len(list(db))
            pending = {change["key"]: change["kind"] for change in db.changes()}
            assert set(pending) >= {f"002/{r:05}" for r in range(promised + 1)}
            assert promised < 3 or f"001/{promised - 2:05}" not in db
    with open_database(url, path, "w") as db:
        content = dict(db.items())
        db.push()
    with open_database(url, tmp_path / "cold.blt", "r") as db:
        assert dict(db.items()) == content


@pytest.mark.parametrize("seed", SEEDS)
def test_a_push_happens_whole_or_not_at_all(url: str, tmp_path: Path, seed: int) -> None:
    """Killed inside a push, the remote is the old or the new database; the next push heals."""
    path = tmp_path / "a.blt"
    chance = random.Random(seed)
    for attempt in range(3):
        facts = run_and_kill(url, path, "push", chance.uniform(0.01, 0.4))
        pushed, pushing = last(facts, "pushed"), last(facts, "pushing")
        with open_database(url, tmp_path / f"look-{attempt}.blt", "r") as reader:
            seen = reader["round"]
            assert seen in (pushed, pushing) or (pushed == -1 and pushing == -1)
            for n in range(25):
                if seen >= 0 and n != 1:
                    assert reader[f"{n:03}/{seen:05}"][0] == seen
            assert reader.get(f"002/{seen + 1:05}") is None
        with open_database(url, path, "w") as db:
            assert len(db) == len(list(db))
            mine = dict(db.items())
            assert mine["round"] >= seen
            db.push()
            assert not list(db.changes())
            for key in list(db):
                del db[key]
            db["round"] = -1
            db.push()
        with open_database(url, path, "r") as db:
            assert dict(db.items()) == {"round": -1}


@pytest.mark.parametrize("after", [0.05, 0.3, 0.6])
def test_a_killed_push_on_a_real_server(moto: S3Server, tmp_path: Path, after: float) -> None:
    """Old or new, seen by a cold reader; forced past the dead lock, the next push heals."""
    connection = moto.connection(moto.new_bucket(), "db")
    path = tmp_path / "a.blt"
    with ebooklet.open(connection, path, "c", value_serializer="json") as db:
        db["round"] = -1
        db.push()
    facts = run_and_kill(connection, path, "push", after)
    pushed, pushing = last(facts, "pushed"), last(facts, "pushing")
    with ebooklet.open(connection, tmp_path / "look.blt") as reader:
        seen = reader["round"]
        assert pushed <= seen <= max(pushing, pushed)
        assert all(
            reader[f"{n:03}/{seen:05}"][0] == seen for n in range(25) if seen >= 0 and n != 1
        )
    with ebooklet.open(connection, path, "w", force_lock=True) as db:
        assert db["round"] >= seen
        mine = dict(db.items())
        db.push()
        assert not list(db.changes())
    with ebooklet.open(connection, tmp_path / "look.blt") as reader:
        assert dict(reader.items()) == mine


def test_locks_and_files_of_a_killed_process_block_nobody(url: str, tmp_path: Path) -> None:
    """The next writer gets in without waiting: local locks die with their process."""
    run_and_kill(url, tmp_path / "a.blt", "sync", 0.05)
    with open_database(url, tmp_path / "a.blt", "w", lock_timeout=0) as db:
        assert db.writable


def test_a_deletion_outlives_the_loss_of_what_was_set_after_it(url: str, tmp_path: Path) -> None:
    """The journal tells of a set whose value never reached the file: the synced deletion stands."""

    def live() -> None:
        db = open_database(url, tmp_path / "a.blt", "w")
        del db["round"]
        db.sync()
        db["round"] = 5
        copy = db._copy
        copy.pending.absorb()
        copy.journal.flush(copy.pending)
        copy.journal.rewrite(copy.pending)
        os._exit(0)

    assert in_child(live) == 0
    with open_database(url, tmp_path / "a.blt", "w") as db:
        assert "round" not in db
        assert [change["kind"] for change in db.changes()] == ["deleted"]
