"""Plain Booklet now, the bucket later: a file that no EBooklet has seen becomes a database.

python examples/booklet_then_push.py [URL]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import booklet

import ebooklet


def main(url: str, folder: Path) -> None:
    """Fill a file with Booklet, push it, edit it with Booklet again, and push what changed."""
    path = folder / "squares.blt"
    with booklet.open(path, "n", key_serializer="str", value_serializer="orjson") as file:
        for number in range(1000):
            file[f"{number:04}"] = {"square": number * number}

    with ebooklet.open(url, path, "c") as db:
        print(len(db.changes()), "keys to push:", db.push("squares").n_set)

    with booklet.open(path, "w") as file:
        file["0007"] = {"square": 49, "prime": True}
        del file["0999"]

    with ebooklet.open(url, path, "w") as db:
        print([(change["key"], change["kind"]) for change in db.changes()])
        db.push("primes")

    with ebooklet.open(url) as reader:
        print(len(reader), reader["0007"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1] if len(sys.argv) > 1 else f"file://{folder}/squares", Path(folder))
