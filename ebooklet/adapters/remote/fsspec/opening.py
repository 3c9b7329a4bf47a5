"""Which of fsspec's file systems a URL means."""

from __future__ import annotations

from typing import Final

import fsspec

from ebooklet.adapters.remote.fsspec.store import FsspecRemoteStore, S3fsRemoteStore
from ebooklet.adapters.requests import RequestingStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.connection import RemoteAddress
from ebooklet.errors import InvalidURLError, UnknownNameError

__all__ = ["open_store"]

_S3: Final = ("s3", "s3a")
_THIS_MACHINE: Final = ("file", "local", "memory")
_ROOTED: Final = ("file", "local", "sftp", "ssh", "ftp", "smb", "hdfs", "webhdfs")
_SECRETS: Final = ("password", "passphrase", "secret", "key", "token", "account_key", "sas_token")


def open_store(address: RemoteAddress) -> tuple[RequestingStore, str]:
    """Open `fsspec+PROTOCOL://…/folder/db`: the store is the folder, the key is `db`.

    `fsspec+s3://bucket/key` goes through s3fs, with the parameters of its connection or boto3's
    usual sources; its options are `endpoint_url`, `region` and `unsigned`. Options of every other
    protocol are the parameters of its file system; secrets come from that library's own sources.

    Raises:
        InvalidURLError: the URL names no database, an option is unknown or a secret.
        UnknownNameError: fsspec knows no such protocol, or needs a package for it.
    """
    protocol = address.scheme.partition("+")[2]
    if protocol in _S3:
        parameters, retry = S3Parameters.in_options(address, example="fsspec+s3://bucket/key")
        return S3fsRemoteStore(address.netloc, parameters, retry=retry), address.path
    folder, _, name = address.path.strip("/").rpartition("/")
    if not protocol or not name or not (address.netloc or folder):
        raise InvalidURLError(
            f"{address}: the URL needs a protocol, a folder and a name, as in "
            "fsspec+sftp://host/folder/db"
        )
    options = dict(address.options)
    if secrets := sorted(options.keys() & set(_SECRETS)):
        raise InvalidURLError(
            f"a URL must not contain secrets ({', '.join(secrets)}): they would end up in logs; "
            f"give them as the file system's own library reads them"
        )
    try:
        made = fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as exc:
        raise UnknownNameError(
            f"fsspec cannot open {protocol!r}: {exc}", op="open", key=protocol
        ) from exc
    slash = "/" if protocol in _ROOTED else ""
    location = f"{protocol}://{address.netloc}{slash}{'' if slash else '/' * bool(folder)}{folder}"
    found = {**made._get_kwargs_from_urls(location), **options}  # noqa: SLF001 - fsspec's own way
    root = made._strip_protocol(location)  # noqa: SLF001 - fsspec's own way
    store = FsspecRemoteStore(
        lambda: made(**found, skip_instance_cache=True),
        str(root),
        location=location,
        shared=protocol not in _THIS_MACHINE,
        retry=Retry(),
    )
    return store, name
