"""The application's own container: which parts it is made of, and who closes them, in one place."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ebooklet import Database, LocalHalf
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet import open_store as open_booklet
from ebooklet.adapters.locks.file import FileLockService
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.ports.serializer import Serializer
from ebooklet.serializers.cbor import CBOR


@dataclass(frozen=True)
class Config:
    """What an administrator decides."""

    shared: Path  # the folder that all machines see
    private: Path  # this machine's
    author: str


@dataclass
class Container:
    """Builds each part when it is first asked for; a test replaces any of them by assignment."""

    config: Config
    _open: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def clock(self) -> Clock:
        return SystemClock()

    @cached_property
    def serializer(self) -> Serializer:
        return CBOR

    @cached_property
    def remote(self) -> RemoteStore:
        store = FilesystemRemoteStore(self.config.shared)
        self._open.callback(store.close)
        return store

    @cached_property
    def locks(self) -> LockService:
        return FileLockService(self.config.shared, self.clock)

    @cached_property
    def readings(self) -> Database[dict[str, Any]]:
        half = LocalHalf(
            open_store=open_booklet, path=self.config.private / "readings.blt", clock=self.clock
        )
        return self._open.enter_context(
            Database(
                local=half,
                remote=self.remote,
                locks=self.locks,
                serializer=self.serializer,
                clock=self.clock,
                db_key="readings",
                author=self.config.author,
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()
