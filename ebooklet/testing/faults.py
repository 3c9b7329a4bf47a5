"""What may go wrong with a request on its way: rules that a proxy applies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Fault", "FaultRule", "RequestInfo"]


class Fault(Enum):
    """One way of failing."""

    CUT_BEFORE = "cut before"  # the server never sees the request
    HALF_REQUEST = "half request"  # the connection breaks in the middle of the request's body
    LOSE_ANSWER = "lose answer"  # the server does the work, the client never hears of it
    HALF_ANSWER = "half answer"  # the connection breaks in the middle of the answer's body
    SLOW = "slow"  # the request waits `seconds` before it goes on to the server
    UNAVAILABLE = "unavailable"  # 503 SlowDown without asking the server
    HOLD = "hold"  # the client is cut off; the server gets the request at `rule.release()`


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The first line of a request and its headers."""

    method: str
    path: str  # with the query, as sent
    headers: dict[str, str]  # names in lower case

    @property
    def length(self) -> int:
        """Bytes of the body, where the request says."""
        return int(self.headers.get("content-length", 0))

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks, of a length not told beforehand."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def kind(self) -> str:
        """What the request is to S3: LIST, RANGE, GET, HEAD, CAS, COPY, PART, PUT, DELETE, …."""
        query = self.path.partition("?")[2]
        names = {part.partition("=")[0] for part in query.split("&")}
        if self.method == "GET":
            if names & {"list-type", "prefix", "max-keys"}:
                return "LIST"
            return "RANGE" if "range" in self.headers else "GET"
        if self.method == "PUT":
            if "partNumber" in names:
                return "PART"
            if "x-amz-copy-source" in self.headers:
                return "COPY"
            return "CAS" if {"if-match", "if-none-match"} & self.headers.keys() else "PUT"
        if self.method == "POST" and "delete" in names:
            return "DELETE_MANY"
        return self.method


@dataclass
class FaultRule:
    """When to fail, and how: the first rule that applies to a request is the one that acts.

    Args:
        fault: the way of failing.
        method: only requests of this method; None means any.
        path_contains: only requests whose path and query contain this text.
        kind: only requests of this `RequestInfo.kind`.
        when: any further condition.
        skip: let so many matching requests pass first.
        times: act on so many, then never again.
        seconds: how long `SLOW` waits.
    """

    fault: Fault
    method: str | None = None
    path_contains: str = ""
    kind: str | None = None
    when: Callable[[RequestInfo], bool] | None = None
    skip: int = 0
    times: int = 1
    seconds: float = 0.0
    hits: int = field(default=0, init=False)  # requests it acted on
    _passed: int = field(default=0, init=False, repr=False)
    _abandoned: bool = field(default=False, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _released: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _delivered: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def takes(self, request: RequestInfo) -> bool:
        """Whether to act on this request; counts it."""
        if (
            (self.method is not None and request.method != self.method)
            or self.path_contains not in request.path
            or (self.kind is not None and request.kind != self.kind)
            or (self.when is not None and not self.when(request))
        ):
            return False
        with self._lock:
            if self._passed < self.skip:
                self._passed += 1
                return False
            if self.hits >= self.times:
                return False
            self.hits += 1
            return True

    def release(self, timeout_s: float = 30) -> None:
        """Let held requests go on to the server, and wait until the first was answered."""
        self._released.set()
        if self.hits and not self._delivered.wait(timeout_s):
            raise TimeoutError("the held request was not answered by the server")

    def abandon(self) -> None:
        """Never deliver what is held; called when the rule is dropped."""
        self._abandoned = True
        self._released.set()

    def wait_released(self) -> bool:
        """Called by the proxy: block until `release` or `abandon`; whether to deliver."""
        self._released.wait()
        return not self._abandoned

    def mark_delivered(self) -> None:
        """Called by the proxy: the held request reached the server and was answered."""
        self._delivered.set()
