"""The life of a database, one step a line: run once by each library in its own environment.

The programs of both libraries are the same (CONTRACT §14), so one script serves both. The parent
resets the proxy's counters before it answers each announced step, and reads them after it.

    python life_steps.py CONNECTION_JSON FOLDER KEYS VALUE_BYTES
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ebooklet


def main() -> None:
    """Run every step; announce it, wait for the word, report its seconds."""
    parameters, folder, keys, size = json.loads(sys.argv[1]), *sys.argv[2:]
    n_keys, path = int(keys), Path(folder)
    connection = ebooklet.S3Connection(**parameters)
    names = [f"key-{n:08}" for n in range(n_keys)]
    shuffled = random.Random(1).sample(names, len(names))
    value = os.urandom(int(size) - 8)
    values = [n.to_bytes(8, "big") + value for n in range(n_keys)]

    def step(name: str, work: Callable[[], Any]) -> Any:
        print(json.dumps({"step": name}), flush=True)
        sys.stdin.readline()
        began = time.perf_counter()
        result = work()
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
        return result

    def opened(name: str, flag: str) -> Any:
        # 0.11 has no `open` any more: its factory of ordinary databases takes the same arguments.
        return ebooklet.open_ebooklet(
            connection,
            path / name,
            flag,
            value_serializer="bytes" if flag == "n" else None,
            n_buckets=max(12007, n_keys + n_keys // 4),
        )

    def fill() -> None:
        for name, body in zip(names, values, strict=True):
            db[name] = body
        db.sync()

    def change() -> None:
        for name in shuffled[:10]:
            db[name] = b"changed" + value

    def push() -> None:
        assert db.changes().push()

    def load() -> None:
        failures = reader.load_items()
        assert not failures, failures

    db = step("open to create", lambda: opened("writer.blt", "n"))
    step("fill", fill)
    step("push all", push)
    step("close", db.close)
    db = step("open to write", lambda: opened("writer.blt", "w"))
    step("changes, none", lambda: list(db.changes().iter_changes()))
    change()
    step("changes, 10", lambda: list(db.changes().iter_changes()))
    step("push 10", push)
    step("close after 10", db.close)
    reader = step("open cold", lambda: opened("reader.blt", "r"))
    assert step("read 1", lambda: reader[shuffled[-1]])[8:] == value
    found = step("read 100", lambda: dict(reader.get_items(shuffled[-101:-1])))
    assert len(found) == 100
    assert step("list keys", lambda: sum(1 for _ in reader)) == n_keys
    step("load all", load)
    assert reader[shuffled[0]] == b"changed" + value
    step("close reader", reader.close)


if __name__ == "__main__":
    main()
