"""The remote stores of fsspec's file systems."""

from __future__ import annotations

from collections.abc import Callable

from fsspec import AbstractFileSystem

from ebooklet.adapters.remote.fsspec.files import FileRequests
from ebooklet.adapters.requests import RequestingStore, Requests
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3bucket import S3RemoteStore
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.connection import DEFAULT_THREADS

__all__ = ["FsspecRemoteStore", "S3fsRemoteStore"]


class S3fsRemoteStore(S3RemoteStore):
    """One bucket, through s3fs. Nothing is sent, and no client made, before the first call.

    Args:
        bucket: its name.
        parameters: endpoint, credentials and limits; those left out come from boto3's usual
            sources (environment, profiles, instance roles).
        retry: how reads and unconditional writes are repeated.

    Example:
        >>> S3fsRemoteStore("bucket", S3Parameters(endpoint_url="http://127.0.0.1:9000"))
        S3fsRemoteStore(bucket='bucket', endpoint_url='http://127.0.0.1:9000')
    """

    def _requests_of(self, bucket: str, parameters: S3Parameters, retry: Retry) -> Requests:
        from ebooklet.adapters.remote.fsspec.s3 import S3fsRequests  # other protocols need no s3fs

        return S3fsRequests(bucket, parameters, retry)


class FsspecRemoteStore(RequestingStore):
    """A folder of a file system of fsspec. Nothing is opened before the first call.

    There is no public way to send a condition through fsspec, so databases here are committed to
    under a lock.

    Args:
        open_file_system: makes the file system; called again after a fork or a lost connection.
        root: the folder in it, in its own spelling.
        location: the folder as a URL, for messages.
        shared: whether other machines can reach the same folder.
        retry: how reads and writes are repeated.

    Example:
        >>> from fsspec.implementations.memory import MemoryFileSystem
        >>> store = FsspecRemoteStore(MemoryFileSystem, "/data", location="memory://data")
        >>> _ = store.put("a/key", b"body")
        >>> store.get("a/key", start=1).body
        b'ody'
    """

    def __init__(
        self,
        open_file_system: Callable[[], AbstractFileSystem],
        root: str,
        *,
        location: str,
        shared: bool = False,
        retry: Retry | None = None,
    ) -> None:
        requests = FileRequests(open_file_system, root, location=location, shared=shared)
        super().__init__(requests, threads=DEFAULT_THREADS, retry=retry or Retry())

    def __repr__(self) -> str:
        return f"FsspecRemoteStore({self.location!r})"
