"""A database of millions of keys in a folder: what grows with the number of keys, and what must not.

    python -m benchmarks.millions [--keys N] [--few N] [--value-bytes N] [--write]

Each stage is a process of its own, so that its memory is its own and its caches are cold. Every
call of the store counts as a request. `--write` writes RESULTS-millions.md.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import ebooklet
from benchmarks.figures import Figures
from benchmarks.words import size, span
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.ports.remote_store import Body, Condition, ObjectMeta, StoredObject

RESULTS: Final = Path(__file__).with_name("RESULTS-millions.md")
BATCH: Final = 100_000  # keys set at a time: values are made as they are written
ROUNDS: Final = 5
PREFIX_KEYS: Final = 1000
DIGITS: Final = 12
Stage = Callable[[Path, int, int], "Iterator[tuple[str, Cost]]"]


@dataclass(frozen=True)
class Cost:
    """What a step took."""

    seconds: float
    requests: int = 0
    up: int = 0  # bytes
    down: int = 0
    memory: int = 0  # bytes, the most that the process had so far


class CountedStore(FilesystemRemoteStore):
    """A folder that counts what is asked of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.requests = self.up = self.down = 0

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """Counted."""
        self.requests += 1
        found = super().get(key, start=start, stop=stop)
        self.down += len(found.body)
        return found

    def head(self, key: str) -> ObjectMeta:
        """Counted."""
        self.requests += 1
        return super().head(key)

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """Counted."""
        self.requests += 1
        meta = super().put(key, body, condition=condition, cache_control=cache_control)
        self.up += meta.size
        return meta

    def cost(self, work: Callable[[], object]) -> Cost:
        """Do it, and say what it took."""
        before = self.requests, self.up, self.down
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        return Cost(
            seconds,
            self.requests - before[0],
            self.up - before[1],
            self.down - before[2],
            _peak(),
        )


