"""What obstore raises, as the port's errors: by the status and code that its text tells.

Its classes do not tell a missing bucket from a missing object, a rival request from an existing
object, or an outage from a refusal, and it gives neither status nor body but in the text: only
there are they looked for, in the exact form in which the crate object_store writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from obstore.exceptions import BaseError, NotSupportedError

from ebooklet.adapters.s3failures import Effect, lost, not_reached, refused
from ebooklet.adapters.tlsfailures import no_tls, not_accepted
from ebooklet.errors import (
    EBookletError,
    ObjectNotFound,
    RemoteIntegrityError,
    StoreError,
    UnsupportedOperation,
)

__all__ = ["PartRefused", "translated"]

_STATUS: Final = re.compile(r"Server returned non-2xx status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([^<]{1,64})</Code>")
_NEVER_SENT: Final = re.compile(r"HttpError \{\s*kind: Connect\b")
_NO_TLS: Final = re.compile(r"InvalidMessage\(\s*InvalidContentType\b")
_NOT_ACCEPTED: Final = re.compile(r"error: InvalidCertificate\(")
_CLOSED: Final = re.compile(r"HttpError \{\s*kind: Interrupted\b")
_REDIRECT: Final = "Received redirect without LOCATION"
_OTHER_PART: Final = re.compile(
    r"source: (UnexpectedRange|NoContentRange|ParseContentRange|InvalidContentRange)\b"
)
_NOT_A_PART: Final = re.compile(r"source: NotPartial\b")


class PartRefused(StoreError):
    """The server sent a part with status 200, as rclone does, and obstore would not take it."""


@contextmanager
def translated(op: str, key: str, where: str, effect: Effect) -> Iterator[None]:
    """Raise the port's error in place of obstore's, which stays as its `__cause__`.

    Args:
        op: operation, for the error's attribute.
        key: object, for the error's attribute.
        where: bucket and endpoint, for the message.
        effect: what the request does.
    """
    try:
        yield
    except EBookletError:
        raise
    except (BaseError, OSError, ValueError, NotImplementedError) as exc:
        raise _named(exc, op, key, where, effect) from exc


def _named(exc: Exception, op: str, key: str, where: str, effect: Effect) -> EBookletError:
    text = str(exc)
    if status := _STATUS.search(text):
        code = _CODE.search(text)
        return refused(
            int(status[1]), code[1] if code else "", op=op, key=key, where=where, effect=effect
        )
    if _OTHER_PART.search(text):
        return RemoteIntegrityError(f"{where} sent another part than was asked for", op=op, key=key)
    if _NOT_A_PART.search(text):
        return PartRefused(f"{where} sent a part as if it were the whole", op=op, key=key)
    if _REDIRECT in text:
        return refused(301, "", op=op, key=key, where=where, effect=effect)
    if _NEVER_SENT.search(text) and _NO_TLS.search(text):
        return no_tls(op=op, key=key, where=where)
    if _NEVER_SENT.search(text) and _NOT_ACCEPTED.search(text):
        return not_accepted(op=op, key=key, where=where, authorities="SSL_CERT_FILE")
    if _NEVER_SENT.search(text):
        return not_reached(type(exc).__name__, op=op, key=key, where=where)
    if isinstance(exc, FileNotFoundError):
        return ObjectNotFound(f"no such object in {where}", op=op, key=key)
    if isinstance(exc, ValueError):
        return StoreError(f"obstore cannot name this object of {where}", op=op, key=key)
    if isinstance(exc, (NotSupportedError, NotImplementedError)):
        return UnsupportedOperation(f"obstore cannot ask this of {where}", op=op, key=key)
    what, closed = f"no answer ({type(exc).__name__})", _CLOSED.search(text) is not None
    return lost(what, op=op, key=key, where=where, effect=effect, closed=closed)
