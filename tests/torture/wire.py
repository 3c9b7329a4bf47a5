"""The way from one process to the server: its own proxy, which spoils the request it is told to.

The proxy lives in the process of its client, so that a killed client leaves half a request behind, as
one on the far side of a network would.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.faults import Fault, FaultRule
from tests.torture.cases import LOCK, Case

SLOW_S: Final = 0.5
_HELD_S: Final = 5.0  # how long the server may take over a request that is delivered late
_FOR_GOOD: Final = 1_000_000


class SpoiltWire:
    """A proxy, and the rule for the call that is under way."""

    def __init__(self, upstream_url: str) -> None:
        self._proxy = CountingProxy(upstream_url)
        self.url = self._proxy.url
        self._rule: FaultRule | None = None
        self._held: FaultRule | None = None

    def arm(self, case: Case) -> None:
        """Spoil what the case says, from now on."""
        self._proxy.reset()
        if case.fault is None:
            return
        self._rule = FaultRule(
            case.fault,
            path_contains=".lock" if case.amount else "",
            skip=case.request,
            # What is held cuts the client off: held for good, calls would never end.
            times=_FOR_GOOD if case.lasting and case.fault is not Fault.SLOW else 1,
            seconds=SLOW_S,
        )
        self._proxy.inject(self._rule)

    def calm(self, chance: float) -> dict[str, int]:
        """Spoil nothing more; what is held stays under way, or arrives now, by chance.

        Returns:
            requests, those about the lock, and those that were spoilt.
        """
        log = self._proxy.log
        hits = self._rule.hits if self._rule is not None else 0
        self._deliver()
        if self._rule is not None and self._rule.fault is Fault.HOLD and hits and chance < 0.7:
            self._held = self._rule
            self._held.times = 0
            if chance < 0.3:
                self._deliver()
        else:
            self._proxy.clear_faults()
        self._rule = None
        locking = sum(".lock" in exchange.path for exchange in log)
        return {"requests": len(log), "locking": locking, "hits": hits}

    def close(self) -> None:
        """Cut everything."""
        self._proxy.close()

    def _deliver(self) -> None:
        """Let arrive what an earlier call has left under way."""
        if self._held is not None:
            with suppress(TimeoutError):
                self._held.release(_HELD_S)
            self._held = None
            self._proxy.clear_faults()


def aimed(case: Case) -> dict[str, object]:
    """For the ledger: among whose requests the case is counted, and which it is for."""
    if case.fault is None:
        return {}
    target = LOCK if case.amount else case.call
    return {"target": target, "request": case.request, "lasting": case.lasting}
