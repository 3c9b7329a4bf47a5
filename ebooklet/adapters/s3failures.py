"""What the answers of S3-compatible servers mean, as the port's errors: by status and code only."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ebooklet.adapters.retry import NotAccepted, RivalRequest
from ebooklet.adapters.tlsfailures import or_tls
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteUnavailable,
    StoreError,
    UnsupportedOperation,
)

__all__ = [
    "Effect",
    "NotAccepted",
    "RivalRequest",
    "code_of",
    "lost",
    "no_credentials",
    "not_reached",
    "refused",
]


class RangeNotSatisfiable(StoreError):
    """416: the range begins at or beyond the object's end."""


class Effect(Enum):
    """What a request does, and so what its failure leaves behind."""

    READ = "read"  # nothing
    WRITE = "write"  # perhaps the new object
    CONDITIONAL = "conditional"  # perhaps the new object; a 404 means: nothing to replace


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
_CODE: Final = re.compile(rb"<Code>([^<]{1,64})</Code>")
_PRINTABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def refused(
    status: int, code: str, *, op: str, key: str | None, where: str, effect: Effect
) -> StoreError:
    """The error for an answer that is no success.

    Args:
        status: of HTTP; 0 where only the code is known, as for one key of a bulk request.
        code: S3's; "" where the answer has none.
        op: operation, for the error's attribute.
        key: object, for the error's attribute.
        where: bucket and endpoint, for the message.
        effect: what the request does.
    """
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
        if effect is Effect.CONDITIONAL:
            return error(PreconditionFailed, f"object to be replaced is not in {where}")
        return error(ObjectNotFound, f"no such object in {where}")
    if status == 416 or code == "InvalidRange":
        return error(RangeNotSatisfiable, f"the object in {where} ends before the range ({answer})")
    if code in _RIVAL_CODES:
        return error(RivalRequest, f"another request for the object is in flight in {where}")
    if status == 429 or code in _THROTTLED_CODES:
        return error(RemoteUnavailable, f"{where} is overloaded ({answer}): try again later")
    if status in (405, 501) or code in ("NotImplemented", "MethodNotAllowed"):
        return error(UnsupportedOperation, f"{where} does not know this request ({answer})")
    if status >= 500 or code == "InternalError":
        return lost(answer, op=op, key=key, where=where, effect=effect)
    if status in (301, 302, 307) or code == "PermanentRedirect":
        return error(StoreError, f"{where} is in another region ({answer}): pass its region")
    # Servers of TLS that answer plain http do so with a 400 of their own, which is not S3's.
    hint = or_tls(where) if status == 400 and code in ("", "400") else ""
    return error(StoreError, f"{where} refused the request ({answer}){hint}")


def code_of(body: bytes) -> str:
    """S3's code in the body of an answer; "" where there is none."""
    code = _CODE.search(body)
    return code[1].decode("ascii", "replace") if code else ""


def lost(
    what: str, *, op: str, key: str | None, where: str, effect: Effect, closed: bool = False
) -> StoreError:
    """The error for a request that went out and had no clear answer.

    `closed` if all that came was the connection's end.
    """
    if effect is Effect.READ:
        hint = or_tls(where) if closed else ""
        return RemoteUnavailable(f"{what} from {where}: try again{hint}", op=op, key=key)
    return OutcomeUnknown(
        f"{what} from {where}: the write may have happened; read to find out", op=op, key=key
    )


def not_reached(
    what: str, *, op: str, key: str | None, where: str, slowly: bool = False
) -> RemoteUnavailable:
    """The error for a request that never went out; `slowly` if that took a whole timeout."""
    made = NotAccepted if slowly else RemoteUnavailable
    return made(
        f"{where} cannot be reached ({what}): check the network and the endpoint", op=op, key=key
    )


def no_credentials(
    what: str, *, op: str, key: str | None, where: str, sources: str
) -> AccessDenied:
    """The error where there is nothing to sign with; `sources` says where keys are looked for."""
    return AccessDenied(
        f"no usable credentials for {where} ({what}): pass an S3Connection, {sources}, or ask for "
        "unsigned requests",
        op=op,
        key=key,
    )
