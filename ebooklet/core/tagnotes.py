"""What a tag says in words: sealed where the database is encrypted, as the notes of commits are.

A head holds the message of a tag as text, so what is sealed stands there in base64. It is bound to
the tag's name and to the commit that it names.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Final

from ebooklet.core.cbor import Malformed
from ebooklet.core.headtypes import Tag
from ebooklet.core.refs import CommitRef
from ebooklet.core.sealing import Content, Sealer
from ebooklet.errors import RemoteIntegrityError

MAX_TAG_MESSAGE_BYTES: Final = 2048  # sealed and in base64 it has to fit into the head's 4096
_TAG_AT: Final = slice(1, 5)  # of a sealed block: which key it lies under


def seal_message(message: str, name: str, ref: CommitRef, sealer: Sealer) -> str:
    """What the head holds of a tag's message."""
    if not (message and sealer.seals):
        return message
    sealed = sealer.seal(Content.NOTES, message.encode(), _bound_to(name, ref))
    return b64encode(bytes(sealed)).decode("ascii")


def read_message(tag: Tag, name: str, sealer: Sealer) -> str:
    """The message of a tag, in the clear.

    Raises:
        RemoteIntegrityError: it was not made, or not for this name and commit, by who has the key.
        EncryptionError: the key that it needs is not to be had.
    """
    if not (tag.message and sealer.seals):
        return tag.message
    try:
        stored = _stored(tag)
        opened = sealer.open(Content.NOTES, stored, _bound_to(name, tag.commit))
        return bytes(opened).decode()
    except (Malformed, UnicodeDecodeError, RemoteIntegrityError) as exc:
        raise RemoteIntegrityError(
            f"the message of tag {name!r} was changed by who has not the key; restore an older head",
            op="tags",
        ) from exc


def key_tag_of(tag: Tag) -> bytes | None:
    """What tells the key that a sealed message lies under; None where there is none."""
    try:
        return _stored(tag)[_TAG_AT] if tag.message else None
    except Malformed:
        return None


def _stored(tag: Tag) -> bytes:
    try:
        return b64decode(tag.message, validate=True)
    except ValueError as exc:
        raise Malformed("it is no base64") from exc


def _bound_to(name: str, ref: CommitRef) -> bytes:
    return b"tag:" + ref.id + name.encode()
