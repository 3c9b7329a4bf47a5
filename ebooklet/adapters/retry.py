"""Repeating what may be repeated, and only that: promises 3 and 4 of the RemoteStore port."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from ebooklet.errors import EBookletError, OutcomeUnknown, RemoteUnavailable

__all__ = ["CONNECT_TIMEOUT_S", "NotAccepted", "Retry", "RivalRequest"]

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 5.0  # tried twice, so an unreachable server fails within 15 s
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_SILENT_ATTEMPTS: Final = 2  # a server that does not even accept connections
_RIVAL_ATTEMPTS: Final = 5


class RivalRequest(RemoteUnavailable):
    """409: another request for the same object is in flight and nothing is decided: repeat."""


class NotAccepted(RemoteUnavailable):
    """The server did not even accept the connection in time: more attempts cost a wait each."""


@dataclass(frozen=True)
class Retry:
    """How often a request is repeated, with pauses that double and vary.

    Source: "full jitter" of Exponential Backoff and Jitter, AWS Architecture Blog, 2015.
    """

    retries: int = 3  # repetitions, so one attempt more
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random  # from 0 up to 1: to spread load, no secret

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
                silent += isinstance(exc, NotAccepted)
                if left == 0 or silent >= _SILENT_ATTEMPTS:
                    raise unanswered or _public(exc) from exc.__cause__
            self._pause(self.retries - left + 1)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def once(self, attempt: Callable[[], T]) -> T:
        """Make a conditional put; only a 409, which decides nothing, is asked again.

        Raises:
            EBookletError: the attempt's.
        """
        for attempts in range(1, _RIVAL_ATTEMPTS):
            try:
                return attempt()
            except RivalRequest:
                self._pause(attempts)
            except NotAccepted as exc:
                raise _public(exc) from exc.__cause__
        try:
            return attempt()
        except RivalRequest as exc:
            raise RemoteUnavailable(
                f"{exc.args[0]}, and kept putting this one off: try again", op=exc.op, key=exc.key
            ) from exc.__cause__
        except NotAccepted as exc:
            raise _public(exc) from exc.__cause__

    def _pause(self, attempts: int) -> None:
        """Wait after so many attempts, at least 1."""
        longest = min(_FIRST_PAUSE_S * 2 ** (attempts - 1), _LONGEST_PAUSE_S)
        self.sleep(longest * self.chance())


def _public(exc: EBookletError) -> EBookletError:
    """The error as callers know it: which kind of `RemoteUnavailable` matters to retries alone."""
    if isinstance(exc, (NotAccepted, RivalRequest)):
        return RemoteUnavailable(str(exc.args[0]), op=exc.op, key=exc.key)
    return exc
