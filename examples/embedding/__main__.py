"""An application that embeds EBooklet by dependency injection: `python examples/embedding FOLDER`.

No registry, no environment, no URL: `container.py` builds the parts, `station.py` uses them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from container import Config, Container
from station import Station


def main(folder: Path) -> None:
    """Record two days, publish them, and read them with another container, as another machine."""
    shared = folder / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    for name, days in (("avon", ("mon", "tue")), ("bealey", ("mon",))):
        private = folder / name
        private.mkdir(exist_ok=True)
        with Container(Config(shared, private, author=name)) as parts:
            station = Station(name, parts.readings)
            for day in days:
                station.record(day, [1.5, 2.5, 5.0])
            print(name, "published:", station.publish())
            print("known here:", sorted(parts.readings))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else folder))
