"""A reverse proxy that counts what crosses it, and spoils what it is told to.

It stands in front of an S3 endpoint on loopback, keeps connections alive on both sides, one
upstream connection for each of a client's, and forwards every header as it came: the `Host` that
a client signs is the proxy's own, and the server must see the same. It never repeats a request.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ebooklet.core.closeable import Closeable
from ebooklet.testing.faults import Fault, FaultRule, RequestInfo
from ebooklet.testing.wire import Broken, Wire, parse_head

__all__ = ["CountingProxy", "Counts", "Exchange", "Fault", "FaultRule", "RequestInfo"]

_CONTINUE_WAIT_S: Final = 1.0  # how long a client waits for "100 Continue"; botocore's value
_CONNECT_TIMEOUT_S: Final = 10.0
_JOIN_MAX: Final = 64 * 1024  # bytes of a body that goes out in one piece with its head
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SLOW_DOWN: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Exchange(NamedTuple):
    """One request that was answered; a lost or halved answer counts as the server sent it."""

    method: str
    path: str  # with the query, as sent
    status: int  # 0 when no answer came
    up: int  # bytes of the request's body
    down: int  # bytes of the answer's body


@dataclass(frozen=True)
class Counts:
    """What crossed the proxy since the last reset."""

    requests: int = 0
    bytes_up: int = 0  # heads and bodies of requests
    bytes_down: int = 0  # heads and bodies of answers
    body_up: int = 0  # bodies only
    body_down: int = 0
    by_method: Mapping[str, int] = field(default_factory=dict)  # requests
    by_kind: Mapping[str, int] = field(default_factory=dict)  # requests, see RequestInfo.kind
    connections: int = 0


@dataclass(slots=True)
class _Record:
    request: RequestInfo
    exchange: Exchange
    head_up: int
    head_down: int
    started: float
    ended: float


class _Shared:
    """What the connections of one proxy have in common."""

    def __init__(self, upstream: tuple[str, int], latency_s: float) -> None:
        self.upstream = upstream
        self.latency_s = latency_s
        self.lock = threading.Lock()
        self.records: list[_Record] = []
        self.connections = 0
        self.rules: list[FaultRule] = []
        self.wires: set[Wire] = set()
        self.threads: set[threading.Thread] = set()
        self.closed = False

    def rule_for(self, request: RequestInfo) -> FaultRule | None:
        with self.lock:
            rules = list(self.rules)
        return next((rule for rule in rules if rule.takes(request)), None)

    def adopt(self, sock: socket.socket) -> Wire:
        wire = Wire(sock)
        with self.lock:
            if not self.closed:
                self.wires.add(wire)
                return wire
        wire.close()
        raise Broken("the proxy is closed")

    def drop(self, wire: Wire) -> None:
        with self.lock:
            self.wires.discard(wire)
        wire.close()

    def add(self, record: _Record) -> None:
        record.ended = time.monotonic()
        with self.lock:
            self.records.append(record)


class CountingProxy(Closeable):
    """Forward to `upstream_url`, counting; a context manager.

    Args:
        upstream_url: the server, `http://host:port`.
        latency_s: added to every request before it goes on; may be changed at any time.

    Example:
        >>> with CountingProxy(server.endpoint_url) as proxy:  # doctest: +SKIP
        ...     database = open_through(proxy.url)
        ...     proxy.reset()
        ...     database.push()
        ...     assert proxy.counts().requests <= 6
    """

    def __init__(self, upstream_url: str, *, latency_s: float = 0.0) -> None:
        parts = urlsplit(upstream_url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"the proxy forwards to http://host:port only, not {upstream_url!r}")
        self._shared = _Shared((parts.hostname, parts.port or 80), latency_s)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="proxy-accept", daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """Where clients reach the proxy."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def latency_s(self) -> float:
        """Seconds that every request waits before it goes on."""
        return self._shared.latency_s

    @latency_s.setter
    def latency_s(self, seconds: float) -> None:
        self._shared.latency_s = seconds

    @property
    def log(self) -> list[Exchange]:
        """The requests since the last reset, in the order in which they were answered."""
        with self._shared.lock:
            return [record.exchange for record in self._shared.records]

    def counts(self) -> Counts:
        """Sums since the last reset. An answer is counted before its last byte goes out."""
        with self._shared.lock:
            records, connections = list(self._shared.records), self._shared.connections
        body_up = sum(record.exchange.up for record in records)
        body_down = sum(record.exchange.down for record in records)
        return Counts(
            requests=len(records),
            bytes_up=body_up + sum(record.head_up for record in records),
            bytes_down=body_down + sum(record.head_down for record in records),
            body_up=body_up,
            body_down=body_down,
            by_method=dict(Counter(record.request.method for record in records)),
            by_kind=dict(Counter(record.request.kind for record in records)),
            connections=connections,
        )

    def depth(self) -> int:
        """Round trips in a row: the most requests of which each began after the last had ended.

        Source: interval scheduling, earliest end first (Kleinberg and Tardos, §4.1).
        """
        with self._shared.lock:
            spans = sorted((record.ended, record.started) for record in self._shared.records)
        depth, free_at = 0, float("-inf")
        for ended, started in spans:
            if started >= free_at:
                depth, free_at = depth + 1, ended
        return depth

    def reset(self) -> None:
        """Forget what was counted; connections and faults stay."""
        with self._shared.lock:
            self._shared.records.clear()
            self._shared.connections = 0

    def inject(self, rule: FaultRule) -> FaultRule:
        """Apply a rule from now on; returns it, for its `hits` and `release`."""
        with self._shared.lock:
            self._shared.rules.append(rule)
        return rule

    def clear_faults(self) -> None:
        """Drop all rules; requests held by them are never delivered."""
        with self._shared.lock:
            rules, self._shared.rules = self._shared.rules, []
        for rule in rules:
            rule.abandon()

    def close(self) -> None:
        """Stop listening and cut every connection; idempotent."""
        with self._shared.lock:
            if self._shared.closed:
                return
            self._shared.closed = True
            wires, threads = list(self._shared.wires), list(self._shared.threads)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the blocked accept
        self._listener.close()
        self.clear_faults()
        for wire in wires:
            wire.cut()
        for thread in [self._acceptor, *threads]:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
                client = self._shared.adopt(sock)
            except OSError:
                return
            thread = threading.Thread(
                target=_serve, args=(self._shared, client), name="proxy-client", daemon=True
            )
            with self._shared.lock:
                self._shared.connections += 1
                self._shared.threads.add(thread)
            thread.start()