def _peak() -> int:
    """The kernel's high-water mark; `ru_maxrss` would start at the parent's."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def key(number: int) -> str:
    """Keys of one length, so that a prefix holds a power of ten of them."""
    return f"{number:0{DIGITS}}"


def _open(store: CountedStore, path: Path | None, flag: Any, n_keys: int) -> Any:
    serializer = "bytes" if flag == "n" else None
    return ebooklet.open(store, path, flag, serializer, n_buckets=max(12007, n_keys * 5 // 4))


def build(folder: Path, n_keys: int, value_bytes: int) -> Iterator[tuple[str, Cost]]:
    """Fill a database, and push it."""
    chance = random.Random(1)
    store = CountedStore(folder)
    with _open(store, folder / "writer.blt", "n", n_keys) as db:

        def fill() -> None:
            for first in range(0, n_keys, BATCH):
                numbers = range(first, min(first + BATCH, n_keys))
                db.update({key(number): chance.randbytes(value_bytes) for number in numbers})
            db.sync()

        yield "fill", store.cost(fill)
        yield "push all", store.cost(db.push)


def write(folder: Path, n_keys: int, value_bytes: int) -> Iterator[tuple[str, Cost]]:
    """Come back to it with the local file, and change ten keys; several times."""
    chance = random.Random(2)
    store = CountedStore(folder)
    opened: list[Any] = []
    for _ in range(ROUNDS):
        yield (
            "open to write, warm",
            store.cost(lambda: opened.append(_open(store, folder / "writer.blt", "w", n_keys))),
        )
        with opened.pop() as db:
            for number in chance.sample(range(n_keys), 10):
                db[key(number)] = chance.randbytes(value_bytes)
            yield "push 10", store.cost(db.push)


def read(folder: Path, n_keys: int, value_bytes: int) -> Iterator[tuple[str, Cost]]:
    """Open it cold."""
    chance = random.Random(3)
    for _ in range(ROUNDS):
        store = CountedStore(folder)

        def one(store: CountedStore = store) -> None:
            with _open(store, None, "r", n_keys) as db:
                assert len(db[key(chance.randrange(n_keys))]) == value_bytes

        yield "open cold, 1 key", store.cost(one)
    store = CountedStore(folder)
    with _open(store, None, "r", n_keys) as db:
        prefix = key(n_keys // 2)[: DIGITS - len(str(PREFIX_KEYS - 1))]
        found: list[str] = []
        yield f"prefix of {PREFIX_KEYS:,} keys", store.cost(lambda: found.extend(db.keys(prefix)))
        assert len(found) == PREFIX_KEYS


def load(folder: Path, n_keys: int, value_bytes: int) -> Iterator[tuple[str, Cost]]:
    """Take all values into a new local file."""
    store = CountedStore(folder)
    with _open(store, folder / "reader.blt", "r", n_keys) as db:
        yield "load all", store.cost(lambda: _without_failures(db.load_items()))
        assert len(db[key(n_keys - 1)]) == value_bytes


def _without_failures(failures: dict[str, Exception]) -> None:
    if failures:
        raise AssertionError(f"not loaded: {failures}")


STAGES: Final[dict[str, Stage]] = {"build": build, "write": write, "read": read, "load": load}


def measured(folder: Path, n_keys: int, value_bytes: int) -> dict[str, Cost]:
    """All stages in turn; of steps that are repeated, the one that took the middle time."""
    costs: dict[str, list[Cost]] = {}
    for stage in STAGES:
        argv = [sys.executable, "-m", "benchmarks.millions", "--stage", stage]
        argv += ["--folder", str(folder), "--keys", str(n_keys), "--value-bytes", str(value_bytes)]
        child = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
        for line in child.stdout.splitlines():
            step, cost = json.loads(line)
            costs.setdefault(step, []).append(Cost(**cost))
            print(f"{n_keys:>12,}  {step:24}{span(cost['seconds']):>10}", flush=True)
    return {
        step: sorted(several, key=lambda cost: cost.seconds)[len(several) // 2]
        for step, several in costs.items()
    }


def table(costs: dict[str, Cost], few: dict[str, Cost], n_keys: int, n_few: int) -> Figures:
    """Steps of both."""
    title = f"{n_keys:,} keys beside {n_few:,}: the middle of repeated steps"
    columns = ["step", "seconds", "requests", "up", "down", "memory", f"seconds at {n_few:,}"]
    figures = Figures(title, columns)
    for step, cost in costs.items():
        figures.rows.append(
            [
                step,
                span(cost.seconds),
                f"{cost.requests:,}",
                size(cost.up),
                size(cost.down),
                size(cost.memory),
                span(few[step].seconds),
            ]
        )
    return figures


def targets(costs: dict[str, Cost], few: dict[str, Cost]) -> Figures:
    """What is to be reached, beside what was."""
    push, small = costs["push 10"], few["push 10"]
    cold, warm = costs["open cold, 1 key"], costs["open to write, warm"]
    prefix = costs[f"prefix of {PREFIX_KEYS:,} keys"]
    most = max(cost.memory for step, cost in costs.items() if step in ("push all", "load all"))
    times = push.seconds / small.seconds
    lines = [
        ("push of 10, bytes: ≤ 400 KB", size(push.up), push.up <= 400_000),
        ("push of 10, requests: ≤ 5", str(push.requests), push.requests <= 5),
        ("push of 10: ≤ 3 × the time at the few keys", f"{times:.1f} ×", times <= 3),
        ("cold open and one key: ≤ 60 KB", size(cold.down), cold.down <= 60_000),
        ("cold open and one key: ≤ 5 requests", str(cold.requests), cold.requests <= 5),
        ("open, warm: ≤ 30 ms", span(warm.seconds), warm.seconds <= 0.03),
        (
            f"prefix scan of {PREFIX_KEYS:,} keys: ≤ 10 node reads",
            str(prefix.requests),
            prefix.requests <= 10,
        ),
        ("memory of push and load: ≤ 300 MiB", size(most), most <= 300 << 20),
    ]
    rows = [[target, reached, "yes" if met else "**no**"] for target, reached, met in lines]
    return Figures("Targets", ["target", "reached", "met"], rows)


def main() -> None:
    """All stages of both databases, or one stage where a parent asks for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        for step, cost in STAGES[given.stage](given.folder, given.keys, given.value_bytes):
            print(json.dumps([step, asdict(cost)]), flush=True)
        return
    both = []
    for n_keys in (given.few, given.keys):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            both.append(measured(Path(folder), n_keys, given.value_bytes))
    few, many = both
    tables = (targets(many, few), table(many, few, given.keys, given.few))
    for figures in tables:
        figures.show()
    if given.write:
        today = time.strftime("%Y-%m-%d", time.gmtime())
        RESULTS.write_text(
            f"# Millions of keys\n\nWritten by `python -m benchmarks.millions --write`, {today}: "
            f"values of {given.value_bytes} B, everything in one folder of this machine.\n\n"
            + "\n".join(figures.markdown() for figures in tables),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
