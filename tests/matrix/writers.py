"""Writers that meet each other, in threads or in processes of their own."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier
from typing import Any, Final

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
) -> list[str]:
    """Push at the same moments as others, keys of one's own and a common one; tell the commits."""
    commits = []
    with ebooklet.open(remote, file, "w", lock="optimistic", conflict=append) as db:
        for number in range(rounds):
            db[f"{name}/{number}"] = number
            db["all"] = [*db["all"], f"{name}/{number}"]
            together.wait(WAIT_S)
            result = db.push()
            assert result
            commits.append(result.commit)
    return commits


def append(key: str, base: Any, ours: Any, theirs: Any) -> Any:
    """What we have added to a list, after what others have."""
    return theirs + ours[len(base) :]
