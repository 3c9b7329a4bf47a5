"""Everything that can go wrong, for as long as there is time: `make torture SECONDS=600 SEED=7`.

python -m tests.torture [--seconds N] [--seed TEXT] [--write] [--keep FOLDER]

Ends with 1 if a promise was not kept; the folder with all ledgers and local files is then kept, and
the seed is printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.torture.arena import Arena, arena
from tests.torture.oracle import Oracle
from tests.torture.report import Report, report

PAGE: Final = Path(__file__).parents[2] / "docs" / "torture.md"
START: Final = "<!-- tables: written by `make torture` -->\n"


def main() -> int:
    """One run; 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", default=None, help="of an earlier run, to play it again")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    parser.add_argument("--keep", type=Path, help="an empty folder, to be kept")
    given = parser.parse_args()
    seed = given.seed or f"{random.SystemRandom().randrange(10**6)}"
    folder = given.keep or Path(tempfile.mkdtemp(prefix="ebooklet-torture-"))
    folder.mkdir(exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    print(f"torture: {given.seconds:.0f} s, seed {seed}, in {folder}", flush=True)
    began = time.time()
    with arena(folder, seed) as one:
        one.found()
        one.run(given.seconds)
        one.settle()
        found = judged(one)
        mounted = one.has_small_disk
    print(found.markdown())
    for loss in found.losses:
        print(f"torture: LOSS {loss.who}: {loss.what} (after: {loss.after})", file=sys.stderr)
    told = (
        f"{time.strftime('%Y-%m-%d', time.gmtime(began))}, {given.seconds / 60:.0f} min, "
        f"seed {seed}: {found.lives:,} lives of six processes, {found.rounds:,} rounds of writing, "
        f"{found.acks:,} acknowledged pushes, {found.reads:,} readings of everything, "
        f"{len(found.losses)} losses. Python {platform.python_version()}, {os.cpu_count()} cores "
        f"shared with other work; the full disk {'was a tmpfs' if mounted else 'could not be made'}."
    )
    print(f"torture: {told}")
    if given.write:
        text = PAGE.read_text("utf-8")
        PAGE.write_text(
            f"{text[: text.index(START)]}{START}\n{told}\n\n{found.markdown()}", "utf-8"
        )
    if found.losses or given.keep:
        print(f"torture: all of it is in {folder}; play it again with SEED={seed}")
    else:
        shutil.rmtree(folder)
    return 1 if found.losses else 0


def judged(one: Arena) -> Report:
    """What the oracle says of a run."""
    oracle, notes = Oracle(), one.notes()
    oracle.judge(notes)
    return report(notes, oracle.acks, oracle.losses)


if __name__ == "__main__":
    sys.exit(main())
