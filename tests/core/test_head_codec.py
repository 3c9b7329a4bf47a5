"""The head: round trips, frames, versions, hostile bytes, size."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.commit import SegmentRow, commit_id, encode_commit
from ebooklet.core.digest import digest32
from ebooklet.core.head import (
    Branch,
    DictionaryRef,
    Head,
    KeyTable,
    Proto,
    Recent,
    Tag,
    decode_head,
    decode_log_row,
    encode_head,
    encode_log_row,
    log_key,
    spill,
)
from ebooklet.core.refs import BlockRef, CommitRef
from ebooklet.errors import EBookletError, RemoteIntegrityError, UnsupportedFormatError
from ebooklet.testing.records import (
    damaged,
    example_block,
    example_commit,
    example_head,
    fixed,
    golden,
    heads,
    recents,
    small_head,
)

GOLDEN = Path(__file__).parent / "golden"

FRAME = struct.Struct(">8sHHIIQ")


def reframe(data: bytes, *, body: bytes | None = None, **changes: int) -> bytes:
    """The frame with other fields, and a checksum that fits them."""
    magic, major, minor, required, optional, _ = FRAME.unpack_from(data)
    values = {"major": major, "minor": minor, "required": required, "optional": optional} | changes
    body = data[FRAME.size : -32] if body is None else body
    framed = FRAME.pack(magic, *values.values(), len(body)) + body
    return framed + digest32(b"ebk-head", framed)


def test_bytes_never_change() -> None:
    """FORMAT 10.1: the stored head decodes to the same fields, and these encode to its bytes.

    Fails without: the person "ebk-head" in the frame's hash.
    """
    data = encode_head(example_head())
    assert golden(GOLDEN / "head.hex", data) == data
    assert decode_head(golden(GOLDEN / "head.hex", data), key="db") == example_head()
    row = encode_log_row(example_head().recent[0])
    assert golden(GOLDEN / "log-row.hex", row) == row


@settings(max_examples=80, deadline=None)
@given(heads())
def test_round_trip(head: Head) -> None:
    """Every field comes back, those of newer versions and all bits included."""
    data = encode_head(head)
    again = decode_head(data, key="db")
    assert again == head
    assert encode_head(again) == data


def test_damage_raises_only_our_errors() -> None:
    """Each changed byte and each cut of a head is refused, and never with a foreign error."""
    for bad in damaged(encode_head(small_head())):
        with pytest.raises((RemoteIntegrityError, UnsupportedFormatError)) as caught:
            decode_head(bad, key="some/db")
        assert caught.value.key == "some/db"


def test_a_damaged_body_under_a_good_checksum_raises_only_our_errors() -> None:
    """A hostile writer's checksum fits; the fields are still checked one by one."""
    data = encode_head(example_head())
    body = data[FRAME.size : -32]
    for bad in damaged(body):
        framed = reframe(data, body=bad)
        try:
            other = decode_head(framed, key="db")
        except EBookletError:
            continue
        assert decode_head(encode_head(other), key="db") == other


@pytest.mark.parametrize(
    "data", [b"<html>", b"EBKHEAD2" + bytes(60), b"\x80\x04pickle", bytes(1 << 20)]
)
def test_a_foreign_object_is_named_as_such(data: bytes) -> None:
    """What is not ours is refused with what to do, under the object's name."""
    with pytest.raises(UnsupportedFormatError, match=r"not an EBooklet database.*choose") as caught:
        decode_head(data, key="data/mydb")
    assert "data/mydb" in str(caught.value)


def test_every_cut_is_damage() -> None:
    """What a failed write left of a head is a damaged head, even nothing of it: a copy may be whole."""
    data = encode_head(small_head())
    for length in range(len(data)):
        with pytest.raises(RemoteIntegrityError):
            decode_head(data[:length], key="db")


def test_a_newer_major_version_is_refused_by_number() -> None:
    """An unknown major version is refused for reading."""
    with pytest.raises(UnsupportedFormatError, match=r"\(2\).*upgrade"):
        decode_head(reframe(encode_head(example_head()), major=2), key="db")


def test_bit_31_forbids_reading() -> None:
    """A feature without which the head would be misread stops the reader."""
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        decode_head(reframe(encode_head(example_head()), required=1 << 31), key="db")


def test_other_unknown_required_bits_forbid_writing_only() -> None:
    """Readers go on; a writer is told what it wanted to do, where, and why it must not."""
    head = decode_head(reframe(encode_head(example_head()), required=4), key="db")
    with pytest.raises(UnsupportedFormatError, match=r"cannot gc: .* read here .*0x4.* upgrade"):
        head.require_writable("gc", "here", "db")
    example_head().require_writable("gc", "here", "db")


