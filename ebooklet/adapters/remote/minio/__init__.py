"""Buckets of S3-compatible servers, through MinIO's client."""

from __future__ import annotations

from ebooklet.adapters.remote.minio.store import MinioRemoteStore, open_store

__all__ = ["MinioRemoteStore", "open_store"]
