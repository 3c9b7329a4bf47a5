"""Tags: commits kept under a name, which never moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from ebooklet.core.head import Tag
from ebooklet.core.refnames import check_ref_name
from ebooklet.core.sealing import DatabaseSealer
from ebooklet.core.tagnotes import MAX_TAG_MESSAGE_BYTES, read_message, seal_message
from ebooklet.core.timestamps import to_datetime
from ebooklet.services.amending import amend
from ebooklet.services.naming import check_free, pinned, shown
from ebooklet.services.refs import find_tag
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.trash import dropping
from ebooklet.services.versions import VersionLike, check_version
from ebooklet.services.working_copy import WorkingCopy


@dataclass(frozen=True, slots=True, kw_only=True)
class TagInfo:
    """A tag, as users see it.

    Attributes:
        name: of the tag.
        commit: id of the commit it names, 64 hexadecimal digits.
        seq: number of that commit.
        time: when the tag was made, by the clock of who made it; aware, UTC.
        message: why, in the words of who made it.
    """

    name: str
    commit: str
    seq: int
    time: datetime
    message: str


def tag(
    copy: WorkingCopy, name: str, version: VersionLike | None = None, message: str = ""
) -> TagInfo:
    """Keep a commit under a name; what is pending is no part of it.

    Args:
        copy: the working copy, writable.
        name: that it is to have.
        version: which; None for the one that this copy stands on.
        message: why.

    Raises:
        ValueError: the name cannot be one, or is another tag's or a branch's, or the message is too
            long.
        SnapshotExpired: the commit is no longer retained.
        EBookletError: see `amending.amend`.
    """
    check_ref_name(name, "tag")
    if version is not None:
        check_version(version)
    _check_message(message)
    made: dict[str, TagInfo] = {}

    def amendment(current: Snapshot, sealer: DatabaseSealer) -> Mapping[str, object] | None:
        head = current.head
        ref = pinned(copy, current, version, "tag").ref
        found = head.tags.get(name)
        if found is not None:
            made[name] = tag_info(name, found, sealer)
            if found.commit.id == ref.id and made[name].message == message:
                return None  # as it was to be, by an attempt whose answer was lost perhaps
            raise ValueError(
                f"there is a tag {name!r} already, of commit {found.commit.seq}: choose another "
                "name, or delete_tag() it first"
            )
        check_free(head, name, "tag")
        now_ms = copy.clock.now_us() // 1000
        new = Tag(ref, now_ms, seal_message(message, name, ref, sealer))
        made[name] = tag_info(name, new, sealer)
        return {"tags": {**head.tags, name: new}}

    amend(copy, "tag", amendment)
    return made[name]


def delete_tag(copy: WorkingCopy, name: str) -> None:
    """Drop a tag; the commit it names stays in the trash until the grace ends.

    Raises:
        UnknownVersionError: there is none of that name.
        EBookletError: see `amending.amend`.
    """

    def amendment(current: Snapshot, _: DatabaseSealer) -> Mapping[str, object]:
        find_tag(current.head, name, copy.db_key)
        return dropping(copy, current.head, "tag", name)

    amend(copy, "delete_tag", amendment)


def tags(copy: WorkingCopy) -> Mapping[str, TagInfo]:
    """All tags by name, sorted; costs one request, offline none."""
    found = shown(copy, "tags")
    if found is None:
        return MappingProxyType({})
    sealer = copy.keyring.sealer_of(found.head)
    return MappingProxyType(
        {name: tag_info(name, kept, sealer) for name, kept in sorted(found.head.tags.items())}
    )


def tag_info(name: str, found: Tag, sealer: DatabaseSealer) -> TagInfo:
    """What users see of a tag, its message opened."""
    return TagInfo(
        name=name,
        commit=found.commit.id.hex(),
        seq=found.commit.seq,
        time=to_datetime(found.ms * 1000),
        message=read_message(found, name, sealer),
    )


def _check_message(message: object) -> None:
    if not isinstance(message, str):
        raise TypeError(f"the message of a tag is a str, not {type(message).__name__}")
    if len(message.encode()) > MAX_TAG_MESSAGE_BYTES:
        raise ValueError("the message of a tag may have 2 KiB of UTF-8 at most")
