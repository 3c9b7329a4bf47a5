"""The work of a whole database through each driver, in turn, on one server in one run."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from statistics import median

import ebooklet
from benchmarks.figures import Figures
from ebooklet.testing.servers import S3Server

VALUE_BYTES = 1000
ROUNDS = 11
READ = 100
STEPS = ("push all", f"open cold, read {READ}", "load all", "push 10")


def figures(drivers: Sequence[str], keys: int, server: str) -> Figures:
    """An empty table of these drivers."""
    title = (
        f"{keys:,} keys of {VALUE_BYTES:,} B on {server}, {ROUNDS} rounds: median seconds, and the "
        f"median of how many times {drivers[0]}'s of the same round that is"
    )
    return Figures(title, ("step", *drivers))


def measure(table: Figures, drivers: Sequence[str], server: S3Server, keys: int) -> None:
    """Live the same life through each driver, round by round; a row for each step of it."""
    bucket = server.new_bucket()
    tail = os.urandom(VALUE_BYTES - 8)
    values = {f"key-{n:08}": n.to_bytes(8, "big") + tail for n in range(keys)}
    scattered = random.Random(1).sample(sorted(values), READ)
    spent = {driver: {step: list[float]() for step in STEPS} for driver in drivers}
    for number in range(ROUNDS + 1):
        # Who goes first changes from round to round.
        for driver in drivers if number % 2 else reversed(drivers):
            connection = server.connection(bucket, f"{driver}-{number}", driver=driver)
            for step, seconds in life(connection, values, scattered).items():
                if number:  # in the first round libraries are imported and the server is probed
                    spent[driver][step].append(seconds)
    for step in STEPS:
        first = spent[drivers[0]][step]
        cells = [
            f"{median(own):.3f} ({median(o / f for o, f in zip(own, first, strict=True)):.2f})"
            for own in (spent[driver][step] for driver in drivers)
        ]
        table.rows.append([step, *cells])


def life(
    connection: ebooklet.S3Connection, values: dict[str, bytes], scattered: Sequence[str]
) -> dict[str, float]:
    """Seconds of each step; local halves in memory, so that transport is what differs."""
    seconds = {}

    def step(name: str, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        seconds[name] = time.perf_counter() - began

    def cold() -> None:
        with ebooklet.open(connection) as reader:
            found = dict(reader.get_items(scattered))
        assert found == {key: values[key] for key in scattered}

    with ebooklet.open(connection, flag="n", value_serializer="bytes") as db:
        db.update(values)
        step(STEPS[0], db.push)
        step(STEPS[1], cold)
        with ebooklet.open(connection) as reader:
            step(STEPS[2], reader.load_items)
            assert len(reader) == len(values)
        for key in scattered[:10]:
            db[key] = b"changed"
        step(STEPS[3], db.push)
    return seconds
