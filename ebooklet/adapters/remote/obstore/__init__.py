"""Buckets of S3-compatible servers, through obstore (the Rust crate object_store)."""

from __future__ import annotations

from ebooklet.adapters.remote.obstore.store import ObstoreRemoteStore, open_store

__all__ = ["ObstoreRemoteStore", "open_store"]
