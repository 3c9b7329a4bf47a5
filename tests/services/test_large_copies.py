"""What a copy through this process holds in memory: little, however large the database."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import ebooklet
from ebooklet.connection import S3Connection
from ebooklet.testing.servers import S3Server

MIB = 1 << 20

# The kernel's high-water mark of this program; `ru_maxrss` would start at the parent's size. No
# database is opened: the copy would be measured together with pandas, which Booklet loads where it
# is installed, and which takes 75 MiB.
COPY = """
import pickle, sys
from ebooklet.adapters.clock import SystemClock
from ebooklet.bootstrap.places import place_opener
from ebooklet.plugins.registry import Registry
from ebooklet.services.transfer import copy_database
source, target = map(place_opener(SystemClock(), Registry()), pickle.loads(bytes.fromhex(sys.argv[1])))
copy_database(source, target)
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


Where = S3Connection | str


def make(where: Where, file: Path, large: Iterable[int], small: int, n_small: int) -> None:
    """A database of random values: large ones of these sizes, and many small ones."""
    random_ = random.Random(0)
    with ebooklet.open(where, file, "c", value_serializer="bytes") as db:
        for number, size in enumerate(large):
            db[f"large{number}"] = random_.randbytes(size)
            db.push()
        for number in range(n_small):
            db[f"small{number:06}"] = random_.randbytes(small)
        db.push()


def resident_mib(source: Where, target: Where) -> float:
    """Copy in a process of its own; the most it ever had resident."""
    argv = [sys.executable, "-c", COPY, pickle.dumps((source, target)).hex()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


def check(source: Where, target: Where, n_large: int) -> None:
    """The copy holds the same commits; its large values come back whole."""
    with ebooklet.open(source) as old, ebooklet.open(target) as new:
        assert list(new) == list(old)
        for number in range(n_large):
            assert new[f"large{number}"] == old[f"large{number}"]


@pytest.mark.large
def test_a_copy_holds_little(rclone: S3Server, tmp_path: Path) -> None:
    """300 MiB from a folder to a server, with a value larger than a segment, in less than that."""
    (tmp_path / "remote").mkdir()
    source = f"file://{tmp_path}/remote/db"
    target = rclone.connection(rclone.new_bucket(), "db")
    make(source, tmp_path / "a.blt", [100 * MIB, 60 * MIB], 1 * MIB, 140)
    resident = resident_mib(source, target)
    print(f"resident: {resident:.0f} MiB")
    assert resident < 230
    check(source, target, 1)


@pytest.mark.large
@pytest.mark.timeout(900)
def test_a_gigabyte_holds_no_more(seaweedfs: S3Server, rclone: S3Server, tmp_path: Path) -> None:
    """1 GiB between two servers stays under 300 MiB, Python and its libraries included."""
    source = seaweedfs.connection(seaweedfs.new_bucket(), "db")
    target = rclone.connection(rclone.new_bucket(), "db")
    make(source, tmp_path / "a.blt", [250 * MIB, 200 * MIB, 100 * MIB, 60 * MIB], 100_000, 4400)
    resident = resident_mib(source, target)
    print(f"resident: {resident:.0f} MiB")
    assert resident < 300
    check(source, target, 4)
