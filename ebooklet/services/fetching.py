"""Fetching values from the segments: few ranged requests in parallel, each value verified."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter

from ebooklet.core.entry import Entry, Place
from ebooklet.core.index.limits import MAX_VALUE_BYTES
from ebooklet.core.sealing import Content, Sealer
from ebooklet.errors import EBookletError, ObjectNotFound, RemoteIntegrityError
from ebooklet.services.explaining import explaining
from ebooklet.services.parts import read_again
from ebooklet.services.working_copy import WorkingCopy


def fetch_values(
    copy: WorkingCopy, entries: Iterable[Entry]
) -> Iterator[tuple[Entry, bytes | EBookletError]]:
    """Fetch and verify the values of `entries`: coalesced ranges, many in parallel.

    Yields each entry once, in no promised order, with its value or with what went wrong.
    """
    sealer = copy.sealer
    placed: list[tuple[Place, Entry]] = []
    for entry in entries:
        place = entry.place
        if place is not None and (
            entry.length > MAX_VALUE_BYTES or place.length != sealer.stored_length(entry.length)
        ):
            # Not asked for: a hostile server could answer without end.
            yield (
                entry,
                RemoteIntegrityError(
                    f"the index claims a value of {place.length} bytes, more than it can have; run fsck",
                    op="read",
                    key=copy.db_key,
                ),
            )
        elif place is not None and entry.length and place.length:
            placed.append((place, entry))
        else:
            yield entry, _verified(entry, entry.inline or b"", sealer)
    if not placed:
        return
    placed.sort(key=itemgetter(0))
    following = iter(placed)  # the plans' pieces are these places, in the same order
    for plan, part, body in copy.reads.read(place for place, _ in placed):
        if isinstance(body, ObjectNotFound):
            with explaining(copy):
                raise body
        pieces = list(islice(following, len(plan.pieces)))
        values = _cut(plan.start, pieces, body, sealer)
        if isinstance(body, bytes) and any(isinstance(v, EBookletError) for v in values):
            values = _cut(plan.start, pieces, read_again(copy.segments, part), sealer)
        for (_, entry), value in zip(pieces, values, strict=True):
            yield entry, value


def values_of(copy: WorkingCopy, entries: Iterable[Entry]) -> dict[str, bytes]:
    """The values of `entries` by key, for who needs all of them at once.

    Raises:
        EBookletError: what went wrong with one.
    """
    values: dict[str, bytes] = {}
    for entry, found in fetch_values(copy, entries):
        if isinstance(found, EBookletError):
            raise found
        values[entry.key] = found
    return values


def _cut(
    start: int,
    pieces: Sequence[tuple[Place, Entry]],
    body: bytes | EBookletError,
    sealer: Sealer,
) -> list[bytes | EBookletError]:
    """The values in the bytes from `start` of a segment, each verified; or why there are none."""
    if isinstance(body, EBookletError):
        return [body] * len(pieces)
    return [
        _opened(entry, body[place.offset - start : place.offset - start + place.length], sealer)
        for place, entry in pieces
    ]


def _opened(entry: Entry, stored: bytes, sealer: Sealer) -> bytes | EBookletError:
    try:
        value = sealer.open(Content.VALUE, stored)
    except EBookletError as exc:
        exc.op, exc.key = "get", entry.key
        return exc
    return _verified(entry, bytes(value), sealer)


def _verified(entry: Entry, value: bytes, sealer: Sealer) -> bytes | EBookletError:
    if len(value) != entry.length or sealer.digest(value) != entry.digest:
        return mismatch(entry.key)
    return value


def mismatch(key: str) -> RemoteIntegrityError:
    """What to say of a value that is not what the index says of it."""
    return RemoteIntegrityError(
        "the stored value does not match its digest; it was not returned", op="get", key=key
    )
