"""What a list of a remote store names."""

from __future__ import annotations

from collections.abc import Iterable

from ebooklet.ports.remote_store import ObjectMeta

__all__ = ["keys_of"]


def keys_of(metas: Iterable[ObjectMeta]) -> list[str]:
    """The keys of these objects, sorted."""
    return sorted(meta.key for meta in metas)
