"""Segments: layout, round trips, hostile bytes."""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID
from zlib import crc32

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.refs import BlockRef
from ebooklet.core.segment import (
    HEADER_BYTES,
    RUN_BYTES,
    TRAILER_BYTES,
    BlockType,
    SegmentKind,
    SegmentWriter,
    check_block,
    check_header,
    frame_value,
    join_sids,
    read_footer,
    read_trailer,
    split_sids,
    verify_segment,
)
from ebooklet.errors import RemoteIntegrityError, UnsupportedFormatError
from ebooklet.testing.records import damaged, fixed, golden

GOLDEN = Path(__file__).parent / "golden"

DB = UUID("12345678-1234-5678-1234-567812345678")
SID, WRITE = fixed(16, 1), fixed(16, 2)


def writer(kind: SegmentKind = SegmentKind.MIXED) -> SegmentWriter:
    return SegmentWriter(DB, SID, WRITE, kind)


def small_segment() -> bytes:
    segment = writer()
    segment.add_value(b"first value")
    segment.add_value(b"second")
    segment.add_block(BlockType.NODE, b"a node")
    segment.add_block(BlockType.COMMIT, b"a commit")
    return bytes(segment.finish())


def test_bytes_never_change() -> None:
    """A segment's bytes are the stored ones."""
    assert golden(GOLDEN / "segment.hex", small_segment()) == small_segment()


def test_the_layout_is_as_the_format_says() -> None:
    """The stored segment, taken apart with nothing of ours."""
    data = golden(GOLDEN / "segment.hex", b"")
    assert data[:12] == b"EBKSEGM1" + struct.pack(">HBB", 1, 3, 0)
    assert data[12:64] == DB.bytes + SID + WRITE + bytes(4)
    assert data[64:95] == b"first valueseconda nodea commit"
    offset, length, crc, total, write_id = struct.unpack(">QIIQ16s", data[-40:])
    assert (offset, total, write_id) == (95, len(data), WRITE)
    footer = data[offset : offset + length]
    assert crc == crc32(footer)
    assert cbor2.loads(footer) == [
        [1, 64, 17, crc32(b"first valuesecond")],
        [2, 81, 6, crc32(b"a node")],
        [3, 87, 8, crc32(b"a commit")],
    ]


