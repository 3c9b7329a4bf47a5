"""What the tests of `map` send to other processes: plain functions and a class, quick to import."""

from __future__ import annotations

import json
import multiprocessing
import os
from typing import Any


def double(key: str, value: int) -> tuple[str, int] | None:
    """Twice the even numbers; nothing of the odd ones."""
    return (key, 2 * value) if value % 2 == 0 else None


def where(key: str, value: object) -> tuple[str, tuple[int, str]]:
    """In which process, of which kind."""
    return key, (os.getpid(), type(multiprocessing.current_process()).__name__)


def fail_on_three(key: str, value: int) -> tuple[str, int]:
    """Raise for one of the values."""
    if value == 3:
        raise LookupError(f"{key} is three")
    return key, value


class Reversed:
    """A serializer of somebody's own."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        return json.dumps(value).encode()[::-1]

    @staticmethod
    def loads(data: bytes) -> Any:
        return json.loads(data[::-1])
