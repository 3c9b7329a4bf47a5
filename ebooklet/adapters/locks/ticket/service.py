"""The lock service: what a caller asks of the queue."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ebooklet.adapters.holding import HeldLease, is_old_enough, own_record
from ebooklet.adapters.locks.ticket.contender import Contender
from ebooklet.adapters.locks.ticket.tickets import MARK, Tickets, queue_order
from ebooklet.adapters.locks.ticket.timing import TicketTiming
from ebooklet.core.builtparts import check_built
from ebooklet.core.names import sid_text
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease, LockInfo
from ebooklet.ports.remote_store import RemoteStore


class TicketLockService:
    """Locks by queueing, for stores that ignore or break conditional writes.

    An uncontended `acquire` costs five requests and the settling second, `verify` one request,
    `release` one. After a ticket was broken by force nobody enters for `quiet_s`, as nothing else stops
    a write of the former holder that is under way.

    Args:
        remote: where the objects are.
        clock: this machine's; see the Clock port for why it must count suspend.
        timing: shorter in tests.
    """

    kind: Final = "ticket"

    def __init__(
        self, remote: RemoteStore, clock: Clock, timing: TicketTiming | None = None
    ) -> None:
        check_built(
            f"{type(self).__name__}(remote, clock)",
            remote=(remote, (RemoteStore,)),
            clock=(clock, (Clock,)),
        )
        self._remote = remote
        self._clock = clock
        self._timing = timing or TicketTiming()
        self._own: set[str] = set()
        self._marks: dict[str, float] = {}  # since when a mark is known, on our clock

    @property
    def takeover_s(self) -> float:
        """Longest time in seconds that a dead holder blocks the next."""
        timing = self._timing
        silent_s = max(timing.stale_s, timing.silent_s)
        return silent_s + timing.settle_s + 2 * timing.poll_max_s

    def acquire(
        self,
        name: str,
        *,
        timeout: float,
        purpose: str = "write",
        fence: int = 0,
        force: bool = False,
    ) -> Lease:
        """See `LockService.acquire`."""
        contender = Contender(
            Tickets(self._remote, name),
            self._clock,
            self._timing,
            own_record(self._clock, purpose, "waiting", ttl_s=self._timing.stale_s),
            self._own,
            self._marks,
        )
        try:
            holding = contender.enter(timeout, fence, force)
        except BaseException:
            contender.leave()
            raise
        # While it settles others may come and go: nobody is the first to look.
        beat_s = self._timing.beat_s if self._timing.background else None
        return HeldLease(holding, beat_s, waited=True)

    def inspect(self, name: str) -> LockInfo | None:
        """See `LockService.inspect`: the holder, or else the first in the queue."""
        tickets = Tickets(self._remote, name)
        infos = [
            info
            for ticket in sorted(tickets.listed().tickets.values(), key=queue_order)
            if (info := tickets.info(ticket)) is not None
        ]
        return next((info for info in infos if info.state == "held"), infos[0] if infos else None)

    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        """See `LockService.break_lock`; waiting tickets count too."""
        tickets = Tickets(self._remote, name)
        broken: dict[str, LockInfo] = {}
        for ticket in tickets.listed().tickets.values():
            age_s = tickets.age_s(ticket)
            if ticket.id in self._own or not is_old_enough(age_s, older_than_s):
                continue
            if (info := tickets.info(ticket)) is not None:
                broken[ticket.id] = info
        if broken:
            mark_id = sid_text(self._clock.token_bytes(16))
            self._own.add(mark_id)
            record = own_record(self._clock, "to break a lock", "free", ttl_s=self._timing.stale_s)
            tickets.write(mark_id, MARK, record)  # first: no listing shows neither
            tickets.remove(broken)
            self._marks[mark_id] = self._clock.monotonic()
        return list(broken.values())


def open_service(
    remote: RemoteStore, clock: Clock, *, folder: Path | None = None
) -> TicketLockService:
    """Open the service for a remote that ignores or breaks conditional writes.

    Args:
        remote: holds the ticket objects.
        clock: this machine's.
        folder: not needed here; other services keep files in it.
    """
    return TicketLockService(remote, clock)
