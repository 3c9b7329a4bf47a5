"""A measuring station: the part of the application that knows its work, and no adapter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class Readings(Protocol):
    """What is used of a database; a dict with a `push` would do in a test."""

    def __setitem__(self, key: str, value: dict[str, Any]) -> None: ...

    def push(self, message: str | None = None) -> object: ...


class Station:
    """Collects readings by day, and publishes whole days."""

    def __init__(self, name: str, readings: Readings) -> None:
        self._name = name
        self._readings = readings

    def record(self, day: str, flows: Iterable[float]) -> None:
        """Keep a day's flows, in m³/s; nothing leaves this machine yet."""
        flows = list(flows)
        self._readings[f"{self._name}/{day}"] = {"flows": flows, "mean": sum(flows) / len(flows)}

    def publish(self) -> bool:
        """Push what was recorded; True if there was something."""
        return bool(self._readings.push(f"readings of {self._name}"))
