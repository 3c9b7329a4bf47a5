"""The old local file: what it holds, and what of it was never pushed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import orjson

from ebooklet.core.legacy.block import StoredBlock
from ebooklet.core.legacy.index import Buffer, IndexTable
from ebooklet.core.legacy.journal import (
    JOURNAL_KEY,
    METADATA_KEY,
    REMOTE_STATE_KEY,
    LegacyJournal,
    read_journal,
    read_remote_timestamp,
)
from ebooklet.errors import EBookletError
from ebooklet.services.migration.report import PendingFound
from ebooklet.services.migration.values import OldValue


class OldFile(Protocol):
    """A local file of 0.11, held against writers and never written to."""

    @property
    def location(self) -> str:
        """Its path, for messages."""
        ...

    @property
    def uuid(self) -> UUID:
        """Identity of the database."""
        ...

    @property
    def value_serializer(self) -> int:
        """Booklet's number of the serializer; 0 for a class of the user's own."""
        ...

    @property
    def state(self) -> list[Any]:
        """What tells this content of it from every other."""
        ...

    @property
    def damage(self) -> int:
        """Bytes that `blocks` passed over, as nothing whole was found there."""
        ...

    def blocks(self) -> Iterator[StoredBlock]:
        """Every value, in file order; of two of one key the later one counts."""
        ...

    def reserved(self) -> Mapping[bytes, StoredBlock]:
        """What Booklet keeps beside the keys: metadata and slots."""
        ...

    def read(self, block: StoredBlock) -> bytes:
        """The bytes of a value."""
        ...

    def side_index(self) -> Buffer | None:
        """The copy of the remote's index that 0.11 keeps beside the file, if it is there."""
        ...

    def close(self) -> None:
        """Release it; idempotent."""
        ...


@dataclass(slots=True)
class LocalState:
    """What a local file says beside its values.

    Attributes:
        journal: changes that 0.11 wrote down.
        remote_timestamp: when the remote was committed that it was last in step with (µs).
        metadata: the user's metadata and their timestamp (µs), or None.
        notes: what of it could not be read.
    """

    journal: LegacyJournal
    remote_timestamp: int | None
    metadata: tuple[Any, int] | None
    notes: list[str] = field(default_factory=list)


def read_state(file: OldFile) -> LocalState:
    """Read what a file says beside its values.

    Raises:
        LocalFileError, UnsupportedFormatError: what is pending cannot be told.
    """
    reserved = file.reserved()

    def content(key: bytes) -> bytes | None:
        return file.read(reserved[key]) if key in reserved else None

    state = LocalState(
        journal=read_journal(content(JOURNAL_KEY), file.location),
        remote_timestamp=read_remote_timestamp(content(REMOTE_STATE_KEY), file.location),
        metadata=None,
    )
    if METADATA_KEY in reserved:
        try:
            data = orjson.loads(file.read(reserved[METADATA_KEY]))
            state.metadata = (data, reserved[METADATA_KEY].timestamp)
        except orjson.JSONDecodeError:
            state.notes.append("the user's metadata are damaged and were left out")
    return state


@dataclass(slots=True)
class Pending:
    """Changes of a local file that its remote does not have.

    Attributes:
        sets: keys written there.
        deletes: keys deleted there.
        conflicts: keys of either kind that somebody else changed in the remote since.
    """

    sets: set[bytes] = field(default_factory=set)
    deletes: set[bytes] = field(default_factory=set)
    conflicts: set[bytes] = field(default_factory=set)

    def found(self, state: LocalState) -> PendingFound:
        """As the report has it."""
        return PendingFound(
            _names(self.sets), _names(self.deletes), state.journal.metadata, state.journal.replaces
        )

    def lost(self, state: LocalState) -> tuple[str, ...]:
        """Keys that were written down as set, and of which the file has no value."""
        return _names({_encoded(key) for key in state.journal.written} - self.sets)

    def contested(self) -> tuple[str, ...]:
        """The names of `conflicts`."""
        return _names(self.conflicts)


def find_pending(file: OldFile, state: LocalState, index: IndexTable | None) -> Pending:
    """Compare a local file with the index of its remote, as 0.11 does: by journal and timestamps.

    Args:
        file: the file.
        state: what it says beside its values.
        index: of the remote; None where there is none.
    """
    written = {_encoded(key) for key in state.journal.written}
    pending = Pending()
    in_step = state.remote_timestamp or 0
    for key, timestamp, _, _ in file.blocks():
        entry = index.find(key) if index is not None else None
        if entry is None:
            # Absent there: written since the last look at the remote, or deleted there since.
            if key in written or timestamp > in_step or index is None:
                pending.sets.add(key)
        elif key in written or timestamp > entry.timestamp:
            pending.sets.add(key)
            if entry.timestamp > timestamp:
                pending.conflicts.add(key)
    for name in state.journal.deletes:
        key = _encoded(name)
        entry = index.find(key) if index is not None else None
        if entry is not None:
            pending.deletes.add(key)
            if entry.timestamp > in_step:
                pending.conflicts.add(key)
        elif index is None:
            pending.deletes.add(key)
    return pending


def pending_values(file: OldFile, keys: set[bytes]) -> Iterator[OldValue]:
    """Yield the values of these keys."""
    for block in file.blocks():
        if block.key in keys:
            yield OldValue(block.key, block.timestamp, file.read(block))


def found_in_journal(state: LocalState) -> PendingFound:
    """What a file without its remote says is pending; what only timestamps tell is not among it."""
    journal = state.journal
    return PendingFound(
        tuple(sorted(journal.written)),
        tuple(sorted(journal.deletes)),
        journal.metadata,
        journal.replaces,
    )


def local_values(file: OldFile, state: LocalState) -> Iterator[OldValue]:
    """Yield all that a local file has without its remote, and each key it knows but does not have.

    Args:
        file: the file.
        state: what it says beside its values; its notes are added to, where it cannot be told
            which keys are missing.
    """
    index = _side_index(file, state)
    journal = state.journal
    written = {_encoded(key) for key in journal.written}
    known = index if index is not None and not journal.replaces else None
    stored: set[bytes] = set()
    for block in file.blocks():
        key = block.key
        entry = known.find(key) if known is not None else None
        if entry is not None and entry.timestamp > block.timestamp and key not in written:
            continue  # said below: what is stored here is older than what the remote has
        stored.add(key)
        yield OldValue(key, block.timestamp, file.read(block))
    absent = "its value is not in the local file, or only an older one; give the remote as well"
    for name in journal.written:
        if _encoded(name) not in stored:
            yield OldValue(_encoded(name), 0, "it was written here, and lost before it was stored")
            stored.add(_encoded(name))
    deleted = {_encoded(key) for key in journal.deletes}
    for key, entry in known or ():
        if key not in stored and key not in deleted:
            yield OldValue(key, entry.timestamp, absent)


def _side_index(file: OldFile, state: LocalState) -> IndexTable | None:
    data = file.side_index()
    if data is not None:
        try:
            index = IndexTable(data, f"{file.location}.remote_index")
            for _ in index:  # a damaged one is found before any of it is believed
                pass
        except EBookletError:
            state.notes.append(
                "the index beside the local file is damaged, so that keys whose values are not "
                "stored here could not be told; give the remote as well"
            )
        else:
            return index
    elif state.remote_timestamp is not None and not state.journal.replaces:
        state.notes.append(
            "the index beside the local file is missing, so that keys whose values are not stored "
            "here could not be told; give the remote as well"
        )
    return None


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _names(keys: set[bytes]) -> tuple[str, ...]:
    return tuple(sorted(key.decode("utf-8", "backslashreplace") for key in keys))
