"""The ticket objects of one lock: how they are named, listed, written and read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ebooklet.adapters.holding import MAX_RECORD_BYTES, HolderRecord, decode_record, encode_record
from ebooklet.core.names import lock_key
from ebooklet.errors import ObjectNotFound, StoreError
from ebooklet.ports.lock_service import LockInfo
from ebooklet.ports.remote_store import ObjectMeta, RemoteStore

PRESENCE, PLACE, MARK = "0", "1", "2"
MAX_LISTED_MS: Final = (1 << 43) - 1  # year 2248; tokens stay below 2**63
_NAME: Final = re.compile(r"([0-9a-z]{26})-([012])")
_MAX_TICKETS: Final = 4096  # objects listed; more is an attack or a mistake


@dataclass(slots=True)
class Ticket:
    """One contender, as listed."""

    id: str
    presence: ObjectMeta | None = None
    place: ObjectMeta | None = None

    @property
    def order(self) -> tuple[int, str] | None:
        """Position in the queue; None while it has none."""
        return None if self.place is None else (self.place.modified_ms, self.id)

    @property
    def signature(self) -> tuple[str, int, str]:
        """What changes with every heartbeat."""
        seen = self.presence
        return (
            "" if seen is None else seen.etag,
            0 if seen is None else seen.modified_ms,
            "" if self.place is None else self.place.etag,
        )


@dataclass(frozen=True, slots=True)
class Queue:
    """What one listing showed."""

    tickets: dict[str, Ticket]  # contenders, by id
    marks: frozenset[str]  # ids of breakings whose last requests may be under way


class Tickets:
    """The ticket objects of one lock."""

    def __init__(self, remote: RemoteStore, name: str) -> None:
        self.remote = remote
        self.name = name
        self._stem = lock_key(name) + "."

    def key(self, ticket_id: str, part: str) -> str:
        """Of one object of a ticket."""
        return f"{self._stem}{ticket_id}-{part}"

    def listed(self) -> Queue:
        """All contenders and marks; names that are not ours are passed over."""
        tickets: dict[str, Ticket] = {}
        marks: set[str] = set()
        for count, meta in enumerate(self.remote.list(self._stem)):
            if count >= _MAX_TICKETS:
                raise StoreError(
                    f"more than {_MAX_TICKETS} objects named like lock tickets; remove them",
                    op="lock",
                    key=self._stem,
                )
            if (match := _NAME.fullmatch(meta.key[len(self._stem) :])) is None:
                continue
            if match[2] == MARK:
                marks.add(match[1])
                continue
            ticket = tickets.setdefault(match[1], Ticket(match[1]))
            if match[2] == PRESENCE:
                ticket.presence = meta
            else:
                ticket.place = meta
        return Queue(tickets, frozenset(marks))

    def write(self, ticket_id: str, part: str, record: HolderRecord) -> None:
        """Write one object of a ticket."""
        self.remote.put(self.key(ticket_id, part), encode_record(record))

    def remove(self, ids: Iterable[str]) -> None:
        """Delete exactly these contenders' objects, the places first."""
        wanted = list(ids)
        self.remote.delete(
            [self.key(ticket_id, part) for part in (PLACE, PRESENCE) for ticket_id in wanted]
        )

    def unmark(self, ids: Iterable[str]) -> None:
        """Delete marks whose time has passed."""
        self.remote.delete([self.key(mark_id, MARK) for mark_id in ids])

    def record(self, ticket_id: str, part: str = PRESENCE) -> HolderRecord | None:
        """What a contender says of itself; None when it is gone or unreadable."""
        try:
            stored = self.remote.get(self.key(ticket_id, part), stop=MAX_RECORD_BYTES + 1)
        except ObjectNotFound:
            return None
        return decode_record(stored.body)

    def info(self, ticket: Ticket) -> LockInfo | None:
        """A contender as the port shows it; its age is told by the server's clock alone."""
        if (record := self.record(ticket.id)) is None:
            return None
        return record.info(self.age_s(ticket))

    def mark_info(self, mark_id: str) -> LockInfo | None:
        """Who left a mark."""
        record = self.record(mark_id, MARK)
        return None if record is None else record.info(None)

    def age_s(self, ticket: Ticket) -> float | None:
        """Seconds since a contender queued up, by the server's clock; None if it does not tell."""
        meta = ticket.place or ticket.presence
        server_ms = self.remote.server_time_ms()
        if meta is None or not meta.modified_ms or server_ms is None:
            return None
        return max(0, server_ms - meta.modified_ms) / 1000


def queue_order(ticket: Ticket) -> tuple[int, str]:
    """What contenders are sorted by: those that have no place yet come last."""
    return ticket.order or (MAX_LISTED_MS, ticket.id)