items = st.lists(
    st.tuples(st.sampled_from((None, BlockType.NODE, BlockType.SIDS)), st.binary(max_size=50)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(items)
def test_everything_added_stands_where_it_was_said_to(
    added: list[tuple[BlockType | None, bytes]],
) -> None:
    """Places and refs point at the bytes; the framing verifies, and covers every byte."""
    segment = writer()
    where: list[tuple[int, bytes]] = []
    for type_, content in added:
        if type_ is None:
            place = segment.add_value(content)
            assert (place.sid, place.length) == (SID, len(content))
            where.append((place.offset, content))
        else:
            ref = segment.add_block(type_, content)
            check_block(content, ref, "k")
            where.append((ref.offset, content))
    size = segment.size
    data = bytes(segment.finish())
    for offset, content in where:
        assert data[offset : offset + len(content)] == content
    runs = verify_segment(data, {DB.bytes}, SID)
    assert sum(run.length for run in runs) == size - HEADER_BYTES


def test_many_values_take_few_runs() -> None:
    """The footer's size follows the megabytes, not the number of values."""
    segment = writer(SegmentKind.VALUES)
    for _ in range(3000):
        segment.add_value(bytes(1000))
    data = bytes(segment.finish())
    runs = verify_segment(data, {DB.bytes}, SID)
    assert len(runs) == -(-3_000_000 // RUN_BYTES)
    assert len(data) < 3_000_000 + 200


@settings(max_examples=40, deadline=None)
@given(items, st.binary(max_size=50))
def test_the_finished_size_is_known_before(
    added: list[tuple[BlockType | None, bytes]], last: bytes
) -> None:
    """A commit record can say how long the segment will be that holds it."""
    segment = writer()
    for type_, content in added:
        if type_ is None:
            segment.add_value(content)
        else:
            segment.add_block(type_, content)
    expected = segment.finished_size(BlockType.COMMIT, last)
    segment.add_block(BlockType.COMMIT, last)
    assert segment.finished_size() == expected == len(segment.finish())


def test_the_kind_may_change_until_the_end() -> None:
    """A segment that turns out to be mixed says so."""
    segment = writer(SegmentKind.VALUES)
    segment.kind = SegmentKind.MIXED
    assert check_header(bytes(segment.finish()), {DB.bytes}, SID).kind == SegmentKind.MIXED


@pytest.mark.parametrize("size", [0, 10, RUN_BYTES, RUN_BYTES + 1])
def test_a_value_can_be_framed_without_copying_it(size: int) -> None:
    """Prefix, value and suffix together are a segment like any other."""
    value = bytes(size)
    before, after = frame_value(DB, SID, WRITE, value)
    assert len(before) == HEADER_BYTES
    segment = writer(SegmentKind.VALUES)
    segment.add_value(value)
    assert before + value + after == segment.finish()


def test_damage_anywhere_is_found() -> None:
    """Each changed byte and each cut of a segment is refused, with an error of ours."""
    for bad in damaged(small_segment()):
        with pytest.raises((RemoteIntegrityError, UnsupportedFormatError)):
            verify_segment(bad, {DB.bytes}, SID)


def test_a_segment_of_another_database_or_name_is_refused() -> None:
    """A header must name the database, or one it was copied from, and its own object."""
    data = small_segment()
    with pytest.raises(RemoteIntegrityError, match="another database"):
        check_header(data, {bytes(16)}, SID)
    with pytest.raises(RemoteIntegrityError, match="another segment"):
        check_header(data, {DB.bytes}, bytes(16))
    assert check_header(data[:64], {bytes(16), DB.bytes}, SID).write_id == WRITE


def test_a_newer_version_is_refused_by_name() -> None:
    """An unknown version or flag says that an upgrade is needed."""
    data = small_segment()
    for newer in (data[:9] + b"\x02" + data[10:], data[:11] + b"\x01" + data[12:]):
        with pytest.raises(UnsupportedFormatError, match="upgrade"):
            check_header(newer, {DB.bytes}, SID)


def with_footer(rows: list[object]) -> bytes:
    body = small_segment()[:95]
    footer = cbor2.dumps(rows, canonical=True)
    total = len(body) + len(footer) + TRAILER_BYTES
    return body + footer + struct.pack(">QIIQ16s", 95, len(footer), crc32(footer), total, WRITE)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[1, 64, 30, 0]],
        [[1, 65, 30, 0]],
        [[1, 64, 1 << 50, 0]],
        [[1, 64, 31]],
        [[1, 64, -31, 0]],
        [[1, 64, 20, 0], [1, 70, 25, 0]],
        ["x"],
    ],
)
def test_a_footer_that_lies_is_refused(rows: list[object]) -> None:
    """Runs that overlap, leave gaps or reach outside are refused before they are followed."""
    data = with_footer(rows)
    with pytest.raises(RemoteIntegrityError):
        verify_segment(data, {DB.bytes}, SID)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=TRAILER_BYTES, max_size=TRAILER_BYTES), st.integers(0, 1 << 40))
def test_a_random_trailer_never_leads_outside(tail: bytes, total: int) -> None:
    """A trailer is refused, or names a footer that lies inside the object."""
    try:
        trailer = read_trailer(tail, total)
    except RemoteIntegrityError:
        return
    assert trailer.footer_offset + trailer.footer_length <= total


def test_a_footer_must_be_the_one_the_trailer_names() -> None:
    """The footer's checksum is checked before it is decoded."""
    data = small_segment()
    trailer = read_trailer(data[-TRAILER_BYTES:], len(data))
    footer = data[trailer.footer_offset : -TRAILER_BYTES]
    assert len(read_footer(footer, trailer)) == 3
    for bad in damaged(footer):
        with pytest.raises(RemoteIntegrityError):
            read_footer(bad, trailer)


def test_a_block_must_match_its_ref() -> None:
    """A short, long or changed answer names the object and the offset."""
    ref = BlockRef(SID, 100, 5, crc32(b"block"))
    check_block(b"block", ref, "db.d/x")
    check_block(memoryview(b"block"), ref, "db.d/x")
    for bad in (b"bloc", b"blocks", b"clock", b""):
        with pytest.raises(RemoteIntegrityError, match="100") as caught:
            check_block(bad, ref, "db.d/x")
        assert caught.value.key == "db.d/x"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(min_size=16, max_size=16), max_size=8))
def test_sid_lists_survive_sorted(sids: list[bytes]) -> None:
    """A list of segment ids comes back sorted, each once."""
    assert split_sids(join_sids(sids)) == tuple(sorted(set(sids)))


@pytest.mark.parametrize("data", [b"x", bytes(32), b"\x01" * 16 + bytes(16)])
def test_a_malformed_sid_list_is_refused(data: bytes) -> None:
    """Ids cut short, repeated or out of order are refused: gc deletes by this list."""
    with pytest.raises(RemoteIntegrityError):
        split_sids(data)
