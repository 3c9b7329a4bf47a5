"""Working parts for service tests: everything real but the network, which is in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.database import EBooklet
from ebooklet.services.request import Flag

_names = itertools.count()

Opener = Callable[..., EBooklet[Any]]


def store_of(url: str) -> MemoryRemoteStore:
    """The store behind a `memory://` URL, to look at and to damage."""
    return MemoryRemoteStore(url.split("/")[2])


def kinds(db: EBooklet[Any]) -> dict[str, str]:
    """What is pending: "added", "modified" or "deleted", by key."""
    return {change["key"]: change["kind"] for change in db.changes()}


@pytest.fixture
def url() -> str:
    """A remote of its own for each test."""
    return f"memory://services-{next(_names)}/db"


@pytest.fixture
def opener(url: str, tmp_path: Path) -> Opener:
    """Opens the test's database, in a local file of this name or in memory; optimistic by default."""

    def open_(name: str | None = "a", flag: Flag = "c", **options: Any) -> EBooklet[Any]:
        options.setdefault("lock", "optimistic")
        options.setdefault("value_serializer", "json" if flag in "cn" else None)
        path = None if name is None else tmp_path / f"{name}.blt"
        return open_database(url, path, flag, **options)

    return open_
