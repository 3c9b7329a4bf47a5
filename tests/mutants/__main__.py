"""Each rule that a test of FORMAT §10 names is taken away, to see the test fail: `make mutants`.

python -m tests.mutants [WORD ...]    only those that have all words, in any case: a number as 10.5,
                                      a part of the test's name, of the rule or of the file

The library is changed in a copy of the working tree, never in the tree itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.listed import NUMBERED, ROOT, Mutant, mutants, numbered_tests

COPIED = ("ebooklet", "tests", "pyproject.toml")
FAILED = re.compile(r"^(?:FAILED|ERROR) tests/.+?(?: - (.*))?$", re.MULTILINE)


def main(words: Sequence[str]) -> int:
    """Try the mutants, and say what became of each; whether one survived."""
    chosen = [each for each in mutants() if wanted(each, words)]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        copy_into(tree)
        if (found := run(tree, *dict.fromkeys(each.test for each in chosen))) is not None:
            sys.exit(f"mutants: the tests fail as it is: {found}")
        for mutant in chosen:
            killer = trial(tree, mutant)
            survivors += killer is None
            fate = "SURVIVED" if killer is None else f"killed by {killer[:100]}"
            print(f"{name_of(mutant)} | {mutant.rule} | {fate}", flush=True)
    print(f"mutants: {len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


def name_of(mutant: Mutant) -> str:
    """The number and the name of its test."""
    match = NUMBERED.search(numbered_tests().get(mutant.test, ""))
    return f"10.{match[1] if match else '?'} {mutant.test.rpartition('::')[2]}"


def wanted(mutant: Mutant, words: Sequence[str]) -> bool:
    """Whether it has all the words; "10.1" is not "10.12"."""
    files = " ".join(edit.file for edit in mutant.edits)
    text = f"{name_of(mutant)} {mutant.test} {mutant.rule} {files}".casefold()
    return all(re.search(rf"{re.escape(word.casefold())}(?!\d)", text) for word in words)


def copy_into(tree: Path) -> None:
    """Copy what tests need."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, tree / name)


def trial(tree: Path, mutant: Mutant) -> str | None:
    """What the test says without the rule; None if nothing."""
    whole = {edit.file: (tree / edit.file).read_text("utf-8") for edit in mutant.edits}
    try:
        for edit in mutant.edits:
            path = tree / edit.file
            path.write_text(path.read_text("utf-8").replace(edit.old, edit.new), "utf-8")
        return run(tree, mutant.test)
    finally:
        for file, text in whole.items():
            (tree / file).write_text(text, "utf-8")


def run(tree: Path, *tests: str) -> str | None:
    """The first failure of these tests, in one line; None if there is none."""
    # No bytecode: a file that changes twice within a second would be taken for the one before.
    options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "--tb=no", "--timeout", "60"]
    command = [sys.executable, "-B", "-m", "pytest", *options, *tests]
    wide = os.environ | {"COLUMNS": "400"}
    done = subprocess.run(command, cwd=tree, env=wide, capture_output=True, text=True, check=False)
    failure = FAILED.search(done.stdout)
    if done.returncode == 0:
        return None
    if done.returncode != 1 or failure is None:
        sys.exit(f"mutants: the tests could not be run:\n{done.stdout}{done.stderr}")
    return failure[1] or "an error"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