def _serve(shared: _Shared, client: Wire) -> None:
    session = _Session(shared, client)
    try:
        while session.exchange():
            pass
    except (OSError, ValueError):  # either side went away, or sent no HTTP
        pass
    finally:
        session.close()
        with shared.lock:
            shared.threads.discard(threading.current_thread())


def _ignore(piece: memoryview) -> None:
    """Swallow what the client is not to get."""


class _Session:
    """One client's connection, and the upstream connection that goes with it."""

    def __init__(self, shared: _Shared, client: Wire) -> None:
        self._shared = shared
        self._client = client
        self._server: Wire | None = None

    def close(self) -> None:
        self._shared.drop(self._client)
        self._drop_server()

    def exchange(self) -> bool:
        """Forward one request and its answer; False when the connection is to end."""
        head = self._client.read_head()
        if not head:
            return False
        started = time.monotonic()
        first, headers = parse_head(head)
        method, path, _ = first.split(" ", 2)
        request = RequestInfo(method, path, headers)
        rule = self._shared.rule_for(request)
        fault = rule.fault if rule is not None else None
        record = _Record(request, Exchange(method, path, 0, 0, 0), len(head), 0, started, started)
        if self._shared.latency_s > 0:
            time.sleep(self._shared.latency_s)
        if rule is not None:
            if fault is Fault.CUT_BEFORE:
                return False
            if fault is Fault.UNAVAILABLE:
                return self._refuse(record)
            if fault is Fault.HOLD:
                self._hold(rule, record, head)
                return False
            if fault is Fault.SLOW:
                time.sleep(rule.seconds)
        server = self._connected()
        server.send(head)
        if fault is Fault.HALF_REQUEST:
            if "expect" in headers:
                self._client.send(_CONTINUE)
            self._client.move(request.length // 2, server.send)
            self._drop_server()
            return False
        alive, up = self._send_body(server, request)
        record.exchange = record.exchange._replace(up=up)
        return self._answer(server, record, fault) and alive

    def _connected(self) -> Wire:
        """The upstream connection, renewed when the server has closed it meanwhile."""
        if self._server is not None and self._server.readable(0):
            self._drop_server()
        if self._server is None:
            sock = socket.create_connection(self._shared.upstream, timeout=_CONNECT_TIMEOUT_S)
            sock.settimeout(None)
            self._server = self._shared.adopt(sock)
        return self._server

    def _drop_server(self) -> None:
        if self._server is not None:
            self._shared.drop(self._server)
            self._server = None

    def _send_body(self, server: Wire, request: RequestInfo) -> tuple[bool, int]:
        """Pass the request's body on.

        Returns:
            whether the connection can be used again, and the bytes that went up.
        """
        if "100-continue" in request.headers.get("expect", "").lower():
            # The answer may be a refusal, after which the client sends no body.
            end = time.monotonic() + _CONTINUE_WAIT_S
            while time.monotonic() < end and not self._client.readable(0):
                if server.readable(0.002):
                    answer = server.peek_head()
                    if not answer.startswith((b"HTTP/1.1 100", b"HTTP/1.0 100")):
                        return False, 0
                    self._client.send(server.read_head())
                    break
        moved = 0

        def forward(piece: memoryview) -> None:
            nonlocal moved
            server.send(piece)
            moved += len(piece)

        try:
            if request.chunked:
                self._client.move_chunked(forward)
            else:
                self._client.move(request.length, forward)
        except (BrokenPipeError, ConnectionResetError):
            if not server.readable(1.0):
                raise
            return False, moved  # the server answered before it had read all
        return True, moved

    def _answer(self, server: Wire, record: _Record, fault: Fault | None) -> bool:
        """Pass the answer on, unless a fault spoils it; False when the connection is to end."""
        head = server.read_head()
        while head.startswith(b"HTTP/1.1 1"):  # interim: the body was sent without waiting for it
            head = server.read_head()
        if not head:
            raise Broken("the server closed the connection without an answer")
        first, headers = parse_head(head)
        status = int(first.split(" ", 2)[1])
        send = _ignore if fault is Fault.LOSE_ANSWER else self._client.send
        record.head_down = len(head)

        def count(down: int) -> None:
            record.exchange = record.exchange._replace(status=status, down=down)
            self._shared.add(record)

        length = int(headers.get("content-length", 0))
        empty = record.request.method == "HEAD" or status in (204, 304)
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        to_end = False
        if empty or not (chunked or length or "content-length" not in headers):
            count(0)
            send(memoryview(head))
        elif fault is Fault.HALF_ANSWER:
            send(memoryview(head))
            server.move(length // 2, send)
            count(length // 2)
        elif chunked:
            send(memoryview(head))
            server.move_chunked(send, count)
        elif length:
            if length <= _JOIN_MAX:
                body = server.read_exactly(length)
                count(length)
                send(memoryview(head + body))
            else:
                send(memoryview(head))
                server.move(length, send, lambda: count(length))
        else:
            to_end = True
            send(memoryview(head))
            count(server.move_to_end(send))
        closing = to_end or first.startswith("HTTP/1.0") or _says_close(headers)
        if closing:
            self._drop_server()
        return not (
            closing
            or _says_close(record.request.headers)
            or fault in (Fault.LOSE_ANSWER, Fault.HALF_ANSWER)
        )

    def _refuse(self, record: _Record) -> bool:
        """Answer 503 without asking the server."""
        waits = "expect" in record.request.headers
        up = 0 if waits else self._swallow_body(record.request, _ignore)
        record.exchange = record.exchange._replace(status=503, up=up, down=len(_SLOW_DOWN))
        head = (
            "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(_SLOW_DOWN)}\r\n"
            f"Connection: {'close' if waits else 'keep-alive'}\r\n\r\n"
        ).encode()
        record.head_down = len(head)
        self._shared.add(record)
        body = b"" if record.request.method == "HEAD" else _SLOW_DOWN
        self._client.send(head + body)
        return not waits

    def _hold(self, rule: FaultRule, record: _Record, head: bytes) -> None:
        """Take the request in, cut the client off, and deliver it when the rule says so."""
        if "expect" in record.request.headers:
            self._client.send(_CONTINUE)
        body = bytearray()
        self._swallow_body(record.request, body.extend)
        self._client.cut()
        if not rule.wait_released():
            return
        server = self._connected()
        server.send(head + body)
        record.exchange = record.exchange._replace(up=len(body))
        self._answer(server, record, Fault.LOSE_ANSWER)
        rule.mark_delivered()

    def _swallow_body(self, request: RequestInfo, sink: Callable[[memoryview], None]) -> int:
        if request.chunked:
            return self._client.move_chunked(sink)
        self._client.move(request.length, sink)
        return request.length


def _says_close(headers: Mapping[str, str]) -> bool:
    return "close" in headers.get("connection", "").lower()
