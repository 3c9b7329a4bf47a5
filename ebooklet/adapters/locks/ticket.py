"""A queue of tickets, ordered by the listing of a store that ignores conditions (FORMAT §7).

Each contender has two objects: `<name>.lock.<id>-0` says that it is there, carries its record and
is rewritten as its heartbeat; `<name>.lock.<id>-1` is written after it, once, and its listed time
is the place in the queue. This is the bakery algorithm with the server's listing for a clock:

- whoever has a presence and no place yet is waited for;
- the smallest (listed time, id) goes first;
- a contender enters after two listings, at least a second apart, in which nobody is before it. A
  rival whose presence the second one did not show writes its place after it, so more than a second
  after ours, and comes later even where times are listed in whole seconds.

A contender, waiting or holding, rewrites its presence every quarter of `stale_s`. Once half of it
has passed since the last rewriting it knows of, it gives its ticket up: it begins nothing more under
it. Others break a ticket after `stale_s` without a change, and enter no sooner than `quiet_s` after
the moment when its owner must have given up, so that requests under way then have arrived: all on
their own clock, from when they first saw the last change, which is not before its owner began it.

Breaking a ticket by force owes its owner's last requests the same time, whoever comes next. A breaker
that enters itself waits; one that does not, or gives up meanwhile, leaves a mark, `<name>.lock.<id>-2`.
Whoever is next lets `quiet_s` pass from when it first saw the mark, and takes it away.

What it gives rests on the server's listing being fresh and its clock not going back; the head of
such a database is verified around each write for that reason.

Source: L. Lamport, "A new solution of Dijkstra's concurrent programming problem", CACM 17(8), 1974.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ebooklet.adapters.holding import (
    MAX_RECORD_BYTES,
    HeldLease,
    HolderRecord,
    Holding,
    State,
    decode_record,
    encode_record,
    host_name,
    lock_timeout,
)
from ebooklet.core.names import lock_key, parse_sid, sid_text
from ebooklet.errors import ObjectNotFound, StoreError
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease, LockInfo
from ebooklet.ports.remote_store import ObjectMeta, RemoteStore

__all__ = ["TicketLockService", "TicketTiming", "open_service"]

_NAME: Final = re.compile(r"([0-9a-z]{26})-([012])")
_MAX_TICKETS: Final = 4096  # objects listed; more is an attack or a mistake
_PRESENCE, _PLACE, _MARK = "0", "1", "2"
_REQUEUE_AFTER: Final = 3  # listings that do not show our ticket
_MAX_UNSEEN: Final = 12
_TOKEN_ID_BITS: Final = 20
_MAX_LISTED_MS: Final = (1 << 43) - 1  # year 2248; tokens stay below 2**63


@dataclass(frozen=True, slots=True)
class TicketTiming:
    """How the queue breathes; everything in seconds."""

    settle_s: float = 1.0  # between two clear listings; never less than the listing's resolution
    poll_max_s: float = 5.0
    stale_s: float = 80.0  # unchanged for so long: dead
    quiet_s: float = 60.0  # after the last moment when a former holder may have begun a request
    background: bool = True  # heartbeat in a thread; otherwise the caller calls `renew`

    @property
    def beat_s(self) -> float:
        """Seconds between heartbeats."""
        return self.stale_s / 4

    @property
    def valid_s(self) -> float:
        """Seconds after the last acknowledged heartbeat when a contender gives up."""
        return self.stale_s / 2

    @property
    def silent_s(self) -> float:
        """Seconds after the last change of a broken ticket when another may write."""
        return self.valid_s + self.quiet_s


@dataclass(slots=True)
class _Ticket:
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
class _Queue:
    """What one listing showed."""

    tickets: dict[str, _Ticket]  # contenders, by id
    marks: frozenset[str]  # ids of breakings whose last requests may be under way


class _Tickets:
    """The ticket objects of one lock."""

    def __init__(self, remote: RemoteStore, name: str) -> None:
        self.remote = remote
        self.name = name
        self._stem = lock_key(name) + "."

    def key(self, ticket_id: str, part: str) -> str:
        return f"{self._stem}{ticket_id}-{part}"

    def listed(self) -> _Queue:
        """All contenders and marks; names that are not ours are passed over."""
        tickets: dict[str, _Ticket] = {}
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
            if match[2] == _MARK:
                marks.add(match[1])
                continue
            ticket = tickets.setdefault(match[1], _Ticket(match[1]))
            if match[2] == _PRESENCE:
                ticket.presence = meta
            else:
                ticket.place = meta
        return _Queue(tickets, frozenset(marks))

    def write(self, ticket_id: str, part: str, record: HolderRecord) -> None:
        self.remote.put(self.key(ticket_id, part), encode_record(record))

    def remove(self, ids: Iterable[str]) -> None:
        """Delete exactly these contenders' objects, the places first."""
        wanted = list(ids)
        self.remote.delete(
            [self.key(ticket_id, part) for part in (_PLACE, _PRESENCE) for ticket_id in wanted]
        )

    def unmark(self, ids: Iterable[str]) -> None:
        """Delete marks whose time has passed."""
        self.remote.delete([self.key(mark_id, _MARK) for mark_id in ids])

    def record(self, ticket_id: str, part: str = _PRESENCE) -> HolderRecord | None:
        """What a contender says of itself; None when it is gone or unreadable."""
        try:
            stored = self.remote.get(self.key(ticket_id, part), stop=MAX_RECORD_BYTES + 1)
        except ObjectNotFound:
            return None
        return decode_record(stored.body)

    def info(self, ticket: _Ticket) -> LockInfo | None:
        """A contender as the port shows it; its age is told by the server's clock alone."""
        if (record := self.record(ticket.id)) is None:
            return None
        return record.info(self.age_s(ticket))

    def mark_info(self, mark_id: str) -> LockInfo | None:
        """Who left a mark."""
        record = self.record(mark_id, _MARK)
        return None if record is None else record.info(None)

    def age_s(self, ticket: _Ticket) -> float | None:
        meta = ticket.place or ticket.presence
        server_ms = self.remote.server_time_ms()
        if meta is None or not meta.modified_ms or server_ms is None:
            return None
        return max(0, server_ms - meta.modified_ms) / 1000


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
        contender = _Contender(
            _Tickets(self._remote, name),
            self._clock,
            self._timing,
            _record(self._clock, self._timing, purpose, "waiting"),
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
        tickets = _Tickets(self._remote, name)
        infos = [
            info
            for ticket in sorted(tickets.listed().tickets.values(), key=_queue_order)
            if (info := tickets.info(ticket)) is not None
        ]
        return next((info for info in infos if info.state == "held"), infos[0] if infos else None)

    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        """See `LockService.break_lock`; waiting tickets count too."""
        tickets = _Tickets(self._remote, name)
        broken: dict[str, LockInfo] = {}
        for ticket in tickets.listed().tickets.values():
            age_s = tickets.age_s(ticket)
            if ticket.id in self._own:
                continue
            if older_than_s > 0 and (age_s is None or age_s < older_than_s):
                continue
            if (info := tickets.info(ticket)) is not None:
                broken[ticket.id] = info
        if broken:
            mark_id = sid_text(self._clock.token_bytes(16))
            self._own.add(mark_id)
            record = _record(self._clock, self._timing, "to break a lock", "free")
            tickets.write(mark_id, _MARK, record)  # first: no listing shows neither
            tickets.remove(broken)
            self._marks[mark_id] = self._clock.monotonic()
        return list(broken.values())


def _record(clock: Clock, timing: TicketTiming, purpose: str, state: State) -> HolderRecord:
    """What a ticket or a mark of this process says."""
    return HolderRecord(
        token=0,
        owner=clock.token_bytes(16).hex(),
        host=host_name(),
        pid=os.getpid(),
        purpose=purpose[:100],
        state=state,
        ttl_ms=round(timing.stale_s * 1000),
        beat=0,
        nonce=bytes(16),
    )


def _queue_order(ticket: _Ticket) -> tuple[int, str]:
    return ticket.order or (_MAX_LISTED_MS, ticket.id)


class _Contender:
    """One `acquire` on its way through the queue."""

    def __init__(
        self,
        tickets: _Tickets,
        clock: Clock,
        timing: TicketTiming,
        record: HolderRecord,
        own: set[str],
        marks: dict[str, float],
    ) -> None:
        self._quiet_until = float("-inf")  # not to enter before; a ticket was broken
        self._owed_until = float("-inf")  # nobody is to enter before, as it was we who broke it
        self._tickets = tickets
        self._clock = clock
        self._timing = timing
        self._own = own
        self._marks = marks
        self._id = ""
        self._fence = 0
        self._beat_at = 0.0
        self._watched: dict[str, tuple[tuple[str, int, str], float]] = {}
        self._records: dict[str, tuple[tuple[str, int, str], HolderRecord | None]] = {}
        self._record = record

    def enter(self, timeout: float, fence: int, force: bool) -> _TicketHolding:
        """Queue up, wait, and hold the lock; the caller calls `leave` if this raises."""
        clock, timing = self._clock, self._timing
        self._fence = fence
        began = clock.monotonic()
        forced = force
        poll_s = min(timing.settle_s, timing.poll_max_s)
        self._queue_up()
        unseen = 0  # listings without our ticket
        clear_at: float | None = None
        while True:
            asked_at = clock.monotonic()
            listed = self._tickets.listed()
            now = clock.monotonic()
            queue = listed.tickets
            mine = queue.pop(self._id, None)
            if mine is None or mine.place is None or mine.presence is None:
                # Another broke it, or the listing is late.
                unseen += 1
                clear_at = None
                if unseen >= _MAX_UNSEEN:
                    raise StoreError(
                        "the store does not list what was just written; no lock can be built on it",
                        op="lock",
                        key=self._tickets.name,
                    )
                if unseen % _REQUEUE_AFTER == 0:
                    self._queue_up_again()
                self._pause(poll_s)
                continue
            unseen = 0
            self._watch(queue, now)
            marked_until = self._heed(listed.marks, now)
            if asked_at - self._beat_at > timing.valid_s:
                clear_at = None
                self._queue_up_again()
                continue
            before = [
                ticket
                for ticket in sorted(queue.values(), key=_queue_order)
                if ticket.order is None or ticket.order < (mine.place.modified_ms, self._id)
            ]
            if not before and clear_at is not None and now - clear_at >= timing.settle_s:
                # Also those behind us, in case the server's clock went back.
                before = [ticket for ticket in queue.values() if self._holds(ticket)]
            if not before:
                clear_at = now if clear_at is None else clear_at
                enter_at = max(clear_at + timing.settle_s, self._quiet_until)
                if now >= enter_at:
                    self._clear(listed.marks)
                    return self._hold(mine.place, asked_at)
                if now - began >= timeout and now < marked_until and not forced:
                    first_mark = min(listed.marks - self._own)
                    raise lock_timeout(
                        self._tickets.name, self._tickets.mark_info(first_mark), now - began
                    )
                self._pause(min(enter_at - now, timing.beat_s))
                continue
            clear_at = None
            for ticket in before[:1]:
                self._holds(ticket)  # learns its token
            stale = all(self._stale(ticket, asked_at) for ticket in before)
            if force or stale:
                force = False  # those who come later are not in our way
                self._tickets.remove(ticket.id for ticket in before)
                if stale:
                    last_seen = max(self._watched[ticket.id][1] for ticket in before)
                    self._owed_until = last_seen + timing.silent_s
                else:  # it may have begun a request just before its ticket went
                    self._owed_until = clock.monotonic() + timing.quiet_s
                self._stay_quiet(self._owed_until)
                continue
            if now - began >= timeout:
                first = next((ticket for ticket in before if self._holds(ticket)), before[0])
                raise lock_timeout(self._tickets.name, self._tickets.info(first), now - began)
            self._pause(min(poll_s, max(began + timeout - now, 0.001)))
            poll_s = min(1.5 * poll_s, timing.poll_max_s)

    def leave(self) -> None:
        """Take our tickets away, and leave what we owe; if that fails they go stale."""
        if self._id:
            self._own.discard(self._id)
            try:
                if self._clock.monotonic() < self._owed_until:
                    self._leave_mark()
                self._tickets.remove([self._id])
            except StoreError:
                return
            self._id = ""

    def _leave_mark(self) -> None:
        """Have the next one wait for the requests of those whose tickets we broke."""
        mark_id = sid_text(self._clock.token_bytes(16))
        self._own.add(mark_id)
        self._marks[mark_id] = self._owed_until - self._timing.quiet_s
        self._tickets.write(mark_id, _MARK, replace(self._record, state="free"))

    def _heed(self, marks: frozenset[str], now: float) -> float:
        """Wait for what others owed; until when because of marks that we did not leave."""
        until = {
            mark_id: self._marks.setdefault(mark_id, now) + self._timing.quiet_s
            for mark_id in marks
        }
        for moment in until.values():
            self._stay_quiet(moment)
        return max((until[mark_id] for mark_id in marks - self._own), default=float("-inf"))

    def _clear(self, marks: frozenset[str]) -> None:
        """Take away the marks that were heeded."""
        if marks:
            self._tickets.unmark(marks)
            for mark_id in marks:
                self._marks.pop(mark_id, None)
                self._own.discard(mark_id)

    def _queue_up_again(self) -> None:
        """Give the place up for a new one: others have broken the ticket, or may be about to."""
        self.leave()
        self._queue_up()

    def _queue_up(self) -> None:
        self._id = sid_text(self._clock.token_bytes(16))
        self._own.add(self._id)
        self._beat()
        self._tickets.write(self._id, _PLACE, self._record)

    def _beat(self) -> None:
        self._record = replace(
            self._record, beat=self._record.beat + 1, nonce=self._clock.token_bytes(16)
        )
        self._beat_at = self._clock.monotonic()
        self._tickets.write(self._id, _PRESENCE, self._record)

    def _pause(self, seconds: float) -> None:
        """Sleep, and keep our own ticket fresh; one that was silent for too long stays so."""
        self._clock.sleep(seconds)
        if self._timing.beat_s <= self._clock.monotonic() - self._beat_at <= self._timing.valid_s:
            self._beat()

    def _watch(self, queue: dict[str, _Ticket], now: float) -> None:
        """Note since when each ticket is unchanged, on our own clock."""
        for ticket_id in self._watched.keys() - queue.keys():
            _, since = self._watched.pop(ticket_id)
            if now - since > self._timing.valid_s:
                # Silent for so long and then gone: another broke it rather than it was released.
                self._stay_quiet(since + self._timing.silent_s)
        for ticket in queue.values():
            known = self._watched.get(ticket.id)
            if known is None or known[0] != ticket.signature:
                self._watched[ticket.id] = ticket.signature, now

    def _stay_quiet(self, until: float) -> None:
        self._quiet_until = max(self._quiet_until, until)

    def _stale(self, ticket: _Ticket, asked_at: float) -> bool:
        """Whether a listing asked for at that moment came too late after the last change."""
        return asked_at - self._watched[ticket.id][1] >= self._timing.stale_s

    def _holds(self, ticket: _Ticket) -> bool:
        """Whether a contender says that it holds the lock; one request if it changed."""
        known = self._records.get(ticket.id)
        if known is None or known[0] != ticket.signature:
            known = ticket.signature, self._tickets.record(ticket.id)
            self._records[ticket.id] = known
        record = known[1]
        if record is None or record.state != "held":
            return False
        self._fence = max(self._fence, record.token)
        return True

    def _hold(self, place: ObjectMeta, asked_at: float) -> _TicketHolding:
        """Say that we hold the lock, ours since the listing asked for at that moment.

        Nothing lasts in such a store that could count tokens, but places only grow, so a token is
        the place in the queue as a number: listed time, then the leading bits of the id.
        """
        number = int.from_bytes(parse_sid(self._id), "big") >> (128 - _TOKEN_ID_BITS)
        listed_ms = min(place.modified_ms, _MAX_LISTED_MS)
        token = max(self._fence + 1, listed_ms << _TOKEN_ID_BITS | number)
        self._record = replace(self._record, token=token, state="held")
        self._beat()
        return _TicketHolding(
            self._tickets, self._id, self._record, self._clock, self._timing.valid_s, asked_at
        )


class _TicketHolding(Holding):
    """The lock, ours as long as our place is listed and nobody's is before it."""

    def __init__(
        self,
        tickets: _Tickets,
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
        with self.mutex:
            if self.lost_because() is not None:
                return False
            record = replace(
                self.record, beat=self.record.beat + 1, nonce=self.clock.token_bytes(16)
            )
            sent_at = self.clock.monotonic()
            try:
                self._tickets.write(self._id, _PRESENCE, record)
                self.verify()
            except StoreError:
                return False
            if self.lost_because() is not None:
                return False
            self.record = record
            self.acknowledge(sent_at)
            return True

    def verify(self) -> None:
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
        with self.mutex:
            self._tickets.remove([self._id])


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
