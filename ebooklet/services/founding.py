"""Founding: what a local half says of a database that is not there yet, and who creates it.

A half that is made where no database is has a uuid of its own, which the first push makes the
database's. Where several do so at once, the first push founds the database, and the others join it:
a half that was never in step with any takes over the uuid, and what is pending in it meets what is
there as after any lost race. Nothing of it was ever seen by anybody, so that nothing else knows the
uuid that it gives up (decision 0044).
"""

from __future__ import annotations

from typing import Final

from ebooklet.core.head import DatabaseType, Head
from ebooklet.core.journal import replay
from ebooklet.core.serializer_names import CUSTOM_NAME
from ebooklet.errors import EncryptionError, LockLostError, UUIDMismatchError
from ebooklet.ports.local_store import LocalStore
from ebooklet.services.journal import FORMER_SLOT, HEAD_SLOT, PENDING_LOG
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.turns import end_turn
from ebooklet.services.working_copy import WorkingCopy

_TYPE_SLOT: Final = "kind"
_ENCRYPTED_SLOT: Final = "encrypted"  # what is made here is to be sealed when it is pushed
_PLACE_SLOT: Final = "founds"  # where the half was made for, while no database was there


def stored_type(local: LocalStore) -> DatabaseType | None:
    """What type of database a local half is, as far as it says."""
    stored = local.read_slot(_TYPE_SLOT)
    return "group" if stored == b"group" else "database" if stored == b"database" else None


def store_type(local: LocalStore, kind: DatabaseType) -> None:
    """Note what type of database a local half is."""
    local.write_slot(_TYPE_SLOT, kind.encode())


def is_to_be_sealed(local: LocalStore) -> bool:
    """Whether what is made here is to be encrypted when it is pushed."""
    return local.read_slot(_ENCRYPTED_SLOT) is not None


def have_sealed(local: LocalStore, *, sealed: bool) -> None:
    """Note whether what is made here is to be encrypted when it is pushed."""
    local.write_slot(_ENCRYPTED_SLOT, b"1" if sealed else None)


def is_founder(local: LocalStore, place: str | None) -> bool:
    """Whether a half was made for this place, and was never in step with any database.

    One that is to replace whatever is there is no founder: it would replace what others made.
    """
    made_for = local.read_slot(_PLACE_SLOT)
    if made_for is None or place is None or made_for != place.encode():
        return False
    in_step = (HEAD_SLOT, FORMER_SLOT)
    if any(local.read_slot(name) is not None for name in in_step):
        return False
    return not replay(local.read_log(PENDING_LOG)).state.replace


def make_founder(local: LocalStore, place: str | None) -> None:
    """Note that a half was made for a place where no database is; None: it joins none."""
    local.write_slot(_PLACE_SLOT, None if place is None else place.encode())


def check_joins(local: LocalStore, head: Head) -> None:
    """Refuse a database that a founder cannot join.

    Raises:
        UUIDMismatchError: it is stored as another type, or its values are serialised otherwise.
        EncryptionError: what is pending was to be encrypted, and the database is not.
    """
    serializer = local.value_serializer or CUSTOM_NAME
    why = ""
    if stored_type(local) != head.type:
        why = f"is a {head.type}, and this is none"
    elif serializer != head.value_serializer:
        why = f"has values serialised with {head.value_serializer!r}, not {serializer!r}"
    if why:
        raise UUIDMismatchError(
            f"somebody else has created the database by now, and it {why}: {local.location} stays "
            "as it is. Open the database with another file_path, and set there what is only here",
            op="open",
            key=head.name,
        )
    if is_to_be_sealed(local) and not head.encrypted:
        raise EncryptionError(
            f"{local.location} was made for an encrypted database, and somebody else has created "
            "one by now that is not; nothing was changed. Choose another place",
            op="open",
            key=head.name,
        )


def join(copy: WorkingCopy, current: Snapshot) -> bool:
    """Have a founder's half be one of the database that is there; others are left alone.

    Its changes stay pending, on top of nothing. A crash at any point leaves a half of its own, or
    one of this database that was never in step with it.

    Args:
        copy: the working copy, its local store writable.
        current: the head that stands.

    Returns:
        Whether it has joined just now.

    Raises:
        UUIDMismatchError, EncryptionError: see `check_joins`; nothing was changed.
        LockLostError: the database is kept by another kind of lock than the one that is held.
    """
    local, head = copy.local, current.head
    if local.uuid == head.uuid or not is_founder(local, copy.journal.place.here):
        return False
    check_joins(local, head)
    copy.keyring.sealer_of(head, current.record)
    if copy.lease is not None and copy.commit_mode not in (None, head.proto.mode):
        if copy.settings.exclusive:
            raise LockLostError(
                f"somebody else has created the database, in mode {head.proto.mode}, which takes "
                "another lock than this handle holds; nothing was committed, your changes stay "
                "pending. Close it and open it again",
                op="push",
                key=copy.db_key,
            )
        end_turn(copy)
    with copy.lock:
        copy.pending.absorb()
        copy.journal.flush(copy.pending)
        local.adopt_uuid(head.uuid)
    return True
