"""Reading a database that everybody may read: its URL is all that is needed.

    python examples/public_reading.py https://data.example.org/open/seasons

Nothing is downloaded but what is looked at, and every byte of it is checked.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import ebooklet


def main(url: str, folder: Path) -> None:
    """Look at a database, take all of it home, and go on without the network."""
    with ebooklet.open(url, folder / "copy.blt") as db:
        print(db.get_metadata(), len(db), "keys, for example", next(iter(db)))
        failures = db.load_items()
        if failures:
            raise SystemExit(f"could not be read: {failures}")

    with ebooklet.open(url, folder / "copy.blt", offline=True) as db:
        print("offline:", dict(db.items()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(f"usage: python {sys.argv[0]} URL", file=sys.stderr)
        raise SystemExit(2)
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1], Path(folder))
