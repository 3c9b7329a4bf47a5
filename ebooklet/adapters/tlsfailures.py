"""Where one side speaks TLS and the other does not, or the certificate is a stranger's."""

from __future__ import annotations

import ssl

from ebooklet.errors import RemoteUnavailable, StoreError

__all__ = ["no_tls", "not_accepted", "or_tls", "tls_failure"]

# OpenSSL's names for an answer that is no TLS: which one goes by its version and the first byte.
_NO_TLS = frozenset(("HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_MESSAGE"))
_NO_TLS |= frozenset(("UNKNOWN_PROTOCOL", "WRONG_VERSION_NUMBER"))


def tls_failure(
    exc: BaseException, *, op: str, key: str | None, where: str, authorities: str
) -> StoreError | None:
    """The error for a handshake that failed, before anything was sent; None for any other failure.

    Args:
        exc: what the library raised, with the error of `ssl` as its cause, context or argument.
        op: operation, for the error's attribute.
        key: object, for the error's attribute.
        where: bucket and endpoint, for the message.
        authorities: what of the library names authorities to trust.
    """
    failure = _of_ssl(exc)
    if isinstance(failure, ssl.SSLCertVerificationError):
        return not_accepted(op=op, key=key, where=where, authorities=authorities)
    if failure is not None and failure.reason in _NO_TLS:
        return no_tls(op=op, key=key, where=where)
    return None


def not_accepted(*, op: str, key: str | None, where: str, authorities: str) -> StoreError:
    """The error for a certificate that no trusted authority vouches for."""
    return StoreError(
        f"{where}: its TLS certificate was not accepted; {authorities} names a file of authorities "
        "to trust instead",
        op=op,
        key=key,
    )


def no_tls(*, op: str, key: str | None, where: str) -> RemoteUnavailable:
    """The error for a server that answers, but not in TLS."""
    return RemoteUnavailable(
        f"{where} cannot be reached, as what answers there speaks no TLS: if it is a server of "
        "plain http, its URL begins with http://",
        op=op,
        key=key,
    )


def or_tls(where: str) -> str:
    """What to add where a connection was closed without an answer: most TLS servers do so."""
    return "; or, if the server speaks TLS, write https://" if "http://" in where else ""


def _of_ssl(exc: BaseException) -> ssl.SSLError | None:
    seen: set[int] = set()
    todo: list[object] = [exc]
    while todo:
        each = todo.pop()
        # aiohttp's errors are such ones too, without a reason: theirs is in the cause.
        if isinstance(each, ssl.SSLError) and getattr(each, "reason", None):
            return each
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            todo += [each.__cause__, each.__context__, *each.args]
    return None
