"""The connections below MinIO's client: here every request passes, and every failure is named.

The client takes any `urllib3.PoolManager` as its `http_client`. Its own repeats whatever fails,
conditional puts included, and what it raises for a refusal depends on the Content-Type of the
answer; ours makes each request once, or as often as it is told, and raises the port's errors.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from functools import partial
from typing import Final
from xml.etree.ElementTree import ParseError

import certifi
import urllib3
from minio.error import MinioException, S3Error, ServerError
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse

from ebooklet.adapters.retry import CONNECT_TIMEOUT_S, Retry
from ebooklet.adapters.s3failures import Effect, code_of, lost, not_reached, refused
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.adapters.serverclock import ServerClock
from ebooklet.adapters.tlsfailures import tls_failure
from ebooklet.errors import StoreError

__all__ = ["Transport", "answer_lost"]

_GOOD: Final = (200, 204, 206)
_MAX_ERROR_BYTES: Final = 1 << 16


class Transport(urllib3.PoolManager):
    """Connections to one server.

    Args:
        where: bucket and endpoint, for messages.
        parameters: how many connections, how patient.
        clock: learns the time of every answer.
        retry: how each request is repeated; None makes it once.
    """

    def __init__(
        self, where: str, parameters: S3Parameters, clock: ServerClock, retry: Retry | None
    ) -> None:
        super().__init__(
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=parameters.read_timeout_s),
            maxsize=2 * parameters.connections,  # reads and writes at once
            cert_reqs="CERT_REQUIRED",
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
            retries=False,
        )
        self._where = where
        self._clock = clock
        self._retry = retry

    def urlopen(  # type: ignore[override] # as minio calls it
        self, method: str, url: str, redirect: bool = True, **options: object
    ) -> BaseHTTPResponse:
        """Make a request of the client's.

        Raises:
            StoreError: it was refused, never answered, or never sent.
        """
        attempt = partial(self._attempt, method, url, options)
        return attempt() if self._retry is None else self._retry.run(attempt)

    def _attempt(self, method: str, url: str, options: Mapping[str, object]) -> BaseHTTPResponse:
        effect = _effect(method, options.get("headers"))
        try:
            answer = super().urlopen(method, url, redirect=False, retries=False, **options)
            self._clock.note(answer.headers.get("Date"))
            if answer.status in _GOOD:
                return answer
            body = (
                answer.read(_MAX_ERROR_BYTES)
                if options.get("preload_content") is False
                else (answer.data)
            )
        except (HTTPError, OSError) as exc:
            raise answer_lost(exc, self._where, effect) from exc
        answer.close()
        raise refused(
            answer.status,
            code_of(body or b""),
            op="",
            key=None,
            where=self._where,
            effect=effect,
        ) from _minios_own(answer, body)


def answer_lost(exc: BaseException, where: str, effect: Effect) -> StoreError:
    """The error for a request that urllib3 could not finish."""
    what = type(exc).__name__
    if isinstance(exc, SSLError) and isinstance(exc.args[0] if exc.args else None, ssl.SSLError):
        named = tls_failure(exc, op="", key=None, where=where, authorities="SSL_CERT_FILE")
        return named or not_reached(what, op="", key=None, where=where)
    if isinstance(exc, LocationValueError):
        return StoreError(f"request to {where} was never sent: {what}; check the endpoint")
    if isinstance(exc, (ConnectTimeoutError, NewConnectionError, NameResolutionError)):
        slowly = not isinstance(exc, NewConnectionError)
        return not_reached(what, op="", key=None, where=where, slowly=slowly)
    closed = isinstance(exc, ProtocolError)
    return lost(f"no answer ({what})", op="", key=None, where=where, effect=effect, closed=closed)


def _effect(method: str, headers: object) -> Effect:
    if method in ("GET", "HEAD"):
        return Effect.READ
    if isinstance(headers, Mapping) and "If-Match" in headers:
        return Effect.CONDITIONAL
    return Effect.WRITE


def _minios_own(answer: BaseHTTPResponse, body: bytes | None) -> MinioException:
    """What the client itself would have raised."""
    if body:
        try:
            return S3Error.fromxml(answer)
        except (ParseError, ValueError, AttributeError):
            pass
    return ServerError(f"server failed with HTTP status code {answer.status}", answer.status)
