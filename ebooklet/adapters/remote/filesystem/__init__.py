"""Databases in a folder: of this machine, or of a network share with working locks."""

from __future__ import annotations

from ebooklet.adapters.remote.filesystem.store import FilesystemRemoteStore, open_store

__all__ = ["FilesystemRemoteStore", "open_store"]
