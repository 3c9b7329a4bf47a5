"""Segments that pass by in pieces, against what is said of them."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.audit import Expectations, SegmentAudit
from ebooklet.core.digest import value_digest
from ebooklet.core.entry import Place
from ebooklet.core.refs import BlockRef
from ebooklet.core.segment import BlockType, SegmentKind, SegmentWriter, verify_segment
from ebooklet.testing.records import fixed

DB, SID = UUID(int=7), fixed(16, 1)


def segment(values: list[bytes]) -> tuple[bytes, Expectations]:
    writer = SegmentWriter(DB, SID, fixed(16, 2), SegmentKind.MIXED)
    expected = Expectations()
    for value in values:
        expected.value(writer.add_value(value), value_digest(value))
    expected.block(writer.add_block(BlockType.NODE, b"a node"))
    return bytes(writer.finish()), expected


def audited(data: bytes, expected: Expectations, cuts: list[int], sound: bytes) -> list[str]:
    runs = verify_segment(sound, {DB.bytes}, SID)
    audit = SegmentAudit(runs, expected.values(SID), expected.blocks(SID))
    at = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        audit.feed(data[at:cut])
        at = cut
    return audit.problems()


bodies = st.lists(st.binary(max_size=40), max_size=8)
cuts = st.lists(st.integers(0, 1000), max_size=6)


@settings(max_examples=100, deadline=None)
@given(bodies, cuts)
def test_a_sound_segment_has_no_problems(values: list[bytes], cuts: list[int]) -> None:
    """However it is cut into pieces, and however often a value is expected."""
    data, expected = segment(values)
    again, twice = segment(values)
    assert again == data
    for offset, length, digest in twice.values(SID):
        expected.value(Place(SID, offset, length), digest)
    assert audited(data, expected, cuts, data) == []


@settings(max_examples=150, deadline=None)
@given(bodies, cuts, st.integers(0, 1000))
def test_any_flipped_bit_of_the_contents_is_a_problem(
    values: list[bytes], cuts: list[int], at: int
) -> None:
    """By the run's checksum, and by the digest of the value it hit."""
    sound, expected = segment(values)
    runs = verify_segment(sound, {DB.bytes}, SID)
    end = runs[-1].offset + runs[-1].length
    at = 64 + at % (end - 64)
    data = bytearray(sound)
    data[at] ^= 4
    problems = audited(bytes(data), expected, cuts, sound)
    hit = [offset for offset, length, _ in expected.values(SID) if offset <= at < offset + length]
    assert len(problems) == 1 + len(hit)
    assert sorted(problems) == sorted(audited(bytes(data), expected, [], sound))


def test_what_the_index_says_and_the_segment_does_not_hold() -> None:
    """Another digest, a place beyond the end, a block that does not begin there."""
    data, expected = segment([b"value one", b"value two"])
    expected.value(Place(SID, 64, 9), value_digest(b"value two"))
    expected.value(Place(SID, 70, 10_000), value_digest(b"long"))
    expected.value(Place(SID, 99_999, 3), value_digest(b"far"))
    expected.block(BlockRef(SID, 64, 9, 0))
    assert audited(data, expected, [70, 71], data) == [
        "no block of 9 bytes with that checksum begins at 64",
        "the value at 64 does not match its digest",
        "the value at 70 does not match its digest",
        "the value at 99999 does not match its digest",
    ]


def test_many_problems_are_counted() -> None:
    """A report stays short, whatever a hostile index says."""
    data, expected = segment([b"value"])
    for offset in range(100):
        expected.value(Place(SID, offset, 1), bytes(16))
    problems = audited(data, expected, [], data)
    assert len(problems) == 9
    assert problems[-1] == "and 92 more"


def test_nothing_is_expected_of_other_segments() -> None:
    """Expectations are kept by segment."""
    _, expected = segment([b"value"])
    assert expected.values(fixed(16, 9)) == []
    assert expected.blocks(fixed(16, 9)) == set()
