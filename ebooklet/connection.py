"""Where a remote database is: connection parameters and URLs. Plain data, no I/O."""

from __future__ import annotations

import ipaddress
import json
import re
import warnings
from copy import copy
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

import ebooklet
from ebooklet.errors import InvalidURLError

__all__ = ["RemoteAddress", "S3Connection"]

_DRIVER_SCHEMES: Final = {
    "boto3": "s3",
    "minio": "minio",
    "obstore": "obstore+s3",
    "fsspec": "fsspec+s3",
}
PUBLIC_FIELDS: Final = ("db_key", "bucket", "endpoint_url", "db_url")
DEFAULT_THREADS: Final = 16
BUCKET_RULE: Final = (
    "a bucket's name has 3 to 63 lowercase letters, digits, dots and hyphens; what follows it, "
    "slashes and all, is the key"
)
_ARN: Final = "arn:"  # of an access point, which stands in a bucket's place
_MIRROR_RETRIES: Final = 1
_TEXTS: Final = ("access_key_id", "access_key", "db_key", "bucket", "region")
_NUMBERS: Final = {"threads": Integral, "read_timeout": Real, "retries": Integral}
_TAKEN_AS_THEY_ARE: Final = ("http", "https")  # their escapes are the server's to read
_SHOWN: Final = 200  # characters of a URL in a message
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_PLAIN_IN_PATHS: Final = "/~!$&'()*+,;=:@"  # RFC 3986 §3.3


def _check_types(connection: S3Connection) -> None:
    """Refuse numbers given as text, and text as anything else. No message repeats a value."""
    for name in _TEXTS:
        value: object = getattr(connection, name)
        if not isinstance(value, (str, type(None))):
            raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    for name, kind in _NUMBERS.items():
        value = getattr(connection, name)
        if isinstance(value, bool) or not isinstance(value, kind):
            whole = "a whole number" if kind is Integral else "a number"
            raise TypeError(f"{name} must be {whole}, not {type(value).__name__}")


