"""Requests to one web server: repeated, redirected, and their failures in our words."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    ProtocolError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse

from ebooklet.adapters.httpanswers import leave
from ebooklet.adapters.retry import CONNECT_TIMEOUT_S, NotAccepted, Retry
from ebooklet.adapters.serverclock import ServerClock
from ebooklet.adapters.tlsfailures import or_tls, tls_failure
from ebooklet.errors import (
    AccessDenied,
    EBookletError,
    ObjectNotFound,
    RemoteUnavailable,
    StoreError,
)

__all__ = ["NO_HEAD", "Client"]

T = TypeVar("T")

_MAX_REDIRECTS: Final = 5
_DENIED: Final = (401, 403, 407)
_GONE: Final = (404, 410)
_OVERLOADED: Final = (429, 500, 502, 503, 504)
_REDIRECTS: Final = (301, 302, 303, 307, 308)
NO_HEAD: Final = (403, 405, 501)  # moto's answers to HEAD of a public object; others know no HEAD


class Client:
    """Connections and threads, made when first used, and made anew in a forked process.

    Args:
        folder: the URL that messages name.
        threads: largest number of transfers at once.
        read_timeout_s: seconds of silence after which a request is given up.
        retries: how often a request is repeated.
        sleep: how to wait between attempts, in seconds.
    """

    def __init__(
        self,
        folder: str,
        *,
        threads: int,
        read_timeout_s: float,
        retries: int,
        sleep: Callable[[float], None],
    ) -> None:
        self._folder = folder
        self._threads = threads
        self._timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s)
        self._retry = Retry(retries, sleep)
        self._lock = threading.Lock()
        self._manager: urllib3.PoolManager | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0  # the process that made both: connections must not cross a fork
        self._clock = ServerClock()

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads to ask from, as many as there may be transfers at once."""
        return self._opened()[1]

    def server_time_ms(self) -> int | None:
        """The server's clock by its last answer, in Unix ms; None before any."""
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

    def ask(
        self,
        method: str,
        url: str,
        key: str,
        span: str | None,
        read: Callable[[BaseHTTPResponse], T],
    ) -> T:
        """Make a request, again where that may help, and read its answer.

        Args:
            method: "GET" or "HEAD".
            url: where.
            key: what messages call it.
            span: the Range header.
            read: what to make of the answer, whose status is 200, 206 or 416, or for HEAD one of
                `NO_HEAD`.

        Raises:
            ObjectNotFound, AccessDenied, RemoteUnavailable, StoreError: see promise 5.
        """
        return self._retry.run(partial(self._once, method, url, key, span, read))

    def _once(
        self,
        method: str,
        url: str,
        key: str,
        span: str | None,
        read: Callable[[BaseHTTPResponse], T],
    ) -> T:
        op = method.lower()
        try:
            answer = self._answer(method, url, key, span)
            try:
                self._clock.note(answer.headers.get("Date"))
                if method != "HEAD" or answer.status not in NO_HEAD:
                    self._check_status(answer.status, op, key)
                return read(answer)
            finally:
                leave(answer)
        except SSLError as exc:
            named = tls_failure(
                exc, op=op, key=key, where=self._folder, authorities="SSL_CERT_FILE"
            )
            raise named or self._unanswered(exc, op, key) from exc
        except LocationValueError as exc:
            raise StoreError(f"{self._folder} is no usable URL", op=op, key=key) from exc
        except (HTTPError, OSError) as exc:
            if isinstance(exc, EBookletError):
                raise
            raise self._unanswered(exc, op, key) from exc

    def _answer(self, method: str, url: str, key: str, span: str | None) -> BaseHTTPResponse:
        """The answer to one request, redirects followed."""
        manager = self._opened()[0]
        # A compressed answer has other offsets than the object.
        headers = {"Accept-Encoding": "identity", "User-Agent": "ebooklet"}
        if span is not None:
            headers["Range"] = span
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
            f"no answer from {self._folder} ({type(exc).__name__}): check the network and the "
            f"URL{or_tls(self._folder) if isinstance(exc, ProtocolError) else ''}",
            op=op,
            key=key,
        )


def _manager(url: str, threads: int, timeout: urllib3.Timeout) -> urllib3.PoolManager:
    """Connections to a URL's host, through the environment's proxy if it names one."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=threads, timeout=timeout)
    return urllib3.PoolManager(maxsize=threads, timeout=timeout)
