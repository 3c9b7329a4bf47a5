"""Warm reads and writes beside plain Booklet, interleaved in one run.

    python -m benchmarks.local [--keys N]

Both files have the same bucket count and serializer. Chunks of 500 keys alternate between the two,
so that what else the machine does falls on both alike; writes include what flushing costs.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import booklet

import ebooklet

CHUNK = 500
N_BUCKETS = 144_013


def alternate(
    plain: Callable[[Sequence[str]], None],
    ours: Callable[[Sequence[str]], None],
    keys: Sequence[str],
) -> tuple[float, float]:
    """Seconds that each spends on all keys, chunk by chunk in turn."""
    spent = [0.0, 0.0]
    for at in range(0, len(keys), CHUNK):
        for side, work in enumerate((plain, ours)):
            began = time.perf_counter()
            work(keys[at : at + CHUNK])
            spent[side] += time.perf_counter() - began
    return spent[0], spent[1]


def reading(book: Any) -> Callable[[Sequence[str]], None]:
    """Read keys with `book[key]`."""

    def work(keys: Sequence[str]) -> None:
        for key in keys:
            book[key]

    return work


def writing(book: Any, values: Sequence[bytes]) -> Callable[[Sequence[str]], None]:
    """Write keys with `book[key] = value`."""

    def work(keys: Sequence[str]) -> None:
        for number, key in enumerate(keys):
            book[key] = values[number]

    return work


def main() -> None:
    """Print operations per second and ratios, three rounds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=50_000)
    options, _ = parser.parse_known_args()
    keys = [f"key-{n:08}" for n in range(options.keys)]
    shuffled = random.Random(0).sample(keys, len(keys))
    values = [os.urandom(1000) for _ in range(CHUNK)]
    with tempfile.TemporaryDirectory() as folder:
        plain = booklet.open(
            str(Path(folder) / "plain.blt"), "n", "str", "bytes", n_buckets=N_BUCKETS
        )
        ours = ebooklet.open(
            None, Path(folder) / "ours.blt", "n", value_serializer="bytes", n_buckets=N_BUCKETS
        )
        print(f"{'':8}{'plain/s':>12}{'ours/s':>12}{'ratio':>8}")
        for _ in range(3):
            for name, (p, o) in (
                ("set", alternate(writing(plain, values), writing(ours, values), keys)),
                ("get", alternate(reading(plain), reading(ours), shuffled)),
            ):
                n = len(keys)
                print(f"{name:8}{n / p:12,.0f}{n / o:12,.0f}{p / o:8.2f}")
        ours.close()
        plain.close()


if __name__ == "__main__":
    main()
