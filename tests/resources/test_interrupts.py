"""Ctrl-C, in real processes and at any moment: it is heard, and nothing is lost or kept."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import ebooklet
import ebooklet.cli
import ebooklet.cli.app
from ebooklet.bootstrap import open as open_database

pytestmark = pytest.mark.usefixtures("lean_processes")

LIVES: Final = 2 * int(os.environ.get("EBOOKLET_TORTURE", "1"))

# The interrupt comes from the system, as from a terminal, after so many seconds of living.
LIFE: Final = """
import signal, sys
from ebooklet.bootstrap import open as open_database
url, path, after = sys.argv[1:]
signal.signal(signal.SIGALRM, signal.default_int_handler)
print("ready", flush=True)
signal.setitimer(signal.ITIMER_REAL, float(after), 1)
for n in range(10_000):
    with open_database(url, path, "w") as db:
        db[f"k{n % 50}"] = "v" * n
        db["round"] = n
        db.sync()
        print(n, flush=True)
        del db[f"k{n % 50}"]
        db.push()
        db.pull()
        db.load_items()
"""


def test_ctrl_c_in_the_midst_of_a_life(tmp_path: Path) -> None:
    """KeyboardInterrupt reaches the program, no thread says a word, what was synced is there."""
    (tmp_path / "remote").mkdir()
    url, path = f"file://{tmp_path}/remote/db", tmp_path / "a.blt"
    with open_database(url, path, "c", value_serializer="json", n_buckets=60) as db:
        db["round"] = -1
        db.push()
    chance = random.Random(LIVES)
    for _ in range(LIVES):
        argv = [sys.executable, "-W", "ignore", "-c", LIFE, url, str(path)]
        argv.append(str(chance.uniform(0, 0.3)))
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == -signal.SIGINT, done.stderr
        assert done.stderr.rstrip().endswith("KeyboardInterrupt")
        assert "Exception in thread" not in done.stderr
        synced = [int(line) for line in done.stdout.split()[1:]]
        with open_database(url, path, "w", lock_timeout=5) as db:
            assert db["round"] >= (synced[-1] if synced else -1)
            content = dict(db.items())
            db.push()
        assert not list(tmp_path.glob("a.blt.ebk/tmp-*"))
        with open_database(url, None, "r") as cold:
            assert dict(cold.items()) == content


def test_the_command_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ctrl-C comes before typer has begun, too, and without a traceback."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ebooklet.cli.app, "app", interrupted)
    with pytest.raises(SystemExit) as end:
        ebooklet.cli.main()
    assert end.value.code == 130
