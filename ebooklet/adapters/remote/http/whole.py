"""Servers that send an object whole, whatever part of it was asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from urllib3.response import BaseHTTPResponse

from ebooklet.adapters.httpanswers import read_whole, says_part, size_of

__all__ = ["MAX_KEPT_BYTES", "WholeObjects"]

# The largest segment of many values fits; a larger one holds a single value, read once.
MAX_KEPT_BYTES: Final = 72 * 1024 * 1024


class WholeObjects:
    """The objects last sent whole, kept so that the next part of one costs no request.

    Without it a reader of a thousand values in one object would fetch that object a thousand times.

    Attributes:
        sends_parts: whether the server's last answer to a range was a part; False before it.
        turn: held by whoever asks a server that does not send parts, or may not: many whole
            objects at once would be as many in memory, and the same one many times.

    Args:
        max_bytes: of all objects kept.
    """

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self.sends_parts = False
        self.turn = threading.Lock()
        self._max_bytes = max_bytes
        self._bodies: OrderedDict[str, bytearray] = OrderedDict()
        self._held = 0  # bytes

    def note(self, answer: BaseHTTPResponse, wanted: int) -> None:
        """Learn from the answer to a request for a part of `wanted` bytes."""
        if says_part(answer):
            self.sends_parts = True
        elif answer.status == 200 and not 0 <= size_of(answer) <= wanted:
            self.sends_parts = False  # more came than was asked for

    def find(self, key: str) -> bytearray | None:
        """An object that is kept."""
        body = self._bodies.get(key)
        if body is not None:
            self._bodies.move_to_end(key)
        return body

    def fits(self, answer: BaseHTTPResponse) -> bool:
        """Whether an answer is a whole object, and not known to be too large to be kept."""
        whole = answer.status == 200 and not says_part(answer)
        return whole and size_of(answer) <= self._max_bytes

    def take(self, answer: BaseHTTPResponse, key: str) -> bytearray | None:
        """Read an answer that `fits` and keep it; None if it turns out too large."""
        self._held -= len(self._bodies.pop(key, b""))
        body = read_whole(answer, key, self._make_room)
        if body is not None:
            self._bodies[key] = body
            self._held += len(body)
        return body

    def clear(self) -> None:
        """Keep nothing; without waiting for a turn, which after a fork may never come."""
        self._bodies, self._held = OrderedDict(), 0

    def _make_room(self, size: int) -> bool:
        """Drop what was not used for the longest time until so many bytes may be added."""
        while self._bodies and self._held + size > self._max_bytes:
            _, dropped = self._bodies.popitem(last=False)
            self._held -= len(dropped)
        return size <= self._max_bytes
