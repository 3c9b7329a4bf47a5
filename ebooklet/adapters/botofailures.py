"""What botocore raises, as the port's errors: by class, status and code, never by text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from botocore.exceptions import (
    BaseEndpointResolverError,
    BotoCoreError,
    ClientError,
    ConfigParseError,
    ConnectionClosedError,
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
    SSLError,
    SSOError,
    TokenRetrievalError,
    ValidationError,
)
from urllib3.exceptions import HTTPError

from ebooklet.adapters.s3failures import Effect, lost, no_credentials, not_reached, refused
from ebooklet.adapters.tlsfailures import tls_failure
from ebooklet.connection import BUCKET_RULE
from ebooklet.errors import AccessDenied, EBookletError, StoreError

__all__ = ["check_deleted", "translated"]


_NOT_CREDENTIALS: Final = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    NoAuthTokenError,
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


@contextmanager
def translated(op: str, key: str | None, where: str, effect: Effect) -> Iterator[None]:
    """Raise the port's error in place of botocore's, which stays as its `__cause__`.

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
    except ClientError as exc:
        code = str(exc.response["Error"].get("Code", ""))
        raise refused(_status(exc), code, op=op, key=key, where=where, effect=effect) from exc
    except _NEVER_SENT as exc:
        if _follows(exc, ConnectionResetError):  # aiobotocore says so of a connection that was open
            what = "no answer (ConnectionResetError)"
            raise lost(what, op=op, key=key, where=where, effect=effect, closed=True) from exc
        slowly = isinstance(exc, ConnectTimeoutError)
        raise not_reached(type(exc).__name__, op=op, key=key, where=where, slowly=slowly) from exc
    except ProfileNotFound as exc:
        profile = exc.kwargs.get("profile")  # a name, and no secret
        raise AccessDenied(
            f"no usable credentials for {where}: the profile {profile!r} is in no configuration "
            "file of AWS; correct the variable AWS_PROFILE, or remove it",
            op=op,
            key=key,
        ) from exc
    except _NOT_CREDENTIALS as exc:
        raise no_credentials(
            type(exc).__name__,
            op=op,
            key=key,
            where=where,
            sources="configure boto3's usual sources",
        ) from exc
    except _WRONG_USE as exc:
        raise StoreError(
            f"request to {where} was never sent: {type(exc).__name__}; check bucket and region: "
            f"{BUCKET_RULE}",
            op=op,
            key=key,
        ) from exc
    except SSLError as exc:
        named = tls_failure(exc, op=op, key=key, where=where, authorities="AWS_CA_BUNDLE")
        what = f"no answer ({type(exc).__name__})"
        raise named or lost(what, op=op, key=key, where=where, effect=effect) from exc
    except (BotoCoreError, HTTPError, OSError, KeyError, RecursionError) as exc:
        # KeyError: half an answer. RecursionError: botocore follows redirects to other regions
        # without an end, and may say so in an error of its own.
        if _follows(exc, RecursionError):
            raise StoreError(
                f"{where} redirects in a circle: pass its region", op=op, key=key
            ) from exc
        what, closed = f"no answer ({type(exc).__name__})", isinstance(exc, ConnectionClosedError)
        raise lost(what, op=op, key=key, where=where, effect=effect, closed=closed) from exc
    except ValueError as exc:  # botocore's word for an endpoint or a header it cannot use
        raise StoreError(
            f"request to {where} was never sent: {type(exc).__name__}", op=op, key=key
        ) from exc


def check_deleted(answer: Mapping[str, Any], where: str) -> None:
    """Raise the first failure that the answer to a bulk deletion tells of."""
    for failed in answer.get("Errors", ()):
        code, key = failed.get("Code", ""), failed.get("Key")
        if code not in ("NoSuchKey", "NoSuchVersion"):
            raise refused(0, code, op="delete", key=key, where=where, effect=Effect.WRITE)


def _follows(exc: BaseException, kind: type[BaseException]) -> bool:
    link: BaseException | None = exc
    while link is not None and not isinstance(link, kind):
        link = link.__cause__ or link.__context__
    return link is not None


def _status(exc: ClientError) -> int:
    metadata = exc.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))
