"""Power cuts for as long as there is time: `python -m tests.powercut --seconds 600`."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
import traceback
import warnings
from itertools import islice
from pathlib import Path
from typing import Final

from tests.powercut.lives import check, crashes, lay_out, recorded

_MEMORY: Final = Path("/dev/shm")  # flushes cost nothing there
_TOLD: Final = 10  # failures


def main() -> int:
    """Cut the power; the number of failures decides the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each kind of local file")
    parser.add_argument("--seed", type=int, default=1, help="of the first life")
    parser.add_argument("--kind", action="append", choices=("booklet", "lmdb"))
    parser.add_argument("--each", type=int, default=200, help="power cuts of one life")
    wanted = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    failed = 0
    for kind in wanted.kind or ("booklet", "lmdb"):
        n, seed = 0, wanted.seed
        end = time.monotonic() + wanted.seconds
        while time.monotonic() < end:
            made, wrong = _life(kind, seed, wanted.each, end)
            n, failed, seed = n + made, failed + wrong, seed + 1
        print(f"{kind}: {n} power cuts in {seed - wanted.seed} lives; failures so far: {failed}")
    return bool(failed)


def _life(kind: str, seed: int, cuts: int, end: float) -> tuple[int, int]:
    n = failed = 0
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as place:
        folder = Path(place)
        (folder / "live").mkdir()
        life = recorded(kind, folder / "live", seed)
        for after, crash in islice(crashes(life, random.Random(seed)), cuts):
            n += 1
            try:
                lay_out(life, after, crash, folder / "left")
                check(life, after, folder / "left", f"{kind}, seed {seed}, after {after}, {crash}")
            except Exception:  # noqa: BLE001  # whatever it is, it is what is looked for
                failed += 1
                if failed <= _TOLD:
                    traceback.print_exc(limit=-3)
            if time.monotonic() > end:
                break
    return n, failed


if __name__ == "__main__":
    sys.exit(main())
