"""What was measured: samples of steps, by who took them and under which circumstances."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One step, once."""

    seconds: float
    requests: int = 0
    up: int = 0  # bytes, with heads
    down: int = 0
    in_a_row: int = 0  # requests of which each began after the one before had ended
    parts: Mapping[str, float] = field(default_factory=dict)  # seconds


@dataclass(frozen=True, order=True)
class Where:
    """Circumstances that samples share."""

    n_keys: int
    latency_ms: int = 0  # added to every request
    local: bool = False  # on local files alone


Steps = Mapping[str, Sample]


@dataclass
class Measurements:
    """All samples of a run, and what could not be measured."""

    value_bytes: int
    about: dict[str, str] = field(default_factory=dict)  # the machine, the day, the versions
    samples: dict[Where, dict[str, dict[str, list[Sample]]]] = field(default_factory=dict)
    startup: dict[str, list[float]] = field(default_factory=dict)  # seconds of each command
    missing: dict[str, str] = field(default_factory=dict)  # peer -> why it is not here

    def add(self, where: Where, peer: str, step: str, sample: Sample) -> None:
        """One more."""
        steps = self.samples.setdefault(where, {}).setdefault(peer, {})
        steps.setdefault(step, []).append(sample)

    def at(self, where: Where) -> Mapping[str, Steps]:
        """The middle of each peer's samples, by step."""
        return {
            peer: {step: middle(samples) for step, samples in steps.items()}
            for peer, steps in self.samples.get(where, {}).items()
        }

    def get(self, where: Where, peer: str, step: str) -> Sample | None:
        """The middle of these samples, if there are any."""
        samples = self.samples.get(where, {}).get(peer, {}).get(step)
        return middle(samples) if samples else None

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        whole = {**vars(self), "samples": list(self._rows())}
        path.write_text(json.dumps(whole), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Measurements:
        """Read what `save` wrote."""
        whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = whole.pop("samples")
        made = cls(**whole)
        for where, peer, step, samples in rows:
            for sample in samples:
                made.add(Where(**where), peer, step, Sample(**sample))
        return made

    def _rows(self) -> Iterator[list[Any]]:
        for where, peers in self.samples.items():
            for peer, steps in peers.items():
                for step, samples in steps.items():
                    yield [asdict(where), peer, step, [asdict(sample) for sample in samples]]


def middle(samples: list[Sample]) -> Sample:
    """The median of each figure: rounds are few, and one of them may meet a busy machine."""
    names = sorted({name for sample in samples for name in sample.parts})
    return Sample(
        seconds=median(sample.seconds for sample in samples),
        requests=int(median(sample.requests for sample in samples)),
        up=int(median(sample.up for sample in samples)),
        down=int(median(sample.down for sample in samples)),
        in_a_row=int(median(sample.in_a_row for sample in samples)),
        parts={name: median(sample.parts.get(name, 0.0) for sample in samples) for name in names},
    )
