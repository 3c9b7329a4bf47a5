"""GetObject without most of what a client does for each request.

For every request botocore checks parameters against the service's description, asks rules for the
endpoint, calls handlers and parses the answer by its description: more than half of the 1.3 ms of
processor time that a small read takes, and only one thread at a time can spend it. Here a request
is built as the client built one before. Its parts come from the client's public events: the URL
around the key, the headers, the signer, which has the credentials, and the session of connections,
which has the certificates, proxies and timeouts. What does not go as expected is left to the client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest
from botocore.utils import percent_encode

from ebooklet.adapters.httpanswers import leave, length_of, part_of
from ebooklet.adapters.s3failures import Effect, RangeNotSatisfiable, code_of, refused
from ebooklet.adapters.serverclock import ServerClock
from ebooklet.errors import ObjectNotFound, RemoteIntegrityError
from ebooklet.ports.remote_store import StoredObject

if TYPE_CHECKING:
    from botocore.auth import BaseSigner
    from botocore.awsrequest import AWSPreparedRequest, AWSResponse
    from botocore.config import Config
    from botocore.endpoint import Endpoint
    from botocore.httpsession import URLLib3Session
    from botocore.signers import RequestSigner
    from mypy_boto3_s3.client import S3Client
    from urllib3.response import BaseHTTPResponse

__all__ = ["DirectReads"]

_KEY, _REQUEST = "ebooklet-key", "ebooklet-request"  # what we note in a request's context
_SAFE: Final = "/~"  # what the client leaves unencoded in keys
# Other signatures, and these with more to sign with, are left to the client: identities of
# directory buckets, sets of regions.
_SIGNATURES: Final = ("s3v4", UNSIGNED)
_MORE_TO_SIGN_WITH: Final = frozenset(("request_credentials", "identity_cache"))
_GOOD: Final = (200, 206)
_CLEAR: Final = (404, 416)  # as those from 500 on: the client would make nothing else of them
_PATIENCE: Final = 3  # answers that only the client understands, until it makes all requests
_MAX_ERROR_BYTES: Final = 1 << 16


class _Noted(NamedTuple):
    """A request that the client is about to sign."""

    url: str
    headers: Mapping[str, str]
    config: Config
    signer: Callable[[], BaseSigner] | None  # what signs now; None where nothing is signed


class _Way(NamedTuple):
    """How the client sends reads."""

    prefix: str  # of the URL, up to the key
    like: _Noted
    session: URLLib3Session

    def request(self, key: str, headers: Mapping[str, str]) -> AWSPreparedRequest:
        """One for `key`, signed with the credentials that are valid now."""
        like = self.like
        url = self.prefix + percent_encode(key, _SAFE)
        request = AWSRequest("GET", url, {**like.headers, **headers}, stream_output=True)
        request.context["client_config"] = like.config
        if like.signer is not None:
            like.signer().add_auth(request)
        return request.prepare()


class DirectReads:
    """Reads of one client, sent as it sent its last that succeeded. For several threads.

    Args:
        client: one of ours: nobody else wants to be asked before it sends something.
        clock: learns the time of every answer.
    """

    def __init__(self, client: S3Client, clock: ServerClock) -> None:
        self._clock = clock
        self._way: _Way | None = None
        self._patience = _PATIENCE
        events = client.meta.events
        events.register("before-parameter-build.s3.GetObject", _note_key)
        events.register("before-sign.s3.GetObject", _note_request)
        events.register("needs-retry.s3.GetObject", self._learn)

    def get(self, key: str, start: int, stop: int | None, where: str) -> StoredObject | None:
        """Read [start, stop), `start` < `stop`; None where it is for the client to do.

        After a failure the client makes the next request. What the session raises is what it
        raises when the client sends.

        Args:
            key: the object.
            start: first byte wanted.
            stop: one beyond the last, or None for the object's end.
            where: bucket and endpoint, for messages.

        Raises:
            ObjectNotFound, RangeNotSatisfiable, RemoteUnavailable: the server says so.
        """
        way = self._way
        if way is None:
            return None
        whole = start == 0 and stop is None
        headers = {} if whole else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        try:
            answer: BaseHTTPResponse = way.session.send(way.request(key, headers)).raw
            try:
                self._clock.note(answer.headers.get("Date"))
                found = _read(answer, key, start, stop, where)
            finally:
                leave(answer)
        except (ObjectNotFound, RangeNotSatisfiable):
            raise
        except Exception:
            self._way = None
            raise
        if found is None:
            self._way = None
            self._patience -= 1
        return found

    def _learn(
        self,
        request_dict: Mapping[str, Any],
        response: tuple[AWSResponse, object] | None,
        endpoint: Endpoint,
        **_: object,
    ) -> None:
        context = request_dict["context"]
        noted: _Noted | None = context.get(_REQUEST)
        if noted is None or response is None or response[0].status_code not in _GOOD:
            return
        name = percent_encode(context[_KEY], _SAFE)
        if self._patience > 0 and noted.url.endswith(name):
            self._way = _Way(noted.url.removesuffix(name), noted, endpoint.http_session)


def _note_key(params: Mapping[str, Any], context: dict[str, Any], **_: object) -> None:
    context[_KEY] = params["Key"]


def _note_request(
    request: AWSRequest,
    signing_name: str,
    region_name: str,
    signature_version: str,
    request_signer: RequestSigner,
    **_: object,
) -> None:
    context = request.context
    particular = context.get("signing") or {}
    if signature_version not in _SIGNATURES or not _MORE_TO_SIGN_WITH.isdisjoint(particular):
        context.pop(_REQUEST, None)
        return
    headers = {name: value for name, value in request.headers.items() if name != "Range"}
    signer = partial(
        request_signer.get_auth_instance,
        particular.get("signing_name", signing_name),
        particular.get("region", region_name),
        signature_version,
    )
    context[_REQUEST] = _Noted(
        request.url or "",
        headers,
        context["client_config"],
        None if signature_version is UNSIGNED else signer,
    )


def _read(
    answer: BaseHTTPResponse, key: str, start: int, stop: int | None, where: str
) -> StoredObject | None:
    status = answer.status
    if status in _GOOD and length_of(answer) is not None:
        try:
            return part_of(answer, key, start, stop)
        except RemoteIntegrityError:
            return None
    if status in _CLEAR or status >= 500:
        code = code_of(answer.read(_MAX_ERROR_BYTES))
        raise refused(status, code, op="get", key=key, where=where, effect=Effect.READ)
    return None
