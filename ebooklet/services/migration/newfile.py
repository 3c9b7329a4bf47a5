"""The new local file: what was read is collected there, pending, until one commit takes all of it."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final, Self

from ebooklet.core.keys import is_key
from ebooklet.services.migration.values import OldValue
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.migrate")

_BATCH_KEYS: Final = 1000
_BATCH_BYTES: Final = 1 << 20
_DURABLE_BYTES: Final = 256 << 20  # what a crash may cost of the reading

_UNUSABLE: Final = "it is no key of a new database: not UTF-8, or a name that Booklet reserves"


class NewFile:
    """Takes in what is read; all that was taken is stored when the context ends, however.

    Args:
        copy: the working copy of the new database.

    Attributes:
        failures: keys that could not be had, with the reason.
    """

    def __init__(self, copy: WorkingCopy) -> None:
        self._copy = copy
        self._batch: dict[str, tuple[int, bytes]] = {}
        self._batch_bytes = 0
        self._volatile = 0
        self._taken = 0
        # An earlier call may have got part of the way; a new file need not be asked.
        self._begun = copy.local.count() > 0
        self.failures: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    def has(self, key: bytes) -> bool:
        """Whether the value of a key is here."""
        if not self._begun and not self._batch:
            return False
        try:
            name = key.decode()
        except UnicodeDecodeError:
            return False
        return name in self._batch or self._copy.local.contains(name)

    def take(self, found: OldValue) -> None:
        """Keep a value, or the reason why there is none."""
        key, timestamp, value = found
        name = key.decode("utf-8", "backslashreplace")
        if isinstance(value, str):
            self.failures[name] = value
        elif name.encode() != key or not is_key(name):
            self.failures[name] = _UNUSABLE
        else:
            self.failures.pop(name, None)
            self._batch[name] = (timestamp, value)
            self._batch_bytes += len(value)
            if self._batch_bytes >= _BATCH_BYTES or len(self._batch) >= _BATCH_KEYS:
                self.flush()

    def flush(self) -> None:
        """Hand what was kept to the local store."""
        if not self._batch:
            return
        copy = self._copy
        with copy.lock:
            for name, (timestamp, value) in self._batch.items():
                copy.pending.touched[name] = None
                copy.local.set(name, value, timestamp)
        self._begun = True
        self._taken += len(self._batch)
        self._volatile += self._batch_bytes
        self._batch, self._batch_bytes = {}, 0
        if self._volatile >= _DURABLE_BYTES:
            copy.sync()
            self._volatile = 0
            logger.info("read %d keys", self._taken)
