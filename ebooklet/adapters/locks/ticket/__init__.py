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

from ebooklet.adapters.locks.ticket.service import TicketLockService, open_service
from ebooklet.adapters.locks.ticket.timing import TicketTiming

__all__ = ["TicketLockService", "TicketTiming", "open_service"]
