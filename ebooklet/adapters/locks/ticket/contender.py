"""A contender: how one `acquire` queues up, waits for those before it, and enters."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ebooklet.adapters.holding import HolderRecord, lock_timeout
from ebooklet.adapters.locks.ticket.holding import TicketHolding
from ebooklet.adapters.locks.ticket.tickets import (
    MARK,
    MAX_LISTED_MS,
    PLACE,
    PRESENCE,
    Ticket,
    Tickets,
    queue_order,
)
from ebooklet.adapters.locks.ticket.timing import TicketTiming
from ebooklet.core.names import parse_sid, sid_text
from ebooklet.errors import StoreError
from ebooklet.ports.clock import Clock
from ebooklet.ports.remote_store import ObjectMeta

_REQUEUE_AFTER: Final = 3  # listings that do not show our ticket
_MAX_UNSEEN: Final = 12
_TOKEN_ID_BITS: Final = 20


class Contender:
    """One `acquire` on its way through the queue."""

    def __init__(
        self,
        tickets: Tickets,
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
        self._broken: set[str] = set()  # by us
        self._id = ""
        self._fence = 0
        self._beat_at = 0.0
        self._watched: dict[str, tuple[tuple[str, int, str], float]] = {}
        self._records: dict[str, tuple[tuple[str, int, str], HolderRecord | None]] = {}
        self._record = record

    def enter(self, timeout: float, fence: int, force: bool) -> TicketHolding:
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
            queue = self._in_the_way(listed.tickets)
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
                for ticket in sorted(queue.values(), key=queue_order)
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
                self._broken.update(ticket.id for ticket in before)
                last_seen = max(self._watched[ticket.id][1] for ticket in before)
                try:
                    self._tickets.remove(ticket.id for ticket in before)
                finally:  # a removal that failed may have taken effect, and is owed the same
                    # By force: it may have begun a request just before its ticket went.
                    self._owed_until = (
                        last_seen + timing.silent_s if stale else clock.monotonic() + timing.quiet_s
                    )
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
        self._tickets.write(mark_id, MARK, replace(self._record, state="free"))

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
        self._tickets.write(self._id, PLACE, self._record)

    def _beat(self) -> None:
        self._record = replace(
            self._record, beat=self._record.beat + 1, nonce=self._clock.token_bytes(16)
        )
        self._beat_at = self._clock.monotonic()
        self._tickets.write(self._id, PRESENCE, self._record)

    def _pause(self, seconds: float) -> None:
        """Sleep, and keep our own ticket fresh; one that was silent for too long stays so."""
        self._clock.sleep(seconds)
        if self._timing.beat_s <= self._clock.monotonic() - self._beat_at <= self._timing.valid_s:
            self._beat()

    def _in_the_way(self, tickets: dict[str, Ticket]) -> dict[str, Ticket]:
        """Without what a heartbeat under way brought back of a ticket that we broke."""
        return {
            ticket.id: ticket
            for ticket in tickets.values()
            if ticket.place is not None or ticket.id not in self._broken
        }

    def _watch(self, queue: dict[str, Ticket], now: float) -> None:
        """Note since when each ticket is unchanged, on our own clock."""
        for ticket_id in self._watched.keys() - queue.keys():
            _, since = self._watched.pop(ticket_id)
            for mark_id in self._marks:
                # It may have been the one that the mark is for: its breaker was slow to remove it.
                self._marks[mark_id] = now
            if now - since > self._timing.valid_s:
                # Silent for so long and then gone: another broke it rather than it was released.
                self._stay_quiet(since + self._timing.silent_s)
        for ticket in queue.values():
            known = self._watched.get(ticket.id)
            if known is None or known[0] != ticket.signature:
                self._watched[ticket.id] = ticket.signature, now

    def _stay_quiet(self, until: float) -> None:
        self._quiet_until = max(self._quiet_until, until)

    def _stale(self, ticket: Ticket, asked_at: float) -> bool:
        """Whether a listing asked for at that moment came too late after the last change."""
        return asked_at - self._watched[ticket.id][1] >= self._timing.stale_s

    def _holds(self, ticket: Ticket) -> bool:
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

    def _hold(self, place: ObjectMeta, asked_at: float) -> TicketHolding:
        """Say that we hold the lock, ours since the listing asked for at that moment.

        Nothing lasts in such a store that could count tokens, but places only grow, so a token is
        the place in the queue as a number: listed time, then the leading bits of the id.
        """
        number = int.from_bytes(parse_sid(self._id), "big") >> (128 - _TOKEN_ID_BITS)
        listed_ms = min(place.modified_ms, MAX_LISTED_MS)
        token = max(self._fence + 1, listed_ms << _TOKEN_ID_BITS | number)
        self._record = replace(self._record, token=token, state="held")
        self._beat()
        return TicketHolding(
            self._tickets, self._id, self._record, self._clock, self._timing.valid_s, asked_at
        )
