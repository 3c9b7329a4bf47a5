"""A bucket of nodes in memory that counts what is asked of it, and entries to put in."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from zlib import crc32

from hypothesis import strategies as st

from ebooklet.core.entry import Entry, Place
from ebooklet.core.index.build import build
from ebooklet.core.index.codec import decode_node
from ebooklet.core.index.lookup import scan
from ebooklet.core.index.need import drive, drive_scan
from ebooklet.core.index.node import InnerNode, Node
from ebooklet.core.index.update import Update, update
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef

SMALL = TreeParams(leaf_target=160, inner_target=320, salt=b"small")
"""Targets that make a tree of a hundred keys several levels high."""

VALUE_SID = b"v" * 16


class Bucket:
    """Places nodes back to back in one segment, and counts rounds and reads."""

    def __init__(self, params: TreeParams) -> None:
        self.params = params
        self.stored: dict[BlockRef, bytes] = {}
        self.rounds: list[int] = []  # nodes asked for in each
        self._end = 64

    def place(self, data: bytes) -> BlockRef:
        """Store a node behind the last one."""
        block = BlockRef(b"n" * 16, self._end, len(data), crc32(data))
        self._end += len(data)
        self.stored[block] = data
        return block

    def fetch(self, refs: tuple[NodeRef, ...]) -> Mapping[NodeRef, Node]:
        """Answer a need, and note how many nodes it wanted."""
        assert refs, "a need asks for at least one node"
        assert len(set(refs)) == len(refs), "a need repeats no node"
        self.rounds.append(len(refs))
        return {ref: decode_node(self.stored[ref.block], ref, self.params) for ref in refs}

    @property
    def reads(self) -> int:
        """Nodes asked for in all rounds."""
        return sum(self.rounds)

    def build(self, entries: Iterable[Entry]) -> NodeRef | None:
        """Build a tree of sorted entries."""
        return build(entries, self.params, self.place)

    def update(
        self, root: NodeRef | None, edits: Mapping[str, Entry | None] | Iterable[Entry]
    ) -> Update:
        """Apply edits, in any order, to a tree."""
        pairs = edits if isinstance(edits, Mapping) else {e.key: e for e in edits}
        return drive(update(root, sorted(pairs.items()), self.params, self.place), self.fetch)

    def entries(self, root: NodeRef | None) -> list[Entry]:
        """Every entry of a tree."""
        return [entry for piece in drive_scan(scan(root), self.fetch) for entry in piece]

    def nodes(self, root: NodeRef | None) -> dict[NodeRef, Node]:
        """Every node of a tree."""
        if root is None:
            return {}
        node = decode_node(self.stored[root.block], root, self.params)
        found = {root: node}
        if isinstance(node, InnerNode):
            for child in node.children():
                found |= self.nodes(child)
        return found


def entry(key: str, value: object = 0, *, timestamp: int = 1_700_000_000_000_000) -> Entry:
    """An entry whose digest follows from key and value."""
    digest = blake2b(f"{key}={value}".encode(errors="surrogatepass"), digest_size=16).digest()
    return Entry(key, 1000, digest, timestamp, None, Place(VALUE_SID, 64, 1000))


def numbered(n: int, rng: random.Random) -> list[Entry]:
    """N entries as a push of n values of about 1 KB would make them."""
    entries = []
    offset = 64
    for i in range(n):
        size = 900 + rng.randrange(250)
        digest = rng.randbytes(16)
        stamp = 1_700_000_000_000_000 + 13 * i + rng.randrange(10)
        place = Place(VALUE_SID, offset, size)
        entries.append(Entry(f"key/{i:08d}", size, digest, stamp, None, place))
        offset += size
    return entries


keys = st.one_of(
    st.integers(0, 400).map("{:03d}".format),
    st.text(alphabet="aé\U0001f600\uffff\ud7ff\ue000\0", max_size=4),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
places = st.builds(
    Place,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**40),
    st.integers(0, 2**33),
)
digests = st.integers(0, 2).map(lambda i: bytes([i]) * 16)  # few, so that values recur
timestamps = st.integers(0, 2**53)


@st.composite
def entries_of(draw: st.DrawFn, key: str) -> Entry:
    """Any entry of a key, inline or placed."""
    inline = draw(st.one_of(st.none(), st.binary(max_size=64)))
    place = draw(places) if inline is None else None
    return Entry(key, draw(st.integers(0, 2**40)), draw(digests), draw(timestamps), inline, place)


@st.composite
def contents(draw: st.DrawFn, max_size: int = 120) -> dict[str, Entry]:
    """What a database may hold."""
    wanted = draw(st.sets(keys, max_size=max_size))
    template = draw(st.lists(entries_of(""), min_size=1, max_size=4))
    rng = draw(st.randoms(use_true_random=False))
    return {key: rng.choice(template)._replace(key=key) for key in wanted}


@st.composite
def edits_of(draw: st.DrawFn, content: Mapping[str, Entry]) -> dict[str, Entry | None]:
    """Edits that hit keys there are and keys there are not."""
    rng = draw(st.randoms(use_true_random=False))
    share = draw(st.sampled_from([0.02, 0.2, 0.7, 1.0]))
    deletes = draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    fresh = draw(contents(max_size=60))
    edits: dict[str, Entry | None] = {}
    for key in sorted(content.keys() | fresh.keys()):
        if rng.random() < share:
            edits[key] = None if rng.random() < deletes else fresh.get(key, entry(key, "new"))
    return edits


def edited(content: Mapping[str, Entry], edits: Mapping[str, Entry | None]) -> dict[str, Entry]:
    """The oracle of `update`."""
    merged = {**content, **edits}
    return {key: value for key, value in merged.items() if value is not None}


def in_order(content: Mapping[str, Entry]) -> list[Entry]:
    """The entries of a content as the index holds them."""
    return [content[key] for key in sorted(content)]
