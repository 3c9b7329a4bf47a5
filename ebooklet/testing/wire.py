"""Just enough HTTP/1.1 to forward messages: framing of heads and bodies over blocking sockets.

Source: RFC 9112 §6 (message body), §7.1 (chunked).
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_MAX_HEAD: Final = 64 * 1024  # bytes
_MAX_LINE: Final = 8 * 1024  # bytes of one chunk-size or trailer line
_PIECE: Final = 1 << 20  # bytes moved at once

Sink = Callable[[memoryview], None]


class Broken(ConnectionError):
    """The other side closed the connection, or does not speak HTTP/1.1."""


def parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    """The first line of a message, and its headers with names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return first, headers


class Wire:
    """One connection: buffered reading of heads, unbuffered moving of bodies."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._read = b""  # received and not yet used
        self._space: memoryview | None = None

    def read_head(self) -> bytes:
        """Everything up to and with the empty line; `b""` at a clean end."""
        head = self.peek_head()
        self._read = self._read[len(head) :]
        return head

    def peek_head(self) -> bytes:
        """What `read_head` will return, left where it is."""
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            if len(self._read) > _MAX_HEAD:
                raise Broken("head too long")
            piece = self.sock.recv(65536)
            if not piece:
                if self._read:
                    raise Broken("cut inside a head")
                return b""
            self._read += piece
        return self._read[: end + 4]

    def read_exactly(self, count: int) -> bytes:
        """A small body, whole."""
        body = bytearray()
        self.move(count, body.extend)
        return bytes(body)

    def readable(self, timeout_s: float) -> bool:
        """Whether bytes, or the end, can be read."""
        if self._read:
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def move(self, count: int, sink: Sink, before_last: Callable[[], None] | None = None) -> None:
        """Pass exactly `count` bytes on, calling `before_last` before the last piece goes out."""
        while count:
            piece = self._take(count)
            count -= len(piece)
            if not count and before_last is not None:
                before_last()
            sink(piece)

    def move_chunked(self, sink: Sink, before_last: Callable[[int], None] | None = None) -> int:
        """Pass a chunked body on as it is; return its bytes, framing included."""
        total = 0
        while True:
            line = self._line()
            total += len(line)
            size = int(line.split(b";")[0], 16)
            if not size:
                break
            sink(memoryview(line))
            self.move(size + 2, sink)
            total += size + 2
        end = line
        while True:  # trailers, up to the empty line
            line = self._line()
            total += len(line)
            end += line
            if line == b"\r\n":
                break
        if before_last is not None:
            before_last(total)
        sink(memoryview(end))
        return total

    def move_to_end(self, sink: Sink) -> int:
        """Pass everything on until the other side closes; return the bytes."""
        total = 0
        while piece := self._take(_PIECE, end_ok=True):
            total += len(piece)
            sink(piece)
        return total

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def cut(self) -> None:
        """End the connection for both sides; safe from another thread than its reader's."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut the connection and give its descriptor back."""
        self.cut()
        self.sock.close()

    def _take(self, at_most: int, *, end_ok: bool = False) -> memoryview:
        """Some bytes; valid until the next call."""
        if self._read:
            piece, self._read = self._read[:at_most], self._read[at_most:]
            return memoryview(piece)
        if self._space is None:
            self._space = memoryview(bytearray(_PIECE))
        size = self.sock.recv_into(self._space, min(at_most, _PIECE))
        if not size and not end_ok:
            raise Broken("cut inside a body")
        return self._space[:size]

    def _line(self) -> bytes:
        while (end := self._read.find(b"\r\n")) < 0:
            piece = self.sock.recv(65536)
            if not piece or len(self._read) > _MAX_LINE:
                raise Broken("cut inside a chunked body")
            self._read += piece
        line, self._read = self._read[: end + 2], self._read[end + 2 :]
        return line
