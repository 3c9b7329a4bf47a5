"""The local half: which store, opened with what the services have decided meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import LocalStore
from ebooklet.services.opening import LocalPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOpener:
    """Opens the local half once the remote has been looked at."""

    registry: Registry
    clock: Clock
    path: Path | None
    given: str | LocalStore
    serializer: str
    n_buckets: int
    buffer_size: int
    lock_timeout: float

    @property
    def exists(self) -> bool:
        """Whether there is something to open."""
        if not isinstance(self.given, str):
            return True
        return self.path is not None and self.path.exists() and self.path.stat().st_size > 0

    def __call__(self, plan: LocalPlan) -> LocalStore:
        """Open it."""
        if not isinstance(self.given, str):
            return self.given
        name = "memory" if self.path is None else self.given
        return self.registry.local_store(name)(
            self.path,
            clock=self.clock,
            mode="write" if plan.writable else "read",
            create=plan.create,
            replace=plan.replace,
            uuid=plan.uuid,
            value_serializer=plan.value_serializer or self.serializer,
            n_buckets=self.n_buckets,
            buffer_size=self.buffer_size,
            lock_timeout=self.lock_timeout,
            expected_keys=plan.expected_keys,
        )
