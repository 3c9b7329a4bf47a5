"""A lock that is held by the first ticket of the queue."""

from __future__ import annotations

from dataclasses import replace

from ebooklet.adapters.holding import HolderRecord, Holding
from ebooklet.adapters.locks.ticket.tickets import PRESENCE, Tickets
from ebooklet.errors import StoreError
from ebooklet.ports.clock import Clock


class TicketHolding(Holding):
    """The lock, ours as long as our place is listed and nobody's is before it."""

    def __init__(
        self,
        tickets: Tickets,
        ticket_id: str,
        record: HolderRecord,
        clock: Clock,
        valid_s: float,
        acked: float,
    ) -> None:
        super().__init__(tickets.name, record, clock, valid_s=valid_s, acked=acked)
        self._tickets = tickets
        self._id = ticket_id

    def renew(self) -> bool:
        """Rewrite the presence, and see that the place still is the first."""
        with self.mutex:
            if self.lost_because() is not None:
                return False
            record = replace(
                self.record, beat=self.record.beat + 1, nonce=self.clock.token_bytes(16)
            )
            sent_at = self.clock.monotonic()
            try:
                self._tickets.write(self._id, PRESENCE, record)
                self.verify()
            except StoreError:
                return False
            if self.lost_because() is not None:
                return False
            self.record = record
            self.acknowledge(sent_at)
            return True

    def verify(self) -> None:
        """See, by one listing, that the place still is the first."""
        with self.mutex:
            queue = self._tickets.listed().tickets
            mine = queue.pop(self._id, None)
            if mine is None or mine.order is None:
                self.lose("another process broke it")
                if mine is not None:
                    # A heartbeat may have brought the presence back, which would block others.
                    self._tickets.remove([self._id])
                return
            for ticket in queue.values():
                if ticket.order is not None and ticket.order < mine.order:
                    self.lose("the server lists another before it, so its clock went back")

    def free(self) -> None:
        """Take the ticket away."""
        with self.mutex:
            self._tickets.remove([self._id])
