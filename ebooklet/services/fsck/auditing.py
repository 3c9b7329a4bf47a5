"""Reading whole segments to see whether they are what they should be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple

from ebooklet.core.audit import Expectations, SegmentAudit
from ebooklet.core.head import Head
from ebooklet.core.names import segment_key
from ebooklet.core.segment import (
    HEADER_BYTES,
    TRAILER_BYTES,
    Run,
    SegmentKind,
    check_frame,
    check_header,
    read_trailer,
)
from ebooklet.errors import (
    EBookletError,
    ObjectNotFound,
    RemoteIntegrityError,
    UnsupportedFormatError,
)
from ebooklet.ports.remote_store import ByteRange, RemoteStore
from ebooklet.services.parts import checked, read_again

_AT_ONCE: Final = 64  # segments whose ends are looked at together
_TAIL: Final = 64 * 1024  # bytes; holds the footer of all but the largest
_PIECE: Final = 8 * 1024 * 1024  # bytes
_DAMAGE: Final = (RemoteIntegrityError, UnsupportedFormatError, ObjectNotFound)


class SegmentEnds(NamedTuple):
    """What the two ends of a segment say."""

    sid: bytes
    size: int
    uuid: bytes
    runs: tuple[Run, ...]


def audit_segments(
    remote: RemoteStore,
    db_key: str,
    head: Head,
    sizes: Iterable[tuple[bytes, int]],
    expectations: Expectations,
) -> Iterator[tuple[bytes, str]]:
    """Read segments whole, in pieces, many at once, and yield what is wrong with those that are.

    Args:
        remote: where they are.
        db_key: the database's key.
        head: says which uuids may stand in their headers.
        sizes: sid and bytes of each.
        expectations: what references say of their contents.

    Yields:
        The sid of a damaged segment, and a sentence.

    Raises:
        RemoteUnavailable, AccessDenied: they could not be read at all.
    """
    rest = iter(sizes)
    while batch := list(islice(rest, _AT_ONCE)):
        sound: list[SegmentEnds] = []
        for sid, ends in _ends(remote, db_key, head.accepted_uuids(), batch):
            if isinstance(ends, EBookletError):
                yield sid, _sentence(ends)
            else:
                sound.append(ends)
        yield from _bodies(remote, db_key, sound, expectations)


def read_ends(
    remote: RemoteStore, db_key: str, sizes: Iterable[tuple[bytes, int]]
) -> Iterator[tuple[bytes, SegmentEnds | EBookletError]]:
    """What the ends of segments say, of whatever database they are; many at once.

    Args:
        remote: where they are.
        db_key: the database's key.
        sizes: sid and bytes of each.

    Yields:
        The sid, and what its ends say or why that cannot be told.

    Raises:
        RemoteUnavailable, AccessDenied: they could not be read at all.
    """
    rest = iter(sizes)
    while batch := list(islice(rest, _AT_ONCE)):
        yield from _ends(remote, db_key, None, batch)


def read_kinds(
    remote: RemoteStore, db_key: str, head: Head, sids: Sequence[bytes]
) -> dict[bytes, SegmentKind]:
    """What segments say that they hold; those whose header cannot be read are left out.

    Args:
        remote: where they are.
        db_key: the database's key.
        head: says which uuids may stand in their headers.
        sids: of the segments.

    Raises:
        RemoteUnavailable, AccessDenied: they could not be read at all.
    """
    kinds: dict[bytes, SegmentKind] = {}
    uuids = head.accepted_uuids()
    spans = [ByteRange(segment_key(db_key, sid), 0, HEADER_BYTES) for sid in sids]
    for sid, span, first in zip(sids, spans, remote.get_ranges(spans), strict=True):

        def kind(data: bytes, sid: bytes = sid) -> SegmentKind:
            return check_header(data, uuids, sid).kind

        with suppress(*_DAMAGE):
            kinds[sid] = checked(remote, span, first, kind)
    return kinds


def _ends(
    remote: RemoteStore,
    db_key: str,
    uuids: Collection[bytes] | None,
    batch: list[tuple[bytes, int]],
) -> Iterator[tuple[bytes, SegmentEnds | EBookletError]]:
    spans = [
        span
        for sid, size in batch
        for key in (segment_key(db_key, sid),)
        for span in (
            ByteRange(key, 0, min(size, HEADER_BYTES)),
            ByteRange(key, max(0, size - _TAIL), size),
        )
    ]
    parts = iter(remote.get_ranges(spans))
    for at, (sid, size) in enumerate(batch):
        first, tail = next(parts), next(parts)
        try:
            try:
                yield sid, _read_ends(remote, db_key, uuids, sid, size, first, tail)
            except _DAMAGE:  # perhaps of a copy of the objects, see services.parts
                first, tail = (read_again(remote, span) for span in spans[2 * at : 2 * at + 2])
                yield sid, _read_ends(remote, db_key, uuids, sid, size, first, tail)
        except _DAMAGE as exc:
            yield sid, exc


def _read_ends(
    remote: RemoteStore,
    db_key: str,
    uuids: Collection[bytes] | None,
    sid: bytes,
    size: int,
    first: bytes | EBookletError,
    tail: bytes | EBookletError,
) -> SegmentEnds:
    header = check_header(_bytes(first), uuids, sid)
    ending = _bytes(tail)
    trailer = read_trailer(ending, size)
    start = len(ending) - TRAILER_BYTES - trailer.footer_length
    if start >= 0:
        footer = ending[start : start + trailer.footer_length]
    else:
        end = trailer.footer_offset + trailer.footer_length
        key = segment_key(db_key, sid)
        footer = remote.get(key, start=trailer.footer_offset, stop=end).body
    return SegmentEnds(sid, size, header.uuid, check_frame(header, trailer, footer))


def _bodies(
    remote: RemoteStore, db_key: str, segments: list[SegmentEnds], expectations: Expectations
) -> Iterator[tuple[bytes, str]]:
    pieces = {ends.sid: _pieces(segment_key(db_key, ends.sid), ends.size) for ends in segments}
    bodies = iter(remote.get_ranges([part for parts in pieces.values() for part in parts]))
    for ends in segments:
        parts = pieces[ends.sid]
        problems = _audit(ends, islice(bodies, len(parts)), expectations)
        if problems:
            again = (read_again(remote, part) for part in parts)
            problems = _audit(ends, again, expectations)
        if problems:
            yield ends.sid, problems


def _pieces(key: str, size: int) -> list[ByteRange]:
    return [ByteRange(key, at, min(at + _PIECE, size)) for at in range(0, size, _PIECE)]


def _audit(
    ends: SegmentEnds, bodies: Iterable[bytes | EBookletError], expectations: Expectations
) -> str:
    """What is wrong with a segment; "" when nothing is."""
    audit = SegmentAudit(
        ends.runs,
        expectations.values(ends.sid),
        expectations.blocks(ends.sid),
        expectations.sealer,
    )
    failure: EBookletError | None = None
    for body in bodies:  # to the end: those of the next segment follow
        if isinstance(body, EBookletError):
            failure = failure or body
        elif failure is None:
            audit.feed(body)
    if failure is None:
        return "; ".join(audit.problems())
    if isinstance(failure, _DAMAGE):
        return _sentence(failure)
    raise failure


def _bytes(part: bytes | EBookletError) -> bytes:
    if isinstance(part, EBookletError):
        raise part
    return part


def _sentence(error: EBookletError) -> str:
    return str(error.args[0])
