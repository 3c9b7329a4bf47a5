"""What botocore raises, as the port's errors: by status and code, never by text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from botocore.exceptions import (
    BaseEndpointResolverError,
    BotoCoreError,
    ClientError,
    ConfigParseError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    EndpointProviderError,
    InvalidConfigError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    SSOError,
    TokenRetrievalError,
    ValidationError,
)
from urllib3.exceptions import HTTPError

from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    EBookletError,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteUnavailable,
    StoreError,
    UnsupportedOperation,
)

__all__ = ["Kind", "RivalRequest", "failure_of_code", "is_unsatisfiable_range", "translated"]


class Kind(Enum):
    """What a request does, and so what its failure leaves behind."""

    READ = "read"  # nothing
    WRITE = "write"  # perhaps the new object
    CONDITIONAL = "conditional"  # perhaps the new object; a 404 means: nothing to replace


class RivalRequest(RemoteUnavailable):
    """409: another request for the same object is in flight and nothing is decided: repeat."""


_CREDENTIAL_CODES: Final = frozenset(
    (
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    )
)
_NOT_CREDENTIALS: Final = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    NoAuthTokenError,
    ProfileNotFound,
    SSOError,
    LoginError,
    TokenRetrievalError,
)
_NEVER_SENT: Final = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
_WRONG_USE: Final = (
    ParamValidationError,
    ValidationError,
    BaseEndpointResolverError,
    EndpointProviderError,
    InvalidConfigError,
    ConfigParseError,
)
_MISSING_CODES: Final = frozenset(("NoSuchKey", "NoSuchUpload", "NotFound", "404"))
# S3's own words for "too much": they come from the service itself, before it did anything.
_THROTTLED_CODES: Final = frozenset(
    (
        "BandwidthLimitExceeded",
        "RequestLimitExceeded",
        "RequestTimeout",  # it gave up waiting for the body
        "ServiceUnavailable",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    )
)
_RIVAL_CODES: Final = frozenset(("ConditionalRequestConflict", "OperationAborted"))
_PRINTABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@contextmanager
def translated(op: str, key: str | None, where: str, kind: Kind) -> Iterator[None]:
    """Raise the port's error in place of botocore's, which stays as its `__cause__`.

    Args:
        op: operation, for the error's attribute.
        key: object, for the error's attribute.
        where: bucket and endpoint, for the message.
        kind: what the request does.
    """
    try:
        yield
    except EBookletError:
        raise
    except ClientError as exc:
        raise _refused(exc, op, key, where, kind) from exc
    except _NEVER_SENT as exc:
        raise RemoteUnavailable(
            f"{where} cannot be reached ({type(exc).__name__}): check the network and the endpoint",
            op=op,
            key=key,
        ) from exc
    except _NOT_CREDENTIALS as exc:
        raise AccessDenied(
            f"no usable credentials for {where} ({type(exc).__name__}): pass an S3Connection, "
            "configure boto3's usual sources, or ask for unsigned requests",
            op=op,
            key=key,
        ) from exc
    except _WRONG_USE as exc:
        raise StoreError(
            f"request to {where} was never sent: {type(exc).__name__}; check bucket and region",
            op=op,
            key=key,
        ) from exc
    except (BotoCoreError, HTTPError, OSError, KeyError) as exc:  # KeyError: half an answer
        raise _lost(f"no answer ({type(exc).__name__})", op, key, where, kind) from exc
    except RecursionError as exc:  # botocore follows redirects to other regions without an end
        raise StoreError(f"{where} redirects in a circle: pass its region", op=op, key=key) from exc
    except ValueError as exc:  # botocore's word for an endpoint or a header it cannot use
        raise StoreError(
            f"request to {where} was never sent: {type(exc).__name__}", op=op, key=key
        ) from exc


def is_unsatisfiable_range(error: EBookletError) -> bool:
    """Whether the server answered 416: the range begins at or beyond the object's end."""
    cause = error.__cause__
    return isinstance(cause, ClientError) and _status(cause) == 416


def failure_of_code(code: str, op: str, key: str | None, where: str) -> StoreError:
    """The error for one key of a bulk request, of which only the code is known."""
    return _by_code(0, code, op, key, where, Kind.WRITE)


def _status(exc: ClientError) -> int:
    metadata = exc.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))


def _refused(exc: ClientError, op: str, key: str | None, where: str, kind: Kind) -> StoreError:
    return _by_code(_status(exc), str(exc.response["Error"].get("Code", "")), op, key, where, kind)


def _by_code(
    status: int, code: str, op: str, key: str | None, where: str, kind: Kind
) -> StoreError:
    shown = code if _PRINTABLE.fullmatch(code) else "unnamed error"
    answer = f"status {status}, {shown}"

    def error(made: type[StoreError], message: str) -> StoreError:
        return made(message, op=op, key=key)

    if code == "NoSuchBucket":
        return error(BucketMissingError, f"{where} does not exist: create it or correct its name")
    if status == 412 or code == "PreconditionFailed":
        return error(PreconditionFailed, f"{where} refused the write: the object changed")
    if status in (401, 403) or code in _CREDENTIAL_CODES:
        return error(
            AccessDenied, f"{where} refused access ({answer}): check the keys and permissions"
        )
    if status == 404 or code in _MISSING_CODES:
        if kind is Kind.CONDITIONAL:
            return error(PreconditionFailed, f"object to be replaced is not in {where}")
        return error(ObjectNotFound, f"no such object in {where}")
    if code in _RIVAL_CODES:
        return error(RivalRequest, f"another request for the object is in flight in {where}")
    if status == 429 or code in _THROTTLED_CODES:
        return error(RemoteUnavailable, f"{where} is overloaded ({answer}): try again later")
    if status in (405, 501) or code in ("NotImplemented", "MethodNotAllowed"):
        return error(UnsupportedOperation, f"{where} does not know this request ({answer})")
    if status >= 500 or code == "InternalError":
        return _lost(answer, op, key, where, kind)
    if status in (301, 302, 307) or code == "PermanentRedirect":
        return error(StoreError, f"{where} is in another region ({answer}): pass its region")
    return error(StoreError, f"{where} refused the request ({answer})")


def _lost(what: str, op: str, key: str | None, where: str, kind: Kind) -> StoreError:
    if kind is Kind.READ:
        return RemoteUnavailable(f"{what} from {where}: try again", op=op, key=key)
    return OutcomeUnknown(
        f"{what} from {where}: the write may have happened; read to find out", op=op, key=key
    )
