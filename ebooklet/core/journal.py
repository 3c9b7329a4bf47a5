"""The journal: what is pending, in an append-only log beside the local file (FORMAT §6).

Its frames are those of `core.frames`. A frame that is torn, damaged or of a newer version ends the
readable part: `replay` says so, and its caller must `replace_log` with `state.encode()` before it
appends again. What a lost tail held, the reconciliation at open finds again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final, Literal, NamedTuple, TypeAlias

from ebooklet.core import cbor
from ebooklet.core.cbor import U63, Malformed
from ebooklet.core.frames import encode_frame, key_batches, read_frames, read_keys

__all__ = [
    "ABSENT",
    "UNKNOWN",
    "Base",
    "JournalRecord",
    "Pending",
    "PendingDelete",
    "PendingMetadata",
    "PendingSet",
    "PendingState",
    "PushSettled",
    "PushStarted",
    "Rebase",
    "ReplaceIntent",
    "Replay",
    "Settled",
    "SettledAll",
    "encode_record",
    "encode_records",
    "replay",
]

Base: TypeAlias = bytes | None  # digest of the value in the base commit, ABSENT, or UNKNOWN
UNKNOWN: Final = None
ABSENT: Final = b""

MAX_DIGEST: Final = 64  # bytes


@dataclass(frozen=True, slots=True)
class PendingSet:
    """These keys were written locally."""

    keys: Sequence[str]
    bases: Sequence[Base] = ()  # one per key, or none at all: unknown


@dataclass(frozen=True, slots=True)
class PendingDelete:
    """These keys were deleted locally."""

    keys: Sequence[str]
    timestamps: Sequence[int]  # µs, one per key
    bases: Sequence[Base] = ()


@dataclass(frozen=True, slots=True)
class Rebase:
    """The base commit moved, and these pending keys have other values in the new one."""

    keys: Sequence[str]
    bases: Sequence[Base]


@dataclass(frozen=True, slots=True)
class PendingMetadata:
    """The user's metadata are pending, or no longer."""

    pending: bool = True


@dataclass(frozen=True, slots=True)
class Settled:
    """These keys are pending no more: pushed, discarded or found equal."""

    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class SettledAll:
    """Nothing is pending any more: no key, no metadata, no replacement."""


@dataclass(frozen=True, slots=True)
class ReplaceIntent:
    """The next push replaces the whole remote (flag `n`), or no longer does."""

    on: bool


@dataclass(frozen=True, slots=True)
class PushStarted:
    """A head of this seq with this write_id is being written (mode lock, or no answer yet)."""

    write_id: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class PushSettled:
    """A later read of the head showed what became of a write."""

    write_id: bytes
    confirmed: bool


JournalRecord: TypeAlias = (
    PendingSet
    | PendingDelete
    | Rebase
    | PendingMetadata
    | Settled
    | SettledAll
    | ReplaceIntent
    | PushStarted
    | PushSettled
)


PendingOp: TypeAlias = Literal["set", "delete"]


class Pending(NamedTuple):
    """What is pending for one key."""

    op: PendingOp
    base: Base
    timestamp: int  # µs of a deletion; for a set, of the one it came after, or 0


_SET: Final = Pending("set", UNKNOWN, 0)  # shared by most keys of a large load


@dataclass(slots=True)
class PendingState:
    """What the journal's records add up to. Services change it by the records they append."""

    keys: dict[str, Pending] = field(default_factory=dict)
    metadata: bool = False
    replace: bool = False
    in_doubt: dict[bytes, int] = field(default_factory=dict)  # write_id -> seq

    def __bool__(self) -> bool:
        """Whether anything is pending."""
        return bool(self.keys or self.metadata or self.replace)

    def set(self, key: str, base: Base = UNKNOWN) -> None:
        """Note a written key. Its base stays what it was, once that is known."""
        old = self.keys.get(key)
        known = base if old is None or old.base is None else old.base
        deleted = 0 if old is None else old.timestamp
        self.keys[key] = Pending("set", known, deleted) if known is not None or deleted else _SET

    def delete(self, key: str, timestamp: int, base: Base = UNKNOWN) -> None:
        """Note a deleted key. Its base stays what it was, once that is known."""
        old = self.keys.get(key)
        known = base if old is None or old.base is None else old.base
        self.keys[key] = Pending("delete", known, timestamp)

    def apply(self, record: JournalRecord) -> None:
        """Take in one record."""
        match record:
            case PendingSet(keys, bases):
                self._take("set", keys, bases, ())
            case PendingDelete(keys, timestamps, bases):
                self._take("delete", keys, bases, timestamps)
            case Rebase(keys, bases):
                for key, base in zip(keys, bases, strict=True):
                    if (old := self.keys.get(key)) is not None:
                        self.keys[key] = old._replace(base=base)
            case Settled(keys):
                for key in keys:
                    self.keys.pop(key, None)
            case SettledAll():
                self.keys.clear()
                self.metadata = self.replace = False
            case PendingMetadata(pending):
                self.metadata = pending
            case ReplaceIntent(on):
                self.replace = on
            case PushStarted(write_id, seq):
                self.in_doubt[write_id] = seq
            case PushSettled(write_id):
                self.in_doubt.pop(write_id, None)

    def _take(
        self, op: PendingOp, keys: Sequence[str], bases: Sequence[Base], times: Sequence[int]
    ) -> None:
        """`set` or `delete` many keys, without a Python call for each."""
        if bases or times:
            columns = zip(repeat(op), bases or repeat(UNKNOWN), times or repeat(0))
            new = dict(zip(keys, map(Pending._make, columns), strict=False))  # repeats never end
        else:
            new = dict.fromkeys(keys, _SET)
        for key in self.keys.keys() & new.keys():
            _, base, deleted = self.keys[key]
            if base is not None:
                new[key] = new[key]._replace(base=base)
            if deleted and op == "set":
                new[key] = new[key]._replace(timestamp=deleted)
        self.keys.update(new)

    def records(self) -> Iterator[JournalRecord]:
        """The fewest records that add up to this state."""
        if self.replace:
            yield ReplaceIntent(on=True)
        if self.metadata:
            yield PendingMetadata()
        for write_id, seq in self.in_doubt.items():
            yield PushStarted(write_id, seq)
        plain: list[str] = []
        based: list[tuple[str, Base]] = []
        deleted: list[tuple[str, int, Base]] = []
        for key, (op, base, timestamp) in self.keys.items():
            if timestamp or op == "delete":
                deleted.append((key, timestamp, base))
            if op == "delete":
                continue
            if base is None:
                plain.append(key)
            else:
                based.append((key, base))
        if deleted:  # first, as some were set again
            yield PendingDelete(*zip(*deleted, strict=True))
        if plain:
            yield PendingSet(plain)
        if based:
            yield PendingSet(*zip(*based, strict=True))

    def encode(self) -> bytes:
        """A whole log that replays to this state: what compaction puts in its place."""
        return encode_records(self.records())


