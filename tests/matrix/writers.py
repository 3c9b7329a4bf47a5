"""Writers that meet each other, in threads or in processes of their own."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier
from typing import Final

import ebooklet
from ebooklet.connection import S3Connection

WAIT_S: Final = 100.0


def count(remote: str | S3Connection, file: Path, name: str, rounds: int) -> None:
    """Add one to a common number in each of several sessions, each under the exclusive lock."""
    for number in range(rounds):
        with ebooklet.open(remote, file, "w", lock_timeout=WAIT_S) as db:
            db["count"] += 1
            db[f"{name}/{number}"] = db["count"]
            assert db.push()


def race(
    remote: str | S3Connection, file: Path, name: str, rounds: int, together: Barrier
) -> list[int]:
    """Push keys of one's own at the same moments as the other; tell the numbers of the commits."""
    numbers = []
    with ebooklet.open(remote, file, "w", lock="optimistic") as db:
        for number in range(rounds):
            db[f"{name}/{number}"] = number
            together.wait(WAIT_S)
            result = db.push()
            assert result
            numbers.append(result.seq)
    return numbers
