"""What the caller chose at open, as far as services need it."""

from __future__ import annotations

from dataclasses import dataclass

from ebooklet.core.head import DatabaseType
from ebooklet.core.keeping import Keep
from ebooklet.services.packing import DEFAULT_GROUP_BYTES
from ebooklet.services.policy import ConflictPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The choices, settled once both halves were looked at; see `ebooklet.services.request`."""

    type: DatabaseType = "database"
    key_serializer: str = "str"
    value_serializer: str = "pickle"
    writable: bool = False
    offline: bool = False
    exclusive: bool = True
    conflict: ConflictPolicy = "error"
    branch: str | None = None  # None: the head's default one
    author: str = ""
    version: str = ""  # of the library, written into heads
    stays_at: bytes | None = None  # id of a commit; None follows the branch
    stays_by: str | None = None  # the branch that named it; None: another version did
    keep: Keep | None = None  # how much of the branch pushes have retained; None: as it stands
    group_bytes: int = DEFAULT_GROUP_BYTES  # shown to older programs; has no effect