class Replay(NamedTuple):
    """What a log says, as far as it can be read."""

    state: PendingState
    intact: bool  # False: replace the log with `state.encode()` before appending
    length: int  # bytes that were readable


def encode_record(record: JournalRecord) -> bytes:
    """The frames of one record; a record of many keys becomes several."""
    match record:
        case PendingSet(keys, bases):
            return _key_frames(1, keys, bases)
        case PendingDelete(keys, timestamps, bases):
            return _key_frames(2, keys, bases, timestamps)
        case Rebase(keys, bases):
            return _key_frames(3, keys, bases)
        case Settled(keys):
            return b"".join(encode_frame([4, list(keys[s])]) for s in key_batches(keys))
        case SettledAll():
            return encode_frame([5])
        case PendingMetadata(pending):
            return encode_frame([6, pending])
        case ReplaceIntent(on):
            return encode_frame([7, on])
        case PushStarted(write_id, seq):
            return encode_frame([8, write_id, seq])
        case PushSettled(write_id, confirmed):
            return encode_frame([9, write_id, confirmed])


def encode_records(records: Iterable[JournalRecord]) -> bytes:
    """The frames of many records."""
    return b"".join(map(encode_record, records))


def replay(data: bytes) -> Replay:
    """Add up a journal; never raises, whatever the bytes."""
    state = PendingState()
    length = 0
    for item, end in read_frames(data, _journal_record):
        state.apply(item)
        length = end
    return Replay(state, length == len(data), length)


def _key_frames(
    code: int, keys: Sequence[str], bases: Sequence[Base], times: Sequence[int] | None = None
) -> bytes:
    if not all(len(column) in (0, len(keys)) for column in (bases, times or ())):
        raise ValueError("a record has one base and one timestamp for each key, or none at all")
    frames = []
    for part in key_batches(keys):
        items: list[object] = [code, list(keys[part]), _pack_bases(bases[part])]
        if times is not None:
            items.append(list(times[part]))
        frames.append(encode_frame(items))
    return b"".join(frames)


def _pack_bases(bases: Sequence[Base]) -> object:
    """One byte per key with the digest's length + 1 (0: unknown), then the digests."""
    if not any(base is not None for base in bases):
        return None
    sizes = bytes(0 if base is None else len(base) + 1 for base in bases)
    return [sizes, b"".join(base for base in bases if base)]


def _unpack_bases(value: object, count: int) -> Sequence[Base]:
    if value is None:
        return ()
    packed_sizes, packed = cbor.row(value, "bases", 2)
    sizes = cbor.blob(packed_sizes, "sizes of bases", count)
    digests = cbor.blob(packed, "bases")
    if count and max(sizes) > MAX_DIGEST + 1:
        raise Malformed("a base is too long")
    bases: list[Base] = []
    at = 0
    for size in sizes:
        if size > 1:
            bases.append(digests[at : at + size - 1])
            at += size - 1
        else:
            bases.append(ABSENT if size else UNKNOWN)
    if at != len(digests):
        raise Malformed("the bases do not fill their sizes")
    return bases


def _journal_record(items: list[object]) -> JournalRecord:
    match items:
        case [1, keys, bases]:
            names = read_keys(keys)
            return PendingSet(names, _unpack_bases(bases, len(names)))
        case [2, keys, bases, times]:
            names = read_keys(keys)
            moments = [
                cbor.uint(time, "a timestamp") for time in cbor.row(times, "times", len(names))
            ]
            return PendingDelete(names, moments, _unpack_bases(bases, len(names)))
        case [3, keys, bases]:
            names = read_keys(keys)
            return Rebase(names, _unpack_bases(bases, len(names)) or (UNKNOWN,) * len(names))
        case [4, keys]:
            return Settled(read_keys(keys))
        case [5]:
            return SettledAll()
        case [6, pending]:
            return PendingMetadata(cbor.flag(pending, "a flag"))
        case [7, on]:
            return ReplaceIntent(cbor.flag(on, "a flag"))
        case [8, write_id, seq]:
            return PushStarted(cbor.blob(write_id, "write_id", 16), cbor.uint(seq, "seq", U63))
        case [9, write_id, confirmed]:
            return PushSettled(cbor.blob(write_id, "write_id", 16), cbor.flag(confirmed, "a flag"))
        case _:
            raise Malformed("a record of a newer version")
