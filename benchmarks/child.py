"""A peer in a process of its own, asked step by step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from benchmarks.peers.peer import Place
from benchmarks.roster import HERE


class StepFailed(Exception):
    """The peer could not do a step; it has ended."""


class Child:
    """A running peer."""

    def __init__(self, asking: IO[str], answers: IO[str]) -> None:
        self._asking = asking
        self._answers = answers

    def start(self, place: Place) -> None:
        """Say where, and wait until it has imported what it needs."""
        self._ask(asdict(place))

    def run(self, step: Mapping[str, Any]) -> tuple[float, Mapping[str, float]] | None:
        """Seconds of a step and of its parts; None where the peer has no such step.

        Raises:
            StepFailed: with the peer's reason.
        """
        answer = self._ask(step)
        if answer.get("absent"):
            return None
        return answer["seconds"], answer["parts"]

    def _ask(self, what: Mapping[str, Any]) -> dict[str, Any]:
        try:
            print(json.dumps(what), file=self._asking, flush=True)
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise StepFailed("its process ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        if reason := answer.get("failed"):
            raise StepFailed(reason)
        return answer


@contextmanager
def running(
    python: Path, module: str, kind: str, cache: Path | None = None
) -> Iterator[tuple[Child, Path]]:
    """Start a peer; yields it and a folder of its own, which goes with it.

    Its interpreter sees this package by a link and nothing else of this repository: what a peer
    imports is what its environment has.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        (folder / "path").mkdir()
        (folder / "path" / "benchmarks").symlink_to(HERE)
        (folder / "data").mkdir()
        argv = [str(python), "-P", "-m", "benchmarks.peers.runner", module, kind]
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder / "path"),
            "PYTHONDONTWRITEBYTECODE": "",
            "XDG_CACHE_HOME": str(cache or folder / "cache"),
        }
        log = folder / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                cwd=folder,
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield Child(process.stdin, process.stdout), folder / "data"
            except StepFailed:
                shutil.copy(log, HERE.parent / ".bench" / f"{module}.log")
                raise
            finally:
                process.stdin.close()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
