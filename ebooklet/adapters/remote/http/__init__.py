"""Databases behind a public http(s) URL: read-only, without credentials, through urllib3."""

from __future__ import annotations

from ebooklet.adapters.remote.http.store import HttpRemoteStore, open_store

__all__ = ["HttpRemoteStore", "open_store"]
