"""Any file system that fsspec knows: S3 through s3fs, and files, SFTP, memory and others."""

from __future__ import annotations

from ebooklet.adapters.remote.fsspec.opening import open_store
from ebooklet.adapters.remote.fsspec.store import FsspecRemoteStore, S3fsRemoteStore

__all__ = ["FsspecRemoteStore", "S3fsRemoteStore", "open_store"]
