"""Segment ids: never behind the floor, never back in time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.minting import SidMinter
from ebooklet.core.names import MAX_MS, sid_ms
from ebooklet.errors import RemoteIntegrityError

times = st.integers(0, MAX_MS)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, MAX_MS - 1), st.lists(times, min_size=1, max_size=6))
def test_times_pass_the_floor_and_never_go_back(floor: int, clock: list[int]) -> None:
    """Whatever the clock says, ids lie above the floor, in order, and at the clock where it can be."""
    minter = SidMinter(floor)
    minted = [sid_ms(minter.mint(now, bytes(10))) for now in clock]
    assert all(ms > floor for ms in minted)
    assert minted == sorted(minted)
    assert minted[0] == max(clock[0], floor + 1)
    assert minter.last_ms == minted[-1]


def test_a_clock_beyond_48_bits_is_capped() -> None:
    """A clock thousands of years off still mints a valid id."""
    assert sid_ms(SidMinter().mint(1 << 60, bytes(10))) == MAX_MS


def test_a_floor_at_the_end_of_time_is_refused() -> None:
    """A hostile head cannot make ids wrap around to garbage."""
    with pytest.raises(RemoteIntegrityError, match="floor"):
        SidMinter(MAX_MS).mint(0, bytes(10))


def test_randomness_makes_ids_differ() -> None:
    """Two ids of one millisecond differ by their random part."""
    minter = SidMinter()
    assert minter.mint(5, b"a" * 10) != minter.mint(5, b"b" * 10)
