"""Heads, commits and refs for tests: Hypothesis strategies, fixed examples, and damage.

For whoever tests code that meets the format: each strategy covers all that a reader accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from hypothesis import strategies as st

from ebooklet.core.commit import Commit, SegmentRow, commit_id, encode_commit
from ebooklet.core.head import (
    Branch,
    DictionaryRef,
    Gc,
    Head,
    KeyTable,
    PendingBatch,
    Proto,
    Recent,
    Tag,
    Trash,
)
from ebooklet.core.headtypes import DICTIONARIES_BIT, ENCRYPTION_BIT
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, CommitRef, NodeRef
from ebooklet.core.timestamps import MAX_TIMESTAMP

U63 = (1 << 63) - 1
MS = st.integers(0, (1 << 48) - 1)
counts = st.integers(0, U63)


def ids(size: int) -> st.SearchStrategy[bytes]:
    """Byte strings of one size."""
    return st.binary(min_size=size, max_size=size)


def texts(limit: int) -> st.SearchStrategy[str]:
    """Strings of at most `limit` bytes of UTF-8."""
    return st.text(max_size=limit // 4)


blocks = st.builds(
    BlockRef,
    ids(16),
    st.integers(0, (1 << 48) - 1),
    st.integers(0, 1 << 26),
    st.integers(0, (1 << 32) - 1),
)
nodes = st.builds(NodeRef, blocks, ids(32), counts, st.integers(0, 32))
commit_refs = st.builds(CommitRef, blocks, ids(32), counts)
unknown_fields = st.dictionaries(
    st.integers(100, 1 << 32),
    st.just(b"\x82\x01\xf5") | st.just(b"\xa1aa\xfb?\xf3\x33\x33\x33\x33\x33\x33"),
    max_size=2,
).map(lambda d: {k: v for k, v in d.items() if k < 1 << 32})


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    """Any commit record."""
    root = draw(st.none() | nodes)
    segs = draw(
        st.lists(
            st.builds(SegmentRow, ids(16), MS, counts, st.integers(0, 255)),
            max_size=4,
            unique_by=lambda row: row.sid,
        )
    )
    return Commit(
        seq=draw(counts),
        parents=tuple(draw(st.lists(ids(32), max_size=2))),
        ms=draw(MS),
        author=draw(texts(256)),
        message=draw(texts(400)),
        root=root,
        count=0 if root is None else root.count,
        value_bytes=draw(counts),
        segs=tuple(segs),
        fingerprint=draw(ids(32)),
        op=draw(texts(32)),
        write_id=draw(ids(16)),
        notes=draw(st.none() | st.binary(max_size=40)),
        key_ids=tuple(draw(st.lists(texts(64), max_size=2))),
        branch=draw(texts(100)),
        unknown=draw(unknown_fields),
    )


names = texts(200)
recents = st.builds(Recent, ids(16), counts, MS, names, commit_refs)
dictionary_refs = st.builds(DictionaryRef, st.integers(0, (1 << 32) - 1), blocks)


key_tables = st.builds(
    KeyTable,
    ids(16),
    texts(64),
    st.binary(max_size=100),
    st.dictionaries(texts(64), ids(16), max_size=3).map(lambda table: tuple(sorted(table.items()))),
)


@st.composite
def heads(draw: st.DrawFn) -> Head:
    """Any head, with unknown fields and bits of newer versions."""
    tip = draw(commits())
    place = draw(blocks)
    default = draw(names)
    main = Branch(
        CommitRef(place, commit_id(encode_commit(tip)), tip.seq),
        draw(counts),
        draw(counts),
        draw(counts),
    )
    others = draw(
        st.dictionaries(names, st.builds(Branch, commit_refs, counts, counts, counts), max_size=2)
    )
    dictionaries = draw(st.lists(dictionary_refs, max_size=2))
    encryption = draw(st.none() | key_tables)
    return Head(
        uuid=UUID(bytes=draw(ids(16))),
        type=draw(st.sampled_from(("database", "group"))),
        key_serializer=draw(names),
        value_serializer=draw(names),
        seq=draw(counts),
        write_id=draw(ids(16)),
        fence=draw(counts),
        proto=Proto(draw(names), draw(names), draw(MS), draw(names)),
        params=TreeParams(
            draw(st.integers(1, 1 << 24)),
            draw(st.integers(1, 1 << 24)),
            draw(st.integers(0, 1 << 24)),
            draw(st.integers(1, 64)),
            draw(st.binary(max_size=16)),
            draw(names),
            draw(st.none() | names),
        ),
        branches=others | {default: main},
        tip=tip,
        ms=draw(MS),
        version=draw(names),
        default_branch=default,
        tags=draw(st.dictionaries(names, st.builds(Tag, commit_refs, MS, texts(400)), max_size=3)),
        trash=tuple(draw(st.lists(st.builds(Trash, names, commit_refs, MS), max_size=2))),
        tip_root=draw(st.none() | st.binary(max_size=64)),
        recent=tuple(draw(st.lists(recents, max_size=3))),
        log=draw(st.none() | nodes),
        gc=Gc(
            draw(counts),
            draw(MS),
            tuple(draw(st.lists(st.builds(PendingBatch, MS, blocks), max_size=2))),
        ),
        metadata=draw(st.none() | st.binary(max_size=40)),
        metadata_ref=draw(st.none() | blocks),
        metadata_timestamp=draw(st.none() | st.integers(0, MAX_TIMESTAMP)),
        hsegs=tuple(sorted(draw(st.sets(ids(16), max_size=3)))),
        origins=tuple(sorted(draw(st.sets(ids(16), max_size=2)))),
        name=draw(st.none() | texts(900)),
        dictionaries=tuple(dictionaries),
        encryption=encryption,
        unknown=draw(unknown_fields),
        minor=draw(st.integers(0, 65535)),
        required_bits=draw(st.integers(0, (1 << 31) - 1))
        | (DICTIONARIES_BIT if dictionaries else 0)
        | (ENCRYPTION_BIT if encryption is not None else 0),
        optional_bits=draw(st.integers(0, (1 << 32) - 1)),
    )


def fixed(size: int, seed: int) -> bytes:
    """Bytes that look random and are the same for ever."""
    return bytes((seed * 37 + i * 101 + i * i) & 255 for i in range(size))


def example_block(seed: int) -> BlockRef:
    """A block ref that is the same for ever."""
    return BlockRef(fixed(16, seed), 64 + seed * 1000, 300 + seed, 0xDEADBEEF ^ seed)


def example_commit() -> Commit:
    """A commit in which every field is set."""
    return Commit(
        seq=7,
        parents=(fixed(32, 1),),
        ms=1_760_000_000_123,
        author="alice@host",
        message="première version",
        root=NodeRef(example_block(2), fixed(32, 3), 1234, 1),
        count=1234,
        value_bytes=987_654,
        segs=(SegmentRow(fixed(16, 2), 70_000, 69_000, 3), SegmentRow(fixed(16, 4), 1 << 26, 5, 1)),
        fingerprint=fixed(32, 5),
        op="push",
        write_id=fixed(16, 6),
    )


def example_head() -> Head:
    """A head in which every field is set."""
    tip = example_commit()
    main = CommitRef(example_block(2), commit_id(encode_commit(tip)), tip.seq)
    old = CommitRef(example_block(8), fixed(32, 9), 3)
    return Head(
        uuid=UUID("12345678-1234-5678-1234-567812345678"),
        type="database",
        key_serializer="str",
        value_serializer="orjson",
        seq=9,
        write_id=fixed(16, 6),
        fence=4,
        proto=Proto("cas", "quoted", 1_750_000_000_000, "MinIO"),
        params=TreeParams(salt=fixed(16, 10)),
        branches={"main": Branch(main, 2, 10, 2_592_000_000), "dev": Branch(old, 1, 10, 0)},
        tip=tip,
        ms=1_760_000_000_456,
        version="1.0.0",
        tags={"v1": Tag(old, 1_755_000_000_000, "first")},
        trash=(Trash("gone", old, 1_756_000_000_000),),
        tip_root=fixed(40, 11),
        recent=(
            Recent(fixed(16, 12), 3, 1_755_000_000_000, "dev", old),
            Recent(fixed(16, 6), 7, tip.ms, "main", main),
        ),
        log=NodeRef(example_block(13), fixed(32, 14), 32, 0),
        gc=Gc(2, 1_749_000_000_000, (PendingBatch(1_751_000_000_000, example_block(15)),)),
        metadata=b'{"a":1}',
        metadata_ref=None,
        metadata_timestamp=1_760_000_000_000_000,
        hsegs=(fixed(16, 16),),
        origins=(fixed(16, 17),),
        unknown={1000: b"\x83\x01\x02aa"},
        minor=1,
        optional_bits=2,
    )


def small_head() -> Head:
    """A head as short as they get, for damaging every byte of it."""
    tip = replace(example_commit(), root=None, count=0, segs=(), parents=(), message="")
    main = CommitRef(example_block(2), commit_id(encode_commit(tip)), tip.seq)
    return replace(
        example_head(),
        branches={"main": Branch(main, 1, 10, 0)},
        tip=tip,
        tags={},
        trash=(),
        tip_root=None,
        recent=(),
        log=None,
        gc=Gc(),
        unknown={},
    )


def damaged(data: bytes) -> Iterator[bytes]:
    """`data` with each byte changed in two ways, cut at each length, and with a byte more."""
    for at, byte in enumerate(data):
        for flip in (0x01, 0x80):
            yield data[:at] + bytes([byte ^ flip]) + data[at + 1 :]
        yield data[:at]
    yield data + b"\0"


def golden(path: Path, data: bytes) -> bytes:
    """Return the bytes stored under `path` as hexadecimal text.

    Args:
        path: of the golden file.
        data: what to store when it does not exist yet; the test then fails, so that somebody
            looks at the new file and commits it.
    """
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(data.hex("\n", 32) + "\n")
        raise AssertionError(f"{path.name} did not exist and was written: check it, then commit it")
    return bytes.fromhex(path.read_text())
