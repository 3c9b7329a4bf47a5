"""Crowds for as long as there is time: `python -m tests.concurrency --seconds 120`."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Final

from ebooklet.services.place import RemoteLike
from ebooklet.testing.servers import start_seaweedfs
from tests.concurrency.crowds import Until, Where, processes, threads, writers

CROWDS: Final[dict[str, Callable[..., Counter[str]]]] = {
    "threads": threads,
    "processes": processes,
    "writers": writers,
}
PLACES: Final = ("memory", "file", "seaweedfs")


@contextmanager
def remotes(places: list[str]) -> Iterator[dict[str, Callable[[str], RemoteLike]]]:
    """How to name a new database in each kind of place."""
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, Callable[[str], RemoteLike]] = {
            "memory": lambda name: f"memory://{name}/db",
            "file": lambda name: f"file://{folder}/{name}",
        }
        if "seaweedfs" not in places:
            yield made
            return
        with start_seaweedfs(Path(folder)) as server:
            bucket = server.new_bucket()
            made["seaweedfs"] = lambda name: server.connection(bucket, name)
            yield made


def main() -> int:
    """Try each crowd in each place; the number of failures decides the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each crowd in each place")
    parser.add_argument("--crowd", action="append", choices=tuple(CROWDS))
    parser.add_argument("--place", action="append", choices=PLACES)
    wanted = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    failed = 0
    places = wanted.place or list(PLACES)
    with remotes(places) as found:
        for crowd, place in product(wanted.crowd or CROWDS, places):
            if crowd == "processes" and place == "memory":
                continue  # each process has a memory of its own
            options = {"n_processes": 0} if (crowd, place) == ("writers", "memory") else {}
            with tempfile.TemporaryDirectory() as folder:
                where = Where(found[place](f"{crowd}.{place}"), Path(folder))
                try:
                    turns = Until(time.monotonic() + wanted.seconds)
                    told = ", ".join(
                        f"{n} {what}" for what, n in CROWDS[crowd](where, turns, **options).items()
                    )
                except Exception:  # noqa: BLE001  # whatever it is, it is what is looked for
                    failed += 1
                    told = "FAILED"
                    traceback.print_exc()
            print(f"{crowd}, {place}: {told}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
