"""The remote store of plain URLs."""

from __future__ import annotations

import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, Final, NoReturn, TypeVar
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationValueError, SSLError
from urllib3.response import BaseHTTPResponse

from ebooklet.adapters.httpanswers import (
    UNKNOWN_SIZE,
    described,
    leave,
    part_of,
)
from ebooklet.adapters.objects import check_key, check_span, read_part
from ebooklet.adapters.parallel import ordered_map
from ebooklet.adapters.retry import CONNECT_TIMEOUT_S, NotAccepted, Retry
from ebooklet.adapters.serverclock import ServerClock
from ebooklet.connection import DEFAULT_THREADS, RemoteAddress
from ebooklet.errors import (
    AccessDenied,
    EBookletError,
    ObjectNotFound,
    ReadOnlyError,
    RemoteUnavailable,
    StoreError,
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

_MAX_REDIRECTS: Final = 5
_DENIED: Final = (401, 403, 407)
_GONE: Final = (404, 410)
_OVERLOADED: Final = (429, 500, 502, 503, 504)
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_NO_HEAD: Final = (403, 405, 501)  # moto's answers to HEAD of a public object; others know no HEAD
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

    Raises:
        ValueError: the URL is of another kind, names no object, or carries a query.

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
    ) -> None:
        parts = urlsplit(db_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("the database's URL must be http(s)://host/path, without credentials")
        if parts.query or parts.fragment:
            raise ValueError(_NO_QUERY)
        path = quote(_STRAY_PERCENT.sub("%25", parts.path), safe=_URL_PATH)
        folder, _, name = path.rpartition("/")
        if not name:
            raise ValueError("the URL must name the database's object, as in https://host/path/db")
        self._folder = f"{parts.scheme}://{parts.netloc}{folder}/"
        self._spelled = name
        self._db_key = unquote(name)
        self._threads = threads
        self._timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s)
        self._retry = Retry(retries, sleep)
        self._lock = threading.Lock()
        self._manager: urllib3.PoolManager | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0  # the process that made both: connections must not cross a fork
        self._clock = ServerClock()
        self._knows_head = True

    def __repr__(self) -> str:
        return f"HttpRemoteStore({self._folder + self._spelled!r})"

    @property
    def db_key(self) -> str:
        """The key of the database's object."""
        return self._db_key

    @property
    def location(self) -> str:
        """The folder's URL."""
        return self._folder

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
        return _CAPABILITIES

    # Reading.

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """See `RemoteStore.get`."""
        check_key(key, "get")
        check_span(start, stop, key)
        if start == stop:
            return StoredObject(b"", self.head(key))
        if start == 0 and stop is None:
            return self._ask("GET", key, None, partial(part_of, key=key, start=0, stop=None))
        last = "" if stop is None else stop - 1
        found = self._ask(
            "GET", key, f"bytes={start}-{last}", partial(part_of, key=key, start=start, stop=stop)
        )
        if found.meta.size != UNKNOWN_SIZE:
            return found
        meta = self.head(key)
        if start < meta.size:
            raise RemoteUnavailable(
                "the object changed while it was read: try again", op="get", key=key
            )
        return StoredObject(b"", meta)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """See `RemoteStore.get_ranges`."""
        read = partial(read_part, self)
        if len(ranges) < 2:
            return map(read, ranges)
        return ordered_map(self._opened()[1], read, ranges, ahead=self._threads)

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
        return self._clock.now_ms()

    def close(self) -> None:
        """End the threads and close the connections; a later call opens them anew."""
        with self._lock:
            pool, self._pool = self._pool, None
            manager, self._manager = self._manager, None
            owned = self._owner == os.getpid()
        if owned and pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        if owned and manager is not None:
            manager.clear()

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

    # How requests are made.

    def _url(self, key: str) -> str:
        if key.startswith(self._db_key):
            return self._folder + self._spelled + quote(key[len(self._db_key) :], safe="/")
        return self._folder + quote(key, safe="/")

    def _opened(self) -> tuple[urllib3.PoolManager, ThreadPoolExecutor]:
        with self._lock:
            manager, pool = self._manager, self._pool
            if manager is None or pool is None or self._owner != os.getpid():
                manager = self._manager = _manager(self._folder, self._threads, self._timeout)
                pool = self._pool = ThreadPoolExecutor(
                    self._threads, thread_name_prefix="ebooklet-http"
                )
                self._owner = os.getpid()
            return manager, pool

    def _ask(
        self, method: str, key: str, span: str | None, read: Callable[[BaseHTTPResponse], T]
    ) -> T:
        """Make a request, again where that may help, and read its answer."""
        return self._retry.run(partial(self._once, method, key, span, read))

    def _once(
        self, method: str, key: str, span: str | None, read: Callable[[BaseHTTPResponse], T]
    ) -> T:
        op = method.lower()
        try:
            answer = self._answer(method, key, span)
            try:
                self._clock.note(answer.headers.get("Date"))
                if method != "HEAD" or answer.status not in _NO_HEAD:
                    self._check_status(answer.status, op, key)
                return read(answer)
            finally:
                leave(answer)
        except SSLError as exc:
            if isinstance(exc.args[0] if exc.args else exc, ssl.SSLCertVerificationError):
                raise StoreError(
                    f"{self._folder}: its TLS certificate was not accepted; SSL_CERT_FILE names "
                    "a file of authorities to trust instead",
                    op=op,
                    key=key,
                ) from exc
            raise self._unanswered(exc, op, key) from exc
        except LocationValueError as exc:
            raise StoreError(f"{self._folder} is no usable URL", op=op, key=key) from exc
        except (HTTPError, OSError) as exc:
            if isinstance(exc, EBookletError):
                raise
            raise self._unanswered(exc, op, key) from exc

    def _answer(self, method: str, key: str, span: str | None) -> BaseHTTPResponse:
        """The answer to one request, redirects followed."""
        manager = self._opened()[0]
        # A compressed answer has other offsets than the object.
        headers = {"Accept-Encoding": "identity", "User-Agent": "ebooklet"}
        if span is not None:
            headers["Range"] = span
        url = self._url(key)
        for _ in range(_MAX_REDIRECTS + 1):
            answer = manager.urlopen(
                method, url, headers=headers, redirect=False, retries=False, preload_content=False
            )
            if answer.status not in _REDIRECTS:
                return answer
            leave(answer)
            url = self._redirected(url, answer.headers.get("Location", ""), key)
        raise StoreError(f"{self._folder} redirects in circles", op="get", key=key)

    def _redirected(self, url: str, location: str, key: str) -> str:
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
        except ValueError:
            parts = None
        if not location or parts is None or parts.scheme not in ("http", "https"):
            raise StoreError(f"{self._folder} redirects to no web address", op="get", key=key)
        if urlsplit(url).scheme == "https" and parts.scheme == "http":
            raise StoreError(
                f"{self._folder} redirects from https to plain http, which is not followed",
                op="get",
                key=key,
            )
        return target

    def _check_status(self, status: int, op: str, key: str) -> None:
        if status in (200, 206, 416):
            return
        if status in _GONE:
            raise ObjectNotFound(f"no such object below {self._folder}", op=op, key=key)
        if status in _DENIED:
            raise AccessDenied(
                f"{self._folder} refused to give this object without credentials (status "
                f"{status}): make it public, or open the database with an S3Connection",
                op=op,
                key=key,
            )
        if status in _OVERLOADED:
            raise RemoteUnavailable(
                f"{self._folder} cannot answer now (status {status}): try again", op=op, key=key
            )
        raise StoreError(f"{self._folder} answered with status {status}", op=op, key=key)

    def _unanswered(self, exc: BaseException, op: str, key: str) -> RemoteUnavailable:
        made = NotAccepted if isinstance(exc, ConnectTimeoutError) else RemoteUnavailable
        return made(
            f"no answer from {self._folder} ({type(exc).__name__}): check the network and the URL",
            op=op,
            key=key,
        )


def _described(answer: BaseHTTPResponse, key: str) -> ObjectMeta | None:
    """What a HEAD says; None if the server refuses it, or leaves out the length."""
    return None if answer.status in _NO_HEAD else described(answer, key)


def _manager(url: str, threads: int, timeout: urllib3.Timeout) -> urllib3.PoolManager:
    """Connections to a URL's host, through the environment's proxy if it names one."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=threads, timeout=timeout)
    return urllib3.PoolManager(maxsize=threads, timeout=timeout)


def open_store(address: RemoteAddress) -> tuple[HttpRemoteStore, str]:
    """Open `http(s)://host/path/db`, with the limits of its connection if it has one.

    Returns:
        The store, and the key of the database's object in it.

    Raises:
        ValueError: the URL names no object, or carries a query.
    """
    if address.options:
        raise ValueError(_NO_QUERY)
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
