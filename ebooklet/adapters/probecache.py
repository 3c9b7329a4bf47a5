"""What was found out about servers, remembered for a month beside the user's other caches."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from platformdirs import user_cache_path

from ebooklet.ports.clock import Clock

__all__ = ["ProbeCache"]

_KEPT_US: Final = 30 * 24 * 3600 * 1_000_000
_MAX_BYTES: Final = 1 << 20

Known: TypeAlias = tuple[Literal["cas", "lock"], Literal["quoted", "bare"], str, str]


class ProbeCache:
    """Verdicts by endpoint, in one JSON file. Damage and missing permissions only cost a probe.

    Args:
        path: the file; by default in the user's cache folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or user_cache_path("ebooklet") / "probes.json"

    def get(self, endpoint: str, clock: Clock) -> Known | None:
        """The verdict on `endpoint`, if it is younger than 30 days."""
        return self._verdict(endpoint, self._read().get(endpoint), clock)

    @staticmethod
    def _verdict(endpoint: str, row: object, clock: Clock) -> Known | None:
        match row:
            case {
                "mode": ("cas" | "lock") as mode,
                "etag_style": ("quoted" | "bare") as style,
                "us": int(us),
                "reason": str(reason),
            } if 0 <= clock.now_us() - us < _KEPT_US:
                return mode, style, endpoint, reason
        return None

    def put(self, endpoint: str, clock: Clock, mode: str, etag_style: str, reason: str) -> None:
        """Remember a verdict."""
        rows = {
            known: row for known, row in self._read().items() if self._verdict(known, row, clock)
        }
        rows[endpoint] = {
            "mode": mode,
            "etag_style": etag_style,
            "reason": reason,
            "us": clock.now_us(),
        }
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
            try:
                with os.fdopen(fd, "w", encoding="utf-8") as file:
                    json.dump(rows, file, indent=1)
                Path(name).replace(self._path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def _read(self) -> dict[str, object]:
        try:
            if self._path.stat().st_size > _MAX_BYTES:
                return {}
            rows = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return rows if isinstance(rows, dict) else {}
