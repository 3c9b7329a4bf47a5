"""Short turns of the crowds that `make concurrency` has for as long as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.concurrency.crowds import Rounds, Where, processes, threads, writers


def test_32_threads_do_everything_on_one_handle(tmp_path: Path) -> None:
    """Nothing is torn, lost or counted twice while others push, pull, walk and sync."""
    done = threads(Where("memory://crowd-of-threads/db", tmp_path), Rounds(5))
    assert done["counted"] == 16 * 5


@pytest.mark.usefixtures("lean_processes")
def test_processes_take_turns_on_one_file(tmp_path: Path) -> None:
    """Each writer goes on from what the one before left; readers never see less than before."""
    done = processes(Where(f"file://{tmp_path}/db", tmp_path), Rounds(3), n=3)
    assert done["written"] + done["turned away"] == 3
    assert done["read"] == 6


def test_optimistic_writers_beside_readers(tmp_path: Path) -> None:
    """Sums are exact in every commit, and no group of keys is torn."""
    where = Where("memory://crowd-of-writers/db", tmp_path)
    done = writers(where, Rounds(4), n_writers=4, n_readers=4, n_processes=0)
    assert done["added"] == done["pushes"] == 16
