"""Repeating what may be repeated: promise 4 of the port."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from botocore.exceptions import ConnectTimeoutError

from ebooklet.errors import EBookletError, OutcomeUnknown, RemoteUnavailable

__all__ = ["Retry"]

T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_SILENT_ATTEMPTS: Final = 2  # a server that does not even accept connections


@dataclass(frozen=True)
class Retry:
    """How often a request is repeated, with pauses that double and vary.

    Source: "full jitter" of Exponential Backoff and Jitter, AWS Architecture Blog, 2015.
    """

    retries: int = 3  # repetitions, so one attempt more
    sleep: Callable[[float], None] = time.sleep

    def run(self, attempt: Callable[[], T]) -> T:
        """Call `attempt` until it returns, or fails in a way that repeating does not mend.

        Raises:
            OutcomeUnknown: some attempt was not answered and no later one succeeded, whatever
                the later ones said: that write may have landed.
            EBookletError: the last attempt's.
        """
        unanswered: OutcomeUnknown | None = None
        silent = 0
        for left in range(self.retries, -1, -1):
            try:
                return attempt()
            except EBookletError as exc:
                if isinstance(exc, OutcomeUnknown):
                    unanswered = exc
                elif not isinstance(exc, RemoteUnavailable):
                    if unanswered is None:
                        raise
                    raise unanswered from exc
                silent += isinstance(exc.__cause__, ConnectTimeoutError)
                if left == 0 or silent >= _SILENT_ATTEMPTS:
                    raise unanswered or exc from exc.__cause__
            self.pause(self.retries - left + 1)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def pause(self, attempts: int) -> None:
        """Wait after so many attempts, at least 1."""
        longest = min(_FIRST_PAUSE_S * 2 ** (attempts - 1), _LONGEST_PAUSE_S)
        self.sleep(random.uniform(0, longest))  # noqa: S311 - to spread load, no secret
