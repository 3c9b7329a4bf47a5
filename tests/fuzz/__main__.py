"""Coverage-guided fuzzing of every decoder in the table: `make fuzz SECONDS=300`.

python -m tests.fuzz [--seconds N] [NAME ...]    N seconds, shared by the targets named

Each target runs in a process of its own, as libFuzzer ends the process at a find. Its corpus grows in
`.fuzz/` and is used again by the next run; what does harm is written to `tests/fuzz/found/` too, where
`make test` tries it for ever after: commit it together with what mends it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
FOUND = HERE / "found"
WORK = HERE.parents[1] / ".fuzz"
MAX_BYTES = 4096  # of an input; decoders are bounded, so longer ones find nothing new
RSS_MB = 2048


def main() -> int:
    """Run the targets that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    if find_spec("atheris") is None:
        return without_coverage()
    if given.child:
        return run_one(given.child, given.seconds)
    names = given.names or listed()
    each = max(1.0, given.seconds / len(names))
    harmed = [name for name in names if not survives(name, each)]
    for name in harmed:
        print(f"fuzz: {name!r} came to harm; see {FOUND / name} and {WORK}", file=sys.stderr)
    print(f"fuzz: {len(names) - len(harmed)} of {len(names)} targets unharmed, {each:.0f} s each")
    return 1 if harmed else 0


def without_coverage() -> int:
    """What can be done without atheris: many more random inputs, not guided by anything."""
    print("fuzz: atheris is not installed, so inputs are NOT guided by coverage", file=sys.stderr)
    command = [sys.executable, "-m", "pytest", "-q", str(HERE / "test_decoders.py")]
    more = os.environ | {"EBOOKLET_FUZZ_EXAMPLES": "1000"}
    return subprocess.run([*command, "--timeout", "3600"], env=more, check=False).returncode


def listed() -> list[str]:
    """The names in the table."""
    from tests.fuzz.targets import targets

    with tempfile.TemporaryDirectory() as folder:
        return list(targets(Path(folder)))


def survives(name: str, seconds: float) -> bool:
    """Run one target in a process of its own; keep what did harm."""
    folder = work_folder(name)
    before = set(folder.glob("harm-*"))
    child = [sys.executable, "-m", "tests.fuzz", "--child", name, "--seconds", str(seconds)]
    done = subprocess.run(child, capture_output=True, text=True, errors="replace", check=False)
    (folder / "log").write_text(done.stdout + done.stderr)
    for path in set(folder.glob("harm-*")) - before:
        data = path.read_bytes()
        kept = FOUND / name / f"{sha256(data).hexdigest()[:12]}.hex"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(data.hex("\n", 32) + "\n")
    runs = re.findall(r"#(\d+)\s+DONE|number_of_executed_units: (\d+)", done.stderr)
    count = max((int(a or b) for a, b in runs), default=0)
    print(f"fuzz: {name}: {count} inputs{'' if done.returncode == 0 else ', HARM'}", flush=True)
    return done.returncode == 0


def work_folder(name: str) -> Path:
    """Where a target's corpus and finds are."""
    folder = WORK / re.sub(r"[^a-z0-9.+]+", "-", name.lower())
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    return folder


def run_one(name: str, seconds: float) -> int:
    """Let libFuzzer choose inputs for a target; does not return."""
    import atheris

    warnings.simplefilter("ignore")  # to show one, Python opens the source that it is about
    with atheris.instrument_imports(include=["ebooklet"]):
        from tests.fuzz.targets import targets, warm
    from tests.fuzz.guard import watched

    folder = work_folder(name)
    scratch = Path(tempfile.mkdtemp(prefix="ebooklet-fuzz-"))
    target = targets(scratch)[name]
    for data in target.seeds:
        (folder / "corpus" / sha256(data).hexdigest()).write_bytes(data)
    warm(target, scratch)

    def once(data: bytes) -> None:
        with watched(scratch) as seen, suppress(*target.errors):
            target.decode(data, scratch)
        if seen:
            raise AssertionError(seen)

    options = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={max(MAX_BYTES, *(2 * len(seed) for seed in target.seeds))}",
        f"-rss_limit_mb={RSS_MB}",
        "-timeout=20",
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/harm-",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], once)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