def test_dictionaries_forbid_writing_to_who_does_not_know_them() -> None:
    """A writer that left them out would make values unreadable: the required bit 0 says so."""
    plain = example_head()
    head = replace(plain, dictionaries=(DictionaryRef(7, example_block(3)),))
    data = encode_head(head)
    read = decode_head(data, key="db")
    assert read.dictionaries == head.dictionaries
    assert read.required_bits & 1
    assert read.read_only_reason is None
    assert example_block(3).sid in read.held()
    assert not decode_head(encode_head(plain), key="db").required_bits


def test_encryption_forbids_writing_to_who_does_not_know_it() -> None:
    """A writer that does not seal would lay everything open: the required bit 1 says so."""
    table = KeyTable(fixed(16, 1), "2026", fixed(65, 2), (("2025", fixed(16, 3)),))
    data = encode_head(replace(example_head(), encryption=table))
    read = decode_head(data, key="db")
    assert read.encryption == table
    assert read.required_bits == 2
    assert read.read_only_reason is None


@pytest.mark.parametrize("proto", [Proto("quorum"), Proto("cas", "weak")])
def test_an_unknown_commit_mode_forbids_writing_only(proto: Proto) -> None:
    """A client that cannot honour the mode reads, and says why it does not write."""
    head = decode_head(encode_head(replace(example_head(), proto=proto)), key="db")
    assert proto.mode in str(head.read_only_reason)


def test_unknown_fields_survive_byte_exact() -> None:
    """A field of a newer version, floats and nesting included, is written back as it was."""
    raw = b"\xa2\x00\xfb\x40\x09\x21\xfb\x54\x44\x2d\x18aa\x82\xf6\xf7"
    data = encode_head(example_head())
    fields = cbor2.loads(data[FRAME.size : -32])
    body = cbor2.dumps(fields | {77: cbor2.loads(raw)}, canonical=True)
    newer = reframe(data, body=body, minor=9, optional=0xFF)
    head = decode_head(newer, key="db")
    assert head.unknown[77] == raw
    assert encode_head(head) == newer


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, b"short"),
        (1, "table"),
        (2, ["str"]),
        (3, -1),
        (7, [0, 1, 1, 16, b"", "zstd", None]),
        (7, [1, 1, 1, 16, bytes(17), "zstd", None]),
        (8, {}),
        (11, b"\xa0"),
        (13, [1] * 65),
        (15, [0, 0, [[0, [0, 0, 0, 0]]] * 9]),
        (16, [0, b"x" * 65_537, None]),
        (24, [[1, [0, 0, 0, 0]]] * 33),
        (24, [[1 << 32, [0, 0, 0, 0]]]),
        (25, [bytes(16), "a", b"", {"a": bytes(15)}]),
        (25, [bytes(15), "a", b"", {}]),
        (25, [bytes(16), "a", bytes(257), {}]),
        (25, [bytes(16), "a" * 65, b"", {}]),
        (19, bytes(17)),
        (19, bytes(32)),
        (22, "other"),
    ],
)
def test_impossible_fields_are_refused(field: int, value: object) -> None:
    """A head that is well-formed CBOR but says something impossible is refused."""
    data = encode_head(example_head())
    fields = cbor2.loads(data[FRAME.size : -32]) | {field: value}
    with pytest.raises(RemoteIntegrityError, match="damaged"):
        decode_head(reframe(data, body=cbor2.dumps(fields, canonical=True)), key="db")


def test_a_tip_that_is_not_the_branch_is_refused() -> None:
    """The commit record in the head must be the one its default branch names."""
    head = example_head()
    with pytest.raises(EBookletError, match="tip"):
        encode_head(replace(head, tip=replace(head.tip, message="another")))


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": bytes(70_000)},
        {"tags": {"x" * 201: Tag(example_head().branch.commit, 0)}},
        {"seq": -1},
        {"recent": example_head().recent * 33},
        {"write_id": b""},
    ],
)
def test_a_head_that_no_reader_would_accept_is_not_written(change: dict[str, object]) -> None:
    """Limits hold for writers too: a head nobody can read would lose the database."""
    with pytest.raises(EBookletError, match="cannot be written"):
        encode_head(replace(example_head(), **change))  # type: ignore[arg-type]  # wrong on purpose


def crowded_head(n_tags: int, n_segs: int = 256) -> Head:
    """A head as FORMAT §10.18 has it: 20,000 commits, a full recent list, random ids."""
    source = random.Random(1)

    def ref(seq: int) -> CommitRef:
        block = BlockRef(
            source.randbytes(16), source.randrange(1 << 26), 9000, source.getrandbits(32)
        )
        return CommitRef(block, source.randbytes(32), seq)

    segs = tuple(
        SegmentRow(source.randbytes(16), 1 << 26, source.randrange(1 << 26), 1)
        for _ in range(n_segs)
    )
    tip = replace(example_commit(), segs=segs, seq=20_000)
    at = ref(20_000)
    main = CommitRef(at.block, commit_id(encode_commit(tip)), 20_000)
    return replace(
        example_head(),
        seq=20_500,
        tip=tip,
        branches={"main": Branch(main, 19_000, 10, 2_592_000_000)},
        tags={f"v1.{i:03}": Tag(ref(i), 1_760_000_000_000) for i in range(n_tags)},
        recent=tuple(
            Recent(source.randbytes(16), 19_936 + i, 1_760_000_000_000, "main", ref(i))
            for i in range(64)
        ),
        tip_root=source.randbytes(16_000),
    )


