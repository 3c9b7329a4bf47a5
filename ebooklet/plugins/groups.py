"""The entry-point groups through which everything named is found, the built-ins included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["GROUPS", "HOOKS", "LOCAL_STORES", "LOCK_SERVICES", "REMOTE_STORES", "SERIALIZERS"]

LOCAL_STORES: Final = "ebooklet.local_stores"
REMOTE_STORES: Final = "ebooklet.remote_stores"
LOCK_SERVICES: Final = "ebooklet.lock_services"
SERIALIZERS: Final = "ebooklet.serializers"
HOOKS: Final = "ebooklet.hooks"

GROUPS: Final[Mapping[str, str]] = {
    LOCAL_STORES: "local store",
    REMOTE_STORES: "remote scheme",
    LOCK_SERVICES: "lock service",
    SERIALIZERS: "serializer",
    HOOKS: "hook plugin",
}
"""Group to what one of its names is called in messages."""