def _check_http_url(name: str, url: object) -> SplitResult:
    """Take an http(s) URL apart. No message repeats it: what is malformed may hold a secret."""
    parts = _split(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidURLError(f"{name} must be an http(s) URL with a host")
    if parts.username or parts.password:
        raise InvalidURLError(
            f"{name} must not contain credentials; pass access_key_id and access_key"
        )
    return parts


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # a number, or this raises
    except ValueError:
        return None
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, of whatever machine


@dataclass(frozen=True)
class S3Connection:
    """Parameters of a connection to a database in an S3 bucket, or behind a public URL.

    Constructing one makes no request, and the bucket need not exist. Pickling one (for worker
    processes) carries its credentials; `repr`, `to_dict` and `dumps` never show them.

    A `db_url` of plain `http://` is warned of (`UserWarning`): whoever is on the way can read what
    is read, and answer in the server's place. Not so on a loopback host, as nobody is on the way
    there: tests, and servers behind a proxy or tunnel of this machine.

    Args:
        access_key_id: id of the access key.
        access_key: the secret access key.
        db_key: object key of the database in the bucket.
        bucket: name of the bucket.
        endpoint_url: the server, for anything but AWS.
        db_url: public URL of the database object: all that is needed to read it. With
            credentials too, it is a mirror: values come from there, and the head, locks and
            writes go to the bucket.
        threads: largest number of transfers at once.
        read_timeout: seconds of silence after which a request is given up.
        retries: how often a request is repeated after transport errors and after 429, 500, 502,
            503 and 504.
        region: the bucket's region, where the server needs one.
        driver: client library: "boto3", or another that an extra installs.

    Raises:
        ValueError: neither `db_url` nor all of access_key_id, access_key, db_key and bucket; or a
            number is out of its range; or `bucket` holds a slash.
        TypeError: a number is given as text, or a text as something else.
        InvalidURLError: `endpoint_url` or `db_url` is no http(s) URL, or holds credentials.

    Example:
        >>> S3Connection("AKID", "secret", "data/mydb", "bucket", endpoint_url="http://127.0.0.1:9000")
        S3Connection(bucket='bucket', db_key='data/mydb', endpoint_url='http://127.0.0.1:9000', db_url=None, driver='boto3', credentials='***')
    """

    access_key_id: str | None = field(default=None, repr=False)
    access_key: str | None = field(default=None, repr=False)
    db_key: str | None = None
    bucket: str | None = None
    endpoint_url: str | None = None
    db_url: str | None = None
    threads: int = DEFAULT_THREADS
    read_timeout: float = 60
    retries: int = 3
    region: str | None = field(default=None, kw_only=True)
    driver: str = field(default="boto3", kw_only=True)

    def __post_init__(self) -> None:
        _check_types(self)
        if not self.has_credentials and not self.db_url:
            raise ValueError(
                "give either db_url, or all of access_key_id, access_key, db_key and bucket"
            )
        if self.bucket and "/" in self.bucket and not self.bucket.startswith(_ARN):
            raise ValueError(
                f"bucket {self.bucket!r} holds a '/', and {BUCKET_RULE}; are bucket and db_key "
                "swapped?"
            )
        if self.endpoint_url is not None:
            _check_http_url("endpoint_url", self.endpoint_url)
        if self.db_url is not None:
            parts = _check_http_url("db_url", self.db_url)
            if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
                warnings.warn(
                    "db_url is plain http: what is read through it can be seen and changed on the "
                    "way. Use https where the server offers it",
                    UserWarning,
                    stacklevel=3,
                )
        if self.threads < 1 or self.retries < 0 or not self.read_timeout > 0:
            raise ValueError("threads must be at least 1, retries 0 or more, read_timeout positive")
        if self.driver not in _DRIVER_SCHEMES:
            raise ValueError(f"unknown driver {self.driver!r}; known: {', '.join(_DRIVER_SCHEMES)}")

    def __repr__(self) -> str:
        shown = {
            name: getattr(self, name) for name in ("bucket", "db_key", "endpoint_url", "db_url")
        }
        masked = "***" if self.has_credentials else None
        fields = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return f"S3Connection({fields}, driver={self.driver!r}, credentials={masked!r})"

    @property
    def has_credentials(self) -> bool:
        """Whether this connection can sign requests, and so may write."""
        return bool(self.access_key_id and self.access_key and self.db_key and self.bucket)

    def to_dict(self) -> dict[str, str | None]:
        """The parameters that may be shared: db_key, bucket, endpoint_url, db_url."""
        return {name: getattr(self, name) for name in PUBLIC_FIELDS}

    def dumps(self) -> bytes:
        """`to_dict` as JSON bytes."""
        return json.dumps(self.to_dict()).encode()

    def open(self, flag: Literal["r", "w", "c", "n"] = "r") -> ebooklet.RemoteSession:
        """Open a session: the remote database as a whole, without a local file.

        Makes no request yet.

        Args:
            flag: "r" to look; "w", "c" or "n" (all the same here) also to delete, copy and lock.

        Raises:
            ReadOnlyError: another flag than "r", without credentials; it is a `ValueError`.
            ValueError: an unknown flag.

        Example:
            >>> connection = S3Connection(db_url="https://example.com/data/mydb")
            >>> with connection.open() as session:
            ...     session.writable
            False
        """
        return ebooklet.open_session(self, flag)

    def address(self) -> RemoteAddress:
        """The address an adapter opens."""
        if self.has_credentials:
            return RemoteAddress(
                scheme=_DRIVER_SCHEMES[self.driver],
                netloc=self.bucket or "",
                path=self.db_key or "",
                connection=self,
            )
        return replace(RemoteAddress.parse(self.db_url or ""), connection=self)

    def mirror_address(self) -> RemoteAddress | None:
        """Where the objects can be read for less than at `address`, without credentials.

        None without credentials, as `address` is that place then, and without a `db_url`. Whoever
        reads there has the bucket to fall back on, and so repeats a request once at most.
        """
        if not self.has_credentials or not self.db_url:
            return None
        public = copy(self)  # `replace` would say again that a plain http URL is not safe
        for name in ("access_key_id", "access_key"):
            object.__setattr__(public, name, None)
        object.__setattr__(public, "retries", min(self.retries, _MIRROR_RETRIES))
        return public.address()


@dataclass(frozen=True)
class RemoteAddress:
    """A remote database's URL taken apart; each adapter knows which part names its key.

    `s3://bucket/a/db` has netloc `bucket` and path `a/db`; `file:///data/db` has netloc `""` and
    path `/data/db`; `memory://name` has netloc `name` and path `""`.

    Example:
        >>> address = RemoteAddress.parse("s3://bucket/a/db?region=eu")
        >>> address.scheme, address.netloc, address.path, address.options
        ('s3', 'bucket', 'a/db', (('region', 'eu'),))
    """

    scheme: str
    netloc: str
    path: str
    options: tuple[tuple[str, str], ...] = ()
    connection: S3Connection | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> RemoteAddress:
        """Take a URL apart.

        Raises:
            InvalidURLError: no scheme, or credentials inside the URL (they would end up in logs).
        """
        parts = _split(url)
        if parts is None or not parts.scheme or "://" not in url:
            shown = url.rpartition("@")[2][:_SHOWN]  # what may be credentials stays unsaid
            raise InvalidURLError(
                f"not a URL of a remote database: {shown!r}; for example s3://bucket/key"
            )
        if parts.username or parts.password:
            raise InvalidURLError(
                "a URL must not contain credentials; pass an S3Connection instead"
            )
        if parts.fragment or _CONTROL.search(url):  # urlsplit would drop both without a word
            raise InvalidURLError(
                "a URL holds no '#' and no control characters; in a name '#' is written %23, '?' "
                "%3F, '%' %25, and so on: urllib.parse.quote(name) does it"
            )
        if _SURROGATE.search(url):
            raise InvalidURLError("a URL holds no lone surrogates, which UTF-8 has no bytes for")
        path = parts.path if parts.scheme == "file" else parts.path.removeprefix("/")
        if parts.scheme not in _TAKEN_AS_THEY_ARE:
            try:
                path = unquote(path, errors="strict")
            except UnicodeDecodeError:
                raise InvalidURLError(
                    "what is escaped in the URL's path is not UTF-8; urllib.parse.quote(name) "
                    "escapes a name"
                ) from None
        return cls(
            scheme=parts.scheme,
            netloc=parts.netloc,
            path=path,
            options=tuple(parse_qsl(parts.query, keep_blank_values=True)),
        )

    def __str__(self) -> str:
        slash = "" if self.path.startswith("/") or not self.path else "/"
        path = self.path
        if self.scheme not in _TAKEN_AS_THEY_ARE:
            path = quote(path, safe=_PLAIN_IN_PATHS)
        return f"{self.scheme}://{self.netloc}{slash}{path}"
