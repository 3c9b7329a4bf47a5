"""Bytes of nodes: what goes in comes out, and hostile bytes never do."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from typing import TypeAlias
from zlib import crc32

import pytest
import zstandard
from hypothesis import given, settings

from ebooklet.core.entry import Entry, Place
from ebooklet.core.index.codec import decode_node, encode_inner, encode_leaf
from ebooklet.core.index.limits import check_params, max_node_bytes
from ebooklet.core.index.node import InnerNode, LeafNode
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef
from ebooklet.errors import InvalidKeyError, RemoteIntegrityError, UnsupportedFormatError
from ebooklet.testing.trees import SMALL, Bucket, contents, entry, in_order, numbered

WIDE = TreeParams(leaf_target=1 << 16)


def ref_of(data: bytes, digest: bytes, count: int, level: int = 0) -> NodeRef:
    return NodeRef(BlockRef(b"s" * 16, 64, len(data), crc32(data)), digest, count, level)


def resealed(data: bytes, ref: NodeRef) -> NodeRef:
    """The ref a hostile parent would give: right length and crc, the old digest."""
    return ref._replace(block=ref.block._replace(length=len(data), crc=crc32(data)))


@given(contents(max_size=60).filter(bool))
@settings(max_examples=60, deadline=None)
def test_leaf_round_trip(content: dict[str, Entry]) -> None:
    """Every entry of a leaf comes back as it went in, by position, by key and by slice."""
    entries = in_order(content)
    data, digest = encode_leaf(entries, WIDE)
    node = decode_node(data, ref_of(data, digest, len(entries)), WIDE)
    assert isinstance(node, LeafNode)
    assert node.items() == entries
    assert [node.entry(i) for i in range(len(node))] == entries
    assert [node.find(e.key) for e in entries] == entries
    assert node.slice(1, len(entries) - 1) == entries[1:-1]
    assert node.find("no such key, surely") is None


def test_leaf_digest_leaves_place_and_timestamp_out() -> None:
    """Moving a value or touching its timestamp keeps the digest; another value does not."""
    one = [entry("a"), entry("b")]
    moved = [entry("a")._replace(place=Place(b"z" * 16, 1, 2)), entry("b", timestamp=5)]
    inlined = [entry("a")._replace(place=None, inline=b"x"), entry("b")]
    other = [entry("a"), entry("b", 1)]
    digest = encode_leaf(one, SMALL)[1]
    assert encode_leaf(moved, SMALL)[1] == digest
    assert encode_leaf(inlined, SMALL)[1] == digest
    assert encode_leaf(other, SMALL)[1] != digest


def test_digest_tells_where_one_key_ends() -> None:
    """Contents whose keys concatenate to the same bytes have different digests."""
    value = b"d" * 16
    place = Place(b"s" * 16, 0, 1)
    ab = [Entry("a", 1, value, 0, None, place), Entry("bc", 1, value, 0, None, place)]
    bc = [Entry("ab", 1, value, 0, None, place), Entry("c", 1, value, 0, None, place)]
    assert encode_leaf(ab, SMALL)[1] != encode_leaf(bc, SMALL)[1]


def inner_sample() -> tuple[list[tuple[str, NodeRef]], bytes, NodeRef]:
    children = [
        (key, NodeRef(BlockRef(bytes([i]) * 16, 7000 - i * 900, 100 + i, i), bytes([i]) * 32, 9, 2))
        for i, key in enumerate(["", "é", "日本", "\U0001f600"])
    ]
    data, digest = encode_inner(children, 3, SMALL)
    return children, data, ref_of(data, digest, 36, 3)


def test_inner_round_trip() -> None:
    """Children come back with their last keys, offsets that run backwards included."""
    children, data, ref = inner_sample()
    node = decode_node(data, ref, SMALL)
    assert isinstance(node, InnerNode)
    assert node.items() == children
    assert [node.find(key) for key, _ in children] == [0, 1, 2, 3]
    assert node.find("aa") == 1
    assert node.find("\U0001f601") is None


def leaf_sample() -> tuple[bytes, NodeRef]:
    entries = [entry("a"), entry("bé"), entry("c")._replace(place=None, inline=b"tiny")]
    data, digest = encode_leaf(entries, SMALL)
    return data, ref_of(data, digest, 3)


Sample: TypeAlias = Callable[[], tuple[bytes, NodeRef]]


@pytest.mark.parametrize("sample", [leaf_sample, lambda: inner_sample()[1:]])
def test_every_flipped_bit_is_noticed(sample: Sample) -> None:
    """Storage damage anywhere in a node is refused by its checksum."""
    data, ref = sample()
    for at in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            with pytest.raises(RemoteIntegrityError):
                decode_node(bytes(broken), ref, SMALL)


@pytest.mark.parametrize("sample", [leaf_sample, lambda: inner_sample()[1:]])
def test_hostile_bytes_under_a_right_checksum(sample: Sample) -> None:
    """Changed bytes that carry a right checksum raise the one typed error, or keep the content."""
    data, ref = sample()
    node = decode_node(data, ref, SMALL)
    for at in range(len(data)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, data[at] ^ 1):
            broken = data[:at] + bytes([value]) + data[at + 1 :]
            try:
                again = decode_node(broken, resealed(broken, ref), SMALL)
            except RemoteIntegrityError:
                continue
            assert again.digests == node.digests
            assert len(again) == len(node)
            if isinstance(node, LeafNode):  # the digest covers its keys
                assert again.keys == node.keys


@pytest.mark.parametrize("sample", [leaf_sample, lambda: inner_sample()[1:]])
def test_truncated_and_padded_nodes(sample: Sample) -> None:
    """A node cut short or grown at any byte is refused, whatever its checksum says."""
    data, ref = sample()
    for size in range(len(data)):
        with pytest.raises(RemoteIntegrityError):
            decode_node(data[:size], resealed(data[:size], ref), SMALL)
    for extra in (b"\0", b"x" * 16, data):
        with pytest.raises(RemoteIntegrityError):
            decode_node(data + extra, resealed(data + extra, ref), SMALL)


def with_columns(columns: bytes, n: int = 1, level: int = 0) -> bytes:
    frame = zstandard.ZstdCompressor(write_content_size=True).compress(columns)
    header = struct.pack(">BBHHI", 1, level, 0, 1, n) + b"s" * 16
    return header + frame + bytes(n * (16 if level == 0 else 32))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    """A few bytes that would decompress to gigabytes are refused by the size they state."""
    bomb = with_columns(bytes(1 << 26))
    assert len(bomb) < 8192
    with pytest.raises(RemoteIntegrityError, match="more than the"):
        decode_node(bomb, ref_of(bomb, b"?" * 32, 1), SMALL)


def test_a_frame_without_its_size_is_refused() -> None:
    """A frame that hides its size is not unpacked to find out."""
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc")
    data = struct.pack(">BBHHI", 1, 0, 0, 1, 1) + b"s" * 16 + frame + bytes(16)
    with pytest.raises(RemoteIntegrityError):
        decode_node(data, ref_of(data, b"?" * 32, 1), SMALL)


def test_a_leaf_of_another_level_or_count_is_refused() -> None:
    """A node is only taken for what its parent says it is."""
    data, ref = leaf_sample()
    for wrong in (ref._replace(level=1), ref._replace(count=4), ref._replace(digest=b"0" * 32)):
        with pytest.raises(RemoteIntegrityError):
            decode_node(data, wrong, SMALL)


def test_keys_out_of_order_are_refused() -> None:
    """A leaf with unsorted or repeated keys, rightly digested, is refused all the same."""
    for keys in (["b", "a"], ["a", "a"]):
        data, digest = encode_leaf([entry(key) for key in keys], SMALL)
        with pytest.raises(RemoteIntegrityError, match="order"):
            decode_node(data, ref_of(data, digest, 2), SMALL)


def test_a_child_larger_than_any_node_is_refused() -> None:
    """A size from the bucket is bounded before anybody reads that many bytes."""
    huge = max_node_bytes(SMALL) + 1
    child = NodeRef(BlockRef(b"s" * 16, 0, huge, 0), b"d" * 32, 5, 0)
    data, digest = encode_inner([("a", child), ("b", child)], 1, SMALL)
    with pytest.raises(RemoteIntegrityError, match="larger"):
        decode_node(data, ref_of(data, digest, 10, 1), SMALL)


def test_keys_the_format_cannot_hold() -> None:
    """A lone surrogate or a key of 65,536 bytes is the caller's error, by its own class."""
    for key in ("\ud800", "x" * 65_536):
        with pytest.raises(InvalidKeyError):
            encode_leaf([entry(key)], SMALL)


