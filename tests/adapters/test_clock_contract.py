"""Both clocks keep the port's promises."""

from __future__ import annotations

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.ports.clock import Clock
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.clock_contract import ClockContract


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return SystemClock()


class TestManualClock(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return ManualClock()
