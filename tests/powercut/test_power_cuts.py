"""The power fails at any moment: what is on the disk then opens, and says what was promised."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.powercut.disk import Crash, Disk, after_power_cut
from tests.powercut.lives import Liver, at_random, check, crashes, lay_out, recorded

TIMES = int(os.environ.get("EBOOKLET_TORTURE", "1"))
SEEDS = range(1 if TIMES == 1 else TIMES // 2)

pytestmark = pytest.mark.filterwarnings("ignore:.*changed both here and in the remote:UserWarning")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kind", "cuts"), [("booklet", 24), ("lmdb", 8)])
def test_after_a_power_cut(tmp_path: Path, kind: str, cuts: int, seed: int) -> None:
    """It opens; nothing synced is missing, nothing torn is shown, nothing pending counts as pushed."""
    (tmp_path / "live").mkdir()
    life = recorded(kind, tmp_path / "live", seed, at_random(12 if TIMES == 1 else 40))
    for after, crash in islice(crashes(life, random.Random(seed)), cuts * min(TIMES, 10)):
        lay_out(life, after, crash, tmp_path / "left")
        check(life, after, tmp_path / "left", f"seed {seed}, after {after}, {crash}")


def deleted_before_growth(one: Liver) -> None:
    """The file that takes the place of another has a deletion that the journal has not flushed."""
    one.set("k0")
    one.sync()
    one.delete("k0")
    one.update([f"m{n}" for n in range(70)])


def set_after_a_deletion(one: Liver) -> None:
    """The journal reaches the disk, and the value that it tells of does not."""
    one.delete("k0")
    one.sync()
    one.set("k0")
    one.sync()


def deleted(one: Liver) -> None:
    """The deletion reaches the file, and not the journal."""
    one.set("k0")
    one.sync()
    one.delete("k0")
    one.sync()


@pytest.mark.parametrize("kind", ["booklet", "lmdb"])
@pytest.mark.parametrize("script", [deleted_before_growth, set_after_a_deletion, deleted])
def test_what_was_lost_once(tmp_path: Path, kind: str, script: Callable[[Liver], None]) -> None:
    """Where file and journal reach the disk apart, a key shows what was synced or what came later."""
    (tmp_path / "live").mkdir()
    begun = []

    def beginning_with(one: Liver) -> None:
        begun.append(len(one.life.disk.steps))
        script(one)

    life = recorded(kind, tmp_path / "live", 1, beginning_with)
    chance = random.Random(1)
    for _ in range(6 * TIMES):
        after = chance.randrange(begun[0], len(life.disk.steps))
        crash = Crash(chance.choice(("some", "only one", "none")), 512, chance.randrange(1 << 32))
        lay_out(life, after, crash, tmp_path / "left")
        check(life, after, tmp_path / "left", f"after {after}, {crash}")


def test_what_a_disk_may_lose(tmp_path: Path) -> None:
    """All that was flushed is left, and of what was not each sector, name and size may be."""
    disk = Disk(tmp_path)
    with disk.recording(lambda: None):
        fd = os.open(tmp_path / "new", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"a" * 1024)
        os.fsync(fd)
        folder = os.open(tmp_path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        os.pwrite(fd, b"b" * 1024, 0)
        os.close(fd)
        os.rename(tmp_path / "new", tmp_path / "named")  # noqa: PTH104  # as it is recorded
    seen = set()
    for seed in range(60):
        for way in ("all", "none", "some"):
            names, files, _ = after_power_cut(disk.steps, Crash(way, 512, seed))
            [(name, number)] = names.items()
            seen.add((name, files[number][0][::512]))
    assert seen == {
        (name, left) for name in ("new", "named") for left in (b"aa", b"ab", b"ba", b"bb")
    }
