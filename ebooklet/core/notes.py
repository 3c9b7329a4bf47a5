"""What a commit says in words, author and message: sealed where the database is encrypted.

The seal binds the words to the whole record. So it also tells who has the key that nobody without
it made the record, or changed where its root lies: see `check_record`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from ebooklet.core import cbor
from ebooklet.core.cbor import Malformed
from ebooklet.core.commit import MAX_AUTHOR_BYTES, MAX_MESSAGE_BYTES, Commit, encode_commit
from ebooklet.core.sealing import Content, Sealer
from ebooklet.errors import RemoteIntegrityError


class Notes(NamedTuple):
    """The words of a commit."""

    author: str
    message: str


def seal_notes(commit: Commit, sealer: Sealer, key_ids: Iterable[str]) -> Commit:
    """The record as it is stored, when all else of it is settled.

    Args:
        commit: with its words in the clear.
        sealer: of the database; one that does not seal leaves the record as it is.
        key_ids: of keys that blocks of the snapshot lie under, beside the current one.
    """
    if sealer.current is None:
        return commit
    plain = cbor.encode([commit.author, commit.message])
    named = tuple(sorted({*key_ids, sealer.current}))
    bare = replace(commit, author="", message="", notes=None, key_ids=named)
    return replace(bare, notes=bytes(sealer.seal(Content.NOTES, plain, encode_commit(bare))))


def read_notes(commit: Commit, sealer: Sealer) -> Notes:
    """The words of a stored record.

    Raises:
        RemoteIntegrityError: the record was not made, or not as it is, by who has the key.
    """
    if not sealer.seals:
        return Notes(commit.author, commit.message)
    if commit.notes is None:
        raise RemoteIntegrityError(
            f"commit {commit.seq} is not sealed: it was made by who has not the key; restore an older head",
            op="read",
        )
    bare = replace(commit, notes=None)
    try:
        opened = sealer.open(Content.NOTES, commit.notes, encode_commit(bare))
    except RemoteIntegrityError as exc:
        raise RemoteIntegrityError(
            f"commit {commit.seq} was changed by who has not the key; restore an older head",
            op="read",
        ) from exc
    try:
        author, message = cbor.row(cbor.decode(bytes(opened)), "notes", 2)
        return Notes(
            cbor.text(author, "author", MAX_AUTHOR_BYTES),
            cbor.text(message, "message", MAX_MESSAGE_BYTES),
        )
    except Malformed as exc:
        raise RemoteIntegrityError(f"malformed notes of a commit: {exc}", op="read") from exc


def check_record(commit: Commit, sealer: Sealer) -> None:
    """Refuse a record that nobody with the key has made as it is.

    Raises:
        RemoteIntegrityError: see `read_notes`.
    """
    if sealer.seals:
        read_notes(commit, sealer)
