"""Stored bytes, digests and cuts of format version 1: what is in buckets stays readable.

Compressed bytes may differ between versions of zstd, so nodes are pinned by decoding what was
stored once, never by encoding anew.
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest

from ebooklet.core.entry import Entry, Place
from ebooklet.core.index.codec import EMPTY_DIGEST, decode_node, encode_inner, encode_leaf
from ebooklet.core.index.cut import Cutter
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.index.node import Child, InnerNode, LeafNode
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef
from ebooklet.testing.records import golden
from ebooklet.testing.trees import Bucket, entry

GOLDEN = Path(__file__).parent / "golden"
PARAMS = TreeParams(salt=bytes(range(16)))
SID_A, SID_B = b"A" * 16, b"B" * 16
ENTRIES = [
    Entry("", 0, bytes(16), 0, b"", None),
    Entry("a", 1000, b"\x01" * 16, 1_700_000_000_000_000, None, Place(SID_A, 64, 1000)),
    Entry("b/é", 2000, b"\x02" * 16, 1_700_000_000_000_001, None, Place(SID_A, 1064, 900)),
    Entry("c\U0001f600", 5, b"\x03" * 16, 1_700_000_000_000_002, b"tiny!", None),
    Entry("d", 2**40, b"\x04" * 16, 2**52, None, Place(SID_B, 64, 2**40)),
]
CHILDREN = [
    Child("key-1", NodeRef(BlockRef(SID_A, 64, 3000, 0xDEADBEEF), b"\x11" * 32, 150, 0)),
    Child("key-2", NodeRef(BlockRef(SID_B, 9064, 2900, 1), b"\x22" * 32, 140, 0)),
    Child("key-3", NodeRef(BlockRef(SID_A, 3064, 2800, 2), b"\x33" * 32, 130, 0)),
]
LEAF_DIGEST = "dfc14e29df0e7f7a2736611a34905e837c29e6c1bcae1c9046fa2327481fb52a"
INNER_DIGEST = "399c596eb9591d6e806555d83091099ba06a9fec1cbdab106ed4f6b048f84d57"


def test_stored_leaf() -> None:
    """A leaf written by the first version reads as the entries it was written from."""
    data, digest = encode_leaf(ENTRIES, PARAMS)
    assert digest.hex() == LEAF_DIGEST
    stored = golden(GOLDEN / "leaf.hex", data)
    ref = NodeRef(BlockRef(SID_A, 0, len(stored), crc32(stored)), digest, len(ENTRIES), 0)
    node = decode_node(stored, ref, PARAMS)
    assert isinstance(node, LeafNode)
    assert node.items() == ENTRIES


def test_stored_inner_node() -> None:
    """An inner node written by the first version reads as the children it was written from."""
    data, digest = encode_inner(CHILDREN, 1, PARAMS)
    assert digest.hex() == INNER_DIGEST
    stored = golden(GOLDEN / "inner.hex", data)
    ref = NodeRef(BlockRef(SID_A, 0, len(stored), crc32(stored)), digest, 420, 1)
    node = decode_node(stored, ref, PARAMS)
    assert isinstance(node, InnerNode)
    assert node.items() == CHILDREN


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0, [193, 371, 593, 685, 771, 1002, 1235, 1412, 1550, 1750, 1797, 1922]),
        (1, [363, 785, 1137, 1313, 1672, 1985]),
        (2, [370, 482, 756, 1265, 1429, 1599, 1888]),
    ],
)
def test_cuts(level: int, expected: list[int]) -> None:
    """FORMAT 10.1: the same keys are cut at the same places for ever, on every level and machine.

    Fails without: the 3 in the rule from T/4 on; starting the sum anew at a cut.
    """
    keys = [f"path/{i:06d}" for i in range(2000)]
    assert Cutter(level, PARAMS).cut(keys) == expected


def test_root_and_fingerprint() -> None:
    """FORMAT 10.1: a tree of three levels has this digest and print, and the empty tree these.

    Fails without: the person "ebk-fp" in what is hashed.
    """
    params = TreeParams(leaf_target=256, inner_target=512, salt=bytes(range(16)))
    root = Bucket(params).build([entry(f"{i:04d}", i) for i in range(400)])
    assert root is not None
    assert (root.level, root.count) == (2, 400)
    assert root.digest.hex() == "141a6813b2c7edee1f131435261dadfea6cc0a39f06cbc42251fc4db0d388858"
    assert (
        fingerprint(params, root).hex()
        == "9542aeef80d2f0dd87e5ca0b0f0c164d0468af7aa036675b5c0cc05e86462761"
    )
    assert EMPTY_DIGEST.hex() == "25467775d2e37e3fa35f98fc6498d0cef03a2dfc010e99e1b3d0782b0ec5126d"
    assert (
        fingerprint(params, None).hex()
        == "ddd6f79362fc1b466224f12df91af817e3c200a5bbd3ff82efdbd783162744be"
    )


def test_the_fingerprint_follows_what_shapes_the_tree_and_nothing_else() -> None:
    """Other targets or another salt give another print; codec and inline limit do not."""
    assert fingerprint(PARAMS, None) != fingerprint(TreeParams(), None)
    assert fingerprint(TreeParams(leaf_target=1000), None) != fingerprint(TreeParams(), None)
    assert fingerprint(TreeParams(salt=b"a"), None) != fingerprint(TreeParams(salt=b"a\0"), None)
    assert fingerprint(TreeParams(inline_max=9), None) == fingerprint(TreeParams(), None)
