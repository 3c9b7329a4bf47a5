"""Which lock a writer takes, and how it is found out whether one is needed."""

from __future__ import annotations

from collections.abc import Callable

from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.probe import probe
from ebooklet.bootstrap.remotes import Remote
from ebooklet.core.head import Proto
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import LockService


def locks_for(
    lock: str | LockService, remote: Remote | None, clock: Clock, registry: Registry
) -> Callable[[Proto], LockService | None]:
    """Which lock a writer takes, once it is known how heads are moved."""

    def choose(proto: Proto) -> LockService | None:
        if remote is None:
            return None
        if not isinstance(lock, str):
            return lock
        if lock == "optimistic" and proto.mode == "cas":
            return None
        name = "file" if remote.folder else "lease" if proto.mode == "cas" else "ticket"
        return registry.lock_service(name)(remote.store, clock, folder=remote.folder)

    return choose


def prober(remote: Remote, clock: Clock) -> Callable[[], Proto]:
    """How a new database finds out in which way its head can be moved."""

    def probe_store() -> Proto:
        verdict = probe(remote.store, remote.db_key, clock, cache=ProbeCache())
        return Proto(verdict.mode, verdict.etag_style, clock.now_us() // 1000, verdict.server)

    return probe_store
