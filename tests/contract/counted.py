"""A remote whose calls are counted, and fail when they are told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.database import EBooklet
from ebooklet.services.request import Flag
from ebooklet.testing.faulty import Call, FaultyRemoteStore, StoreFault, StoreRule


class Counted:
    """One remote in memory, and any number of local halves on it.

    Attributes:
        store: what fails and counts.
        folder: for local files; names of them are given to `open`, None for memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FaultyRemoteStore(MemoryRemoteStore(), sleep=lambda _: None)

    def open(self, file: str | None = None, flag: Flag = "c", **options: Any) -> EBooklet[Any]:
        """Open the database optimistically, so that no request is made for a lock."""
        options.setdefault("lock", "optimistic")
        if flag in ("c", "n"):
            options.setdefault("value_serializer", "json")
        path = None if file is None else self.folder / f"{file}.blt"
        return ebooklet.open(self.store, path, flag, **options)

    def create(self, content: dict[str, Any], **options: Any) -> None:
        """Commit this content."""
        with self.open(**options) as db:
            db.update(content)
            assert db.push()

    def calls(self) -> list[Call]:
        """What was asked since the last look."""
        calls = list(self.store.calls)
        self.store.calls.clear()
        return calls

    def fail(self, fault: StoreFault = StoreFault.REFUSE, **when: Any) -> StoreRule:
        """From now on these calls fail, until `heal`."""
        when.setdefault("times", None)
        return self.store.add(StoreRule(fault, **when))

    def heal(self) -> None:
        """Everything works again."""
        self.store.clear()