@pytest.mark.parametrize(
    "params",
    [
        TreeParams(leaf_target=0),
        TreeParams(leaf_target=1 << 40),
        TreeParams(inner_target=-1),
        TreeParams(inline_max=1 << 30),
        TreeParams(value_digest_bytes=0),
        TreeParams(salt=b"x" * 17),
        TreeParams(codec="rot13"),
        TreeParams(encryption="later"),
    ],
    ids=repr,
)
def test_parameters_out_of_range(params: TreeParams) -> None:
    """Parameters from a head that would divide by zero or swallow memory are refused by name."""
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        check_params(params)


def test_bytes_per_entry() -> None:
    """The index of 1 KB values costs at most 30 bytes a key (DESIGN §1), inner nodes included."""
    import random

    bucket = Bucket(TreeParams())
    bucket.build(numbered(20_000, random.Random(7)))
    assert sum(map(len, bucket.stored.values())) <= 26 * 20_000


def test_columns_are_little_endian() -> None:
    """The stored columns do not depend on the machine's byte order."""
    data, _ = encode_leaf([entry("k")._replace(length=0x0102)], SMALL)
    columns = zstandard.ZstdDecompressor().decompress(data[10 + 16 : -16])
    assert columns[:10] == struct.pack("<HQ", 1, 0x0102)
    assert array("H", [1]).itemsize == 2
