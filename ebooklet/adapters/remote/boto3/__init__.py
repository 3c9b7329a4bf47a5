"""Buckets of S3-compatible servers, through boto3 (the default driver)."""

from __future__ import annotations

from ebooklet.adapters.remote.boto3.store import Boto3RemoteStore, open_store

__all__ = ["Boto3RemoteStore", "open_store"]
