"""Locks in a simulated world of slow, suspended, crashing clients: never two holders."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming
from ebooklet.adapters.locks.ticket import TicketLockService, TicketTiming
from ebooklet.errors import LockTimeout
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease, LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.simulation import World, WorldClock, WorldStore

Opener = Callable[[RemoteStore, Clock], LockService]


def live_together(
    seed: int, opener: Opener, *, clients: int, renew_every_s: float, conditions: bool
) -> tuple[list[int], int]:
    """Let clients take the lock, work, and release it or die.

    Returns:
        the tokens in the order of entering, and how many gave up.
    """
    world = World(seed)
    store = WorldStore(world, coarse=not conditions, conditions=conditions)
    holders: list[Lease] = []
    tokens: list[int] = []
    gave_up = 0

    def client() -> None:
        nonlocal gave_up
        clock = WorldClock(world)
        service = opener(store, clock)
        for _ in range(2):
            try:
                lease = service.acquire("db", timeout=20_000)
            except LockTimeout:
                gave_up += 1
                return
            assert all(other.lost for other in holders), "two live holders"
            holders[:] = [lease]
            tokens.append(lease.token)
            for _ in range(world.random.randrange(4)):
                clock.sleep(renew_every_s)
                if lease.lost or not lease.renew():  # type: ignore[attr-defined]  # of this adapter's leases
                    break
            if world.random.random() < 0.25:
                return  # dies holding it
            lease.release()

    for _ in range(clients):
        world.spawn(client)
    world.run()
    return tokens, gave_up


def lease_service(store: RemoteStore, clock: Clock) -> LockService:
    return LeaseLockService(store, clock, LeaseTiming(background=False))


def ticket_service(store: RemoteStore, clock: Clock) -> LockService:
    return TicketLockService(store, clock, TicketTiming(background=False))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_leases_exclude_each_other(seed: int) -> None:
    """Over conditional writes: one live holder, growing tokens, and the dead block nobody."""
    tokens, gave_up = live_together(
        seed, lease_service, clients=4, renew_every_s=15, conditions=True
    )
    assert tokens == sorted(set(tokens))
    assert tokens
    assert not gave_up


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_tickets_exclude_each_other(seed: int) -> None:
    """Over listings told in whole seconds: one live holder, growing tokens, nobody stuck."""
    tokens, gave_up = live_together(
        seed, ticket_service, clients=4, renew_every_s=20, conditions=False
    )
    assert tokens == sorted(set(tokens))
    assert tokens
    assert not gave_up
