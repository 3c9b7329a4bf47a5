"""What every clock owes its users: subclass, provide a `clock` fixture, run pytest."""

from __future__ import annotations

from ebooklet.ports.clock import Clock
from ebooklet.testing.contract import Contract

__all__ = ["ClockContract"]

_YEAR_2020_US = 1_577_836_800_000_000
_NAP_S = 0.01


class ClockContract(Contract):
    """The promises of `ebooklet.ports.clock.Clock`."""

    def test_wall_time_is_in_microseconds(self, clock: Clock) -> None:
        """`now_us` counts µs since the epoch: a date of this century, below 2**56 (promise 1)."""
        assert _YEAR_2020_US < clock.now_us() < 1 << 56

    def test_monotonic_never_goes_back(self, clock: Clock) -> None:
        """Later readings are never smaller (promise 2)."""
        readings = [clock.monotonic() for _ in range(1000)]
        assert readings == sorted(readings)

    def test_sleep_passes_at_least_its_time(self, clock: Clock) -> None:
        """After `sleep`, both clocks have moved on, `monotonic` by the whole nap (promise 2)."""
        wall, began = clock.now_us(), clock.monotonic()
        clock.sleep(_NAP_S)
        assert clock.monotonic() - began >= _NAP_S * 0.99
        assert clock.now_us() > wall

    def test_no_nap_is_no_error(self, clock: Clock) -> None:
        """`sleep(0)` returns, and time has not gone back."""
        began = clock.monotonic()
        clock.sleep(0)
        assert clock.monotonic() >= began

    def test_tokens_are_as_long_as_asked_and_differ(self, clock: Clock) -> None:
        """`token_bytes(n)` gives n bytes, never the same sixteen twice (promise 3)."""
        assert [len(clock.token_bytes(n)) for n in (0, 1, 16, 100)] == [0, 1, 16, 100]
        assert len({clock.token_bytes(16) for _ in range(1000)}) == 1000