def test_a_crowded_head_stays_small() -> None:
    """FORMAT 10.18: 64 recent rows, 256 segments and 500 tags fit into 64 KiB, without the root.

    Fails without: leaving out the copy of the root.
    """
    data = encode_head(crowded_head(500))
    assert len(data) <= 64 * 1024
    assert decode_head(data, key="db").tip_root is None


def test_an_ordinary_head_carries_its_root() -> None:
    """Without hundreds of tags there is room for the root node, and a read saves a request."""
    data = encode_head(crowded_head(0, n_segs=20))
    assert len(data) <= 32 * 1024
    assert decode_head(data, key="db").tip_root is not None


def test_a_head_above_its_limit_is_not_written() -> None:
    """More than 256 KiB is refused, with what to do."""
    with pytest.raises(EBookletError, match="delete tags"):
        encode_head(crowded_head(3000))


def test_held_segments_are_those_of_the_refs_and_of_the_log() -> None:
    """Branches, tags, trash, log, gc batches and hsegs hold segments; rows of recent do not."""
    head = example_head()
    only_recent = CommitRef(example_block(90), fixed(32, 90), 1)
    row = Recent(fixed(16, 91), 1, 0, "main", only_recent)
    head = replace(head, recent=(row, *head.recent), metadata_ref=example_block(92))
    held = head.held()
    assert held == {fixed(16, seed) for seed in (2, 8, 13, 15, 16, 92)}
    assert decode_head(encode_head(head), key="db").held() == held


def test_origins_are_accepted_in_segment_headers() -> None:
    """A copied database accepts its own uuid and those it was copied from."""
    head = example_head()
    assert head.accepted_uuids() == {head.uuid.bytes, fixed(16, 17)}


def test_a_write_is_found_among_the_recent() -> None:
    """The row of a write id comes back; an unknown one gives None."""
    head = example_head()
    assert head.find_write(fixed(16, 12)) == head.recent[0]
    assert head.find_write(bytes(16)) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 200))
def test_spilling_keeps_the_newest_rows(count: int) -> None:
    """Rows are moved 32 at a time from the old end, and none is lost or reordered."""
    ref = example_head().branch.commit
    rows = [Recent(bytes(16), seq, 0, "main", ref) for seq in range(count)]
    kept, moved = spill(rows)
    assert [*moved, *kept] == rows
    assert len(kept) <= 64
    assert len(moved) % 32 == 0
    assert not moved or len(kept) > 32
    for coming in range(1, 3):
        whole = [*rows, *(Recent(bytes(16), count + n, 0, "main", ref) for n in range(coming))]
        stay, gone = spill(rows, coming=coming)
        assert ((*stay, *whole[count:]), gone) == spill(whole)


@settings(max_examples=40, deadline=None)
@given(recents)
def test_log_rows_survive(row: Recent) -> None:
    """A spilled row comes back from the log's tree, and only from under its own key."""
    data = encode_log_row(row)
    assert decode_log_row(data, log_key(row.seq)) == row
    with pytest.raises(RemoteIntegrityError):
        decode_log_row(data, log_key(row.seq + 1))
    with pytest.raises(RemoteIntegrityError):
        decode_log_row(data[:-1])


def test_log_keys_sort_as_numbers_do() -> None:
    """The tree's order is the order of the history."""
    seqs = [0, 1, 9, 10, 255, 256, 10**6, (1 << 63) - 1]
    assert sorted(map(log_key, seqs)) == [log_key(seq) for seq in seqs]


def test_the_frame_is_as_the_format_says() -> None:
    """The stored frame, taken apart with nothing of ours."""
    data = golden(GOLDEN / "head.hex", b"")
    assert data[:8] == b"EBKHEAD1"
    major, minor, required, optional, length = struct.unpack(">HHIIQ", data[8:28])
    assert (major, minor, required, optional) == (1, 1, 0, 2)
    assert len(data) == 28 + length + 32
    assert blake2b(data[:-32], digest_size=32, person=b"ebk-head").digest() == data[-32:]
    fields = cbor2.loads(data[28:-32])
    assert (fields[1], fields[3], fields[22]) == ("database", 9, "main")
    tip = fields[11]
    assert fields[8]["main"][0][4] == blake2b(tip, digest_size=32, person=b"ebk-comm").digest()
