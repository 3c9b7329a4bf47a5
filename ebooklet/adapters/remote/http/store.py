"""The remote store of plain URLs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import BinaryIO, Final, NoReturn, TypeVar
from urllib.parse import quote, unquote, urlsplit

from urllib3.response import BaseHTTPResponse

from ebooklet.adapters.httpanswers import UNKNOWN_SIZE, described, part_of
from ebooklet.adapters.objects import check_key, check_span, read_part, whole_part
from ebooklet.adapters.parallel import held_at_once, ordered_map
from ebooklet.adapters.remote.http.client import NO_HEAD, Client
from ebooklet.adapters.remote.http.whole import MAX_KEPT_BYTES, WholeObjects
from ebooklet.connection import DEFAULT_THREADS, RemoteAddress
from ebooklet.errors import (
    EBookletError,
    InvalidURLError,
    ReadOnlyError,
    RemoteUnavailable,
    UnsupportedOperation,
)
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Capabilities,
    Condition,
    ObjectMeta,
    Origin,
    StoredObject,
)

__all__ = ["HttpRemoteStore", "open_store"]

T = TypeVar("T")

_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_URL_PATH: Final = "/%:@!$&'()*+,;=~"  # what a path may hold as it is (RFC 3986 §3.3)
_NO_QUERY: Final = (
    "the database's URL must end with the path: a query, such as a signature's, would not hold "
    "for the objects beside it"
)
_CAPABILITIES: Final = Capabilities(
    conditional_put=False,
    server_side_copy=False,
    max_copy_bytes=0,
    ranges=True,
    writable=False,
    max_put_bytes=0,
    shared=True,
)


class HttpRemoteStore:
    """The folder of a database's URL; nothing is sent before the first call.

    Keys are names below that folder, not yet percent-encoded. What belongs to the database keeps
    the spelling of its URL, byte for byte: some servers tell `%2B` from `+`.

    Proxies come from the environment, as for `urllib.request`. TLS certificates are checked
    against the system's; `SSL_CERT_FILE` names others.

    Args:
        db_url: URL of the database object: scheme, host and path only.
        threads: largest number of transfers at once.
        read_timeout_s: seconds of silence after which a request is given up.
        retries: how often a request is repeated.
        sleep: how to wait between attempts, in seconds.
        kept_bytes: of objects kept in memory, should the server send whole objects for ranges.

    Raises:
        InvalidURLError: the URL is of another kind, names no object, or carries a query.

    Example:
        >>> store = HttpRemoteStore("https://data.example.org/open/my%20db")
        >>> store.db_key, store
        ('my db', HttpRemoteStore('https://data.example.org/open/my%20db'))
    """

    def __init__(
        self,
        db_url: str,
        *,
        threads: int = DEFAULT_THREADS,
        read_timeout_s: float = 60,
        retries: int = 3,
        sleep: Callable[[float], None] = time.sleep,
        kept_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        parts = urlsplit(db_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise InvalidURLError(
                "the database's URL must be http(s)://host/path, without credentials"
            )
        if parts.query or parts.fragment:
            raise InvalidURLError(_NO_QUERY)
        path = quote(_STRAY_PERCENT.sub("%25", parts.path), safe=_URL_PATH)
        folder, _, name = path.rpartition("/")
        if not name:
            raise InvalidURLError(
                "the URL must name the database's object, as in https://host/path/db"
            )
        self._folder = f"{parts.scheme}://{parts.netloc}{folder}/"
        self._spelled = name
        self._db_key = unquote(name)
        self._threads = threads
        self._client = Client(
            self._folder,
            threads=threads,
            read_timeout_s=read_timeout_s,
            retries=retries,
            sleep=sleep,
        )
        self._knows_head = True
        self._whole = WholeObjects(kept_bytes)

    def __repr__(self) -> str:
        return f"HttpRemoteStore({self._folder + self._spelled!r})"

    @property
    def db_key(self) -> str:
        """The key of the database's object."""
        return self._db_key

    @property
    def location(self) -> str:
        """The folder's URL, without the slash at its end."""
        return self._folder.removesuffix("/")

    @property
    def endpoint(self) -> str:
        """The folder's URL; nothing is ever probed here."""
        return self._folder

    @property
    def origin(self) -> Origin | None:
        """None: a public URL names nothing that a server could copy."""
        return None

    @property
    def capabilities(self) -> Capabilities:
        """Reading only."""
        return replace(_CAPABILITIES, parallel=self._threads)

    # Reading.

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """See `RemoteStore.get`."""
        check_key(key, "get")
        check_span(start, stop, key)
        if start == stop:
            return StoredObject(b"", self.head(key))
        if start == 0 and stop is None:
            return self._ask("GET", key, None, partial(part_of, key=key, start=0, stop=None))
        read: Callable[[BaseHTTPResponse], StoredObject]
        if stop is None:
            read = partial(part_of, key=key, start=start, stop=None)
        else:
            read = partial(self._part_of, ByteRange(key, start, stop))
        found = self._ask("GET", key, _span(start, stop), read)
        if found.meta.size != UNKNOWN_SIZE:
            return found
        meta = self.head(key)
        if start < meta.size:
            raise RemoteUnavailable(
                "the object changed while it was read: try again", op="get", key=key
            )
        return StoredObject(b"", meta)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """See `RemoteStore.get_ranges`; from a server that ignores ranges, each object once."""
        done = 0
        while done < len(ranges) and not self._whole.sends_parts:
            yield self._part(ranges[done])
            done += 1
        if len(ranges) - done < 2:
            yield from map(self._part, ranges[done:])
        else:
            left = ranges[done:]
            ahead = held_at_once(left, self._threads)
            yield from ordered_map(self._client.pool, self._part, left, ahead=ahead)

    def head(self, key: str) -> ObjectMeta:
        """See `RemoteStore.head`; by a GET of one byte from servers that refuse HEAD."""
        check_key(key, "head")
        if self._knows_head:
            meta = self._ask("HEAD", key, None, partial(_described, key=key))
            if meta is not None:
                return meta
            self._knows_head = False
        found = self._ask("GET", key, "bytes=0-0", partial(part_of, key=key, start=0, stop=1))
        return found.meta

    def server_time_ms(self) -> int | None:
        """See `RemoteStore.server_time_ms`."""
        return self._client.server_time_ms()

    def close(self) -> None:
        """End the threads, close the connections; a later call opens them anew."""
        self._client.close()
        self._whole.clear()

    # What a public URL cannot do.

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """Refuse: see `capabilities`."""
        self._refuse("put", key)

    def delete(self, keys: Iterable[str]) -> None:
        """Refuse: see `capabilities`."""
        self._refuse("delete", None)

    def copies_from(self, origin: Origin | None) -> bool:
        """Nothing."""
        return False

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """Refuse: see `capabilities`."""
        self._refuse("copy", target)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Refuse: HTTP knows no lists."""
        raise UnsupportedOperation(
            f"{self._folder} is a plain URL, which cannot be listed", op="list", key=prefix
        )

    def _refuse(self, op: str, key: str | None) -> NoReturn:
        raise ReadOnlyError(
            f"{self._folder} is a plain URL, which can only be read: to write, open the database "
            "with an S3Connection that has credentials",
            op=op,
            key=key,
        )

    # Servers that send parts, and servers that do not.

    def _part(self, part: ByteRange) -> bytes | EBookletError:
        """One range; beside others only where the server is known to send parts."""
        if part.start < part.stop and not self._whole.sends_parts:
            with self._whole.turn:
                if not self._whole.sends_parts:
                    return self._part_or_whole(part)
        return read_part(self, part)

    def _part_or_whole(self, part: ByteRange) -> bytes | EBookletError:
        """One range, from an object that came whole before or comes so now."""
        kept = self._whole.find(part.key)
        try:
            # One that ends too early may have broken off where nothing said how long it is.
            if kept is not None and part.stop <= len(kept):
                return whole_part(_cut_out(kept, part), part)
            check_key(part.key, "get")
            check_span(part.start, part.stop, part.key)
            span = _span(part.start, part.stop)
            found = self._ask("GET", part.key, span, partial(self._keep_whole, part))
            return read_part(self, part) if found is None else whole_part(found, part)
        except EBookletError as exc:
            return exc

    def _keep_whole(self, part: ByteRange, answer: BaseHTTPResponse) -> StoredObject | None:
        """The part, of an object that is kept if it came whole; None if that was too large."""
        if not self._whole.fits(answer):
            return self._part_of(part, answer)
        self._whole.note(answer, part.stop - part.start)
        body = self._whole.take(answer, part.key)
        return None if body is None else _cut_out(body, part)

    def _part_of(self, part: ByteRange, answer: BaseHTTPResponse) -> StoredObject:
        self._whole.note(answer, part.stop - part.start)
        return part_of(answer, part.key, part.start, part.stop)

    def _url(self, key: str) -> str:
        if key.startswith(self._db_key):
            return self._folder + self._spelled + quote(key[len(self._db_key) :], safe="/")
        return self._folder + quote(key, safe="/")

    def _ask(
        self, method: str, key: str, span: str | None, read: Callable[[BaseHTTPResponse], T]
    ) -> T:
        return self._client.ask(method, self._url(key), key, span, read)


def _span(start: int, stop: int | None) -> str:
    """The Range header of [start, stop), `start` < `stop`."""
    return f"bytes={start}-{'' if stop is None else stop - 1}"


def _cut_out(body: bytearray, part: ByteRange) -> StoredObject:
    with memoryview(body) as view:
        return StoredObject(
            bytes(view[part.start : part.stop]), ObjectMeta(part.key, len(body), "", 0)
        )


def _described(answer: BaseHTTPResponse, key: str) -> ObjectMeta | None:
    """What a HEAD says; None if the server refuses it, or leaves out the length."""
    return None if answer.status in NO_HEAD else described(answer, key)


def open_store(address: RemoteAddress) -> tuple[HttpRemoteStore, str]:
    """Open `http(s)://host/path/db`, with the limits of its connection if it has one.

    Returns:
        The store, and the key of the database's object in it.

    Raises:
        InvalidURLError: the URL names no object, or carries a query.
    """
    if address.options:
        raise InvalidURLError(_NO_QUERY)
    connection = address.connection
    if connection is None:
        store = HttpRemoteStore(str(address))
    else:
        store = HttpRemoteStore(
            str(address),
            threads=connection.threads,
            read_timeout_s=connection.read_timeout,
            retries=connection.retries,
        )
    return store, store.db_key
