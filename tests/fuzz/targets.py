"""Every decoder of bytes that a stranger may have written, with what it may do about them.

One table for the property tests (`test_decoders.py`), for coverage-guided fuzzing (`make fuzz`) and
for whoever adds a decoder: a row here is all it takes. A decoder behind a checksum has two rows,
one that is given all bytes, and one (`… sealed`) whose input is put behind the right checksums, as
a hostile writer would: without it no mutation gets past the first line.
"""

from __future__ import annotations

import codecs
import io
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from uuid import UUID
from zlib import crc32

import booklet
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import HTTPError

from ebooklet.adapters import botoanswers, httpanswers, s3failures
from ebooklet.adapters.encryption.aesgcm import AesGcmCipher
from ebooklet.adapters.holding import HolderRecord, decode_record, encode_record
from ebooklet.adapters.local.booklet import open_store
from ebooklet.adapters.localfiles.nodecache import NodeCache
from ebooklet.adapters.localfiles.sidecar import Mark
from ebooklet.adapters.locks.file import lockfile
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.http import open_store as open_public
from ebooklet.adapters.serverclock import ServerClock
from ebooklet.bootstrap.remotes import connection_of
from ebooklet.connection import RemoteAddress, S3Connection
from ebooklet.core.commit import decode_commit, encode_commit
from ebooklet.core.dictionaries import decode_dictionaries, encode_dictionaries
from ebooklet.core.digest import digest32
from ebooklet.core.entry import Entry, Place
from ebooklet.core.frames import read_frames
from ebooklet.core.head import decode_head, decode_log_row, encode_head, encode_log_row
from ebooklet.core.headtypes import ENCRYPTION_BIT
from ebooklet.core.index.codec import decode_node, encode_inner, encode_leaf
from ebooklet.core.index.columns import compress, decompress
from ebooklet.core.journal import (
    PendingDelete,
    PendingSet,
    PushStarted,
    replay,
)
from ebooklet.core.journal import (
    encode_record as encode_journal,
)
from ebooklet.core.legacy.description import read_description
from ebooklet.core.legacy.groups import GroupReader, member_head
from ebooklet.core.legacy.index import IndexEntry, IndexTable
from ebooklet.core.legacy.journal import read_journal, read_remote_timestamp
from ebooklet.core.legacy.names import value_key
from ebooklet.core.legacy.payload import FRAME, MAGIC, read_frame, read_manifest, read_metadata
from ebooklet.core.names import check_db_key, is_segment_key, owner_of, parse_sid
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef
from ebooklet.core.resident import Gone, Resident, encode_resident, replay_resident
from ebooklet.core.sealing import Content, KeyedSealer
from ebooklet.core.segment import (
    TRAILER_BYTES,
    BlockType,
    SegmentKind,
    SegmentWriter,
    split_sids,
    verify_segment,
)
from ebooklet.core.serialization import FREE_INFLATION
from ebooklet.core.serializer_names import canonical_name
from ebooklet.errors import (
    EncryptionError,
    InvalidURLError,
    LocalFileError,
    RemoteIntegrityError,
    RemoteUnavailable,
    SerializationError,
    StoreError,
    UnknownNameError,
    UnsupportedFormatError,
)
from ebooklet.plugins.registry import Registry
from ebooklet.ports.serializer import Dictionary
from ebooklet.services.metadata import decode_metadata
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.records import example_block, example_commit, example_head, fixed
from tests.fuzz.machine import BOMB, machine
from tests.fuzz.target import KIB, MIB, Damage, Target, in_file, plain, text

_UUID: Final = UUID(int=7)
_SID: Final = fixed(16, 3)
_WRITE_ID: Final = fixed(16, 4)
_PARAMS: Final = TreeParams()
_CLOCK: Final = ManualClock()
_REGISTRY: Final = Registry()
_HEAD_FRAME: Final = struct.Struct(">8sHHIIQ")
_SEGMENT_TRAILER: Final = struct.Struct(">QIIQ16s")
_JOURNAL_FRAME: Final = struct.Struct(">II")
_NODE_HEADER: Final = struct.Struct(">BBHHI")

# The objects of the bucket (FORMAT §2 to §4).


def _sealed(body: bytes, required: int = 0) -> bytes:
    framed = _HEAD_FRAME.pack(b"EBKHEAD1", 1, 0, required, 0, len(body)) + body
    return framed + digest32(b"ebk-head", framed)


def _sealed_head(body: bytes) -> object:
    return decode_head(_sealed(body), key="db")


def _segment(kind: SegmentKind = SegmentKind.MIXED) -> bytes:
    writer = SegmentWriter(_UUID, _SID, _WRITE_ID, kind)
    if kind is not SegmentKind.NODES:
        writer.add_value(b"hello")
        writer.add_value(b"world" * 30)
    if kind is not SegmentKind.VALUES:
        writer.add_block(BlockType.COMMIT, encode_commit(example_commit()))
    return bytes(writer.finish())


def _segment_of(data: bytes) -> object:
    return verify_segment(data, [_UUID.bytes], _SID)


def _sealed_segment(footer: bytes) -> object:
    whole = _segment()
    at = _SEGMENT_TRAILER.unpack(whole[-TRAILER_BYTES:])[0]
    total = at + len(footer) + TRAILER_BYTES
    trailer = _SEGMENT_TRAILER.pack(at, len(footer), crc32(footer), total, _WRITE_ID)
    return _segment_of(whole[:at] + footer + trailer)


def _footer(data: bytes) -> bytes:
    at, length, *_ = _SEGMENT_TRAILER.unpack(data[-TRAILER_BYTES:])
    return data[at : at + length]


_ENTRIES: Final = [
    Entry(f"key/{n:03}", 5, bytes(16), n, b"hello", None)
    if n % 3
    else Entry(f"key/{n:03}", 500, bytes(16), n, None, Place(_SID, 64 + n * 500, 500))
    for n in range(20)
]
_LEAF, _LEAF_DIGEST = encode_leaf(_ENTRIES, _PARAMS)
_CHILDREN: Final = [
    (f"key/{n:03}", NodeRef(example_block(n), fixed(32, n), n + 1, 0)) for n in range(12)
]
_INNER, _INNER_DIGEST = encode_inner(_CHILDREN, 1, _PARAMS)


def _node(level: int, digest: bytes, count: int) -> Callable[[bytes], object]:
    def decode(data: bytes) -> object:
        block = BlockRef(_SID, 64, len(data), crc32(data))
        return decode_node(data, NodeRef(block, digest, count, level), _PARAMS)

    return decode


def _parts(data: bytes, level: int) -> bytes:
    """What `_sealed_node` makes a node of: number of items and of segments, and the columns."""
    _, _, _, sids, n = _NODE_HEADER.unpack_from(data)
    start = _NODE_HEADER.size + 16 * sids
    columns = decompress(data[start : len(data) - n * (16, 32)[level > 0]], limit=MIB)
    return struct.pack(">HB", n, sids) + columns


def _sealed_node(level: int) -> Callable[[bytes], object]:
    """A node around any columns, with the crc, digest and counts that its parent would say."""

    def decode(data: bytes) -> object:
        if len(data) < 3:
            return None
        n, sids = struct.unpack_from(">HB", data)
        n &= 0xFFF
        columns = data[3:]
        digests = bytes(n * (16, 32)[level > 0])
        header = _NODE_HEADER.pack(1, level, 0, sids, n)
        node = header + bytes(16 * sids) + compress(columns) + digests
        lengths = struct.unpack_from(f"<{n}H", columns) if len(columns) >= 2 * n else (0,)
        count = n
        if level == 0:
            content = 10 * n + sum(lengths)
            digest = blake2b(
                struct.pack(">I", n) + columns[:content] + digests,
                digest_size=32,
                person=b"ebk-leaf",
            ).digest()
        else:
            tail = columns[-8 * n :] if n and len(columns) >= 8 * n else bytes(8 * n)
            counts = struct.unpack(f"<{n}Q", tail)
            count = sum(counts)
            hasher = blake2b(bytes([level]), digest_size=32, person=b"ebk-node")
            for i, below in enumerate(counts):
                hasher.update(digests[i * 32 : i * 32 + 32] + struct.pack(">Q", below))
            digest = hasher.digest()
        found: Any = _node(level, digest, count)(node)
        return found.items()

    return decode


_SEALER: Final = KeyedSealer(
    AesGcmCipher(), "k", {}, lambda _: bytes(32), bytes(32), piece_bytes=64
)


def _unsealed(data: bytes) -> object:
    return _SEALER.open(Content.VALUE, data)


# What lies beside the local file.

_JOURNAL: Final = b"".join(
    (
        encode_journal(PendingSet(["a", "b", "c"], [None, b"", bytes(16)])),
        encode_journal(PendingDelete(["d"], [17], [bytes(16)])),
        encode_journal(PushStarted(_WRITE_ID, 9)),
        encode_journal(PendingSet([f"many/{n}" for n in range(100)])),
    )
)
_RESIDENT: Final = encode_resident([Resident(["a", "b"]), Gone(["a"])])


def _payloads(log: bytes) -> tuple[bytes, ...]:
    found, at = [], 0
    for _, end in read_frames(log, lambda items: items):
        found.append(log[at + _JOURNAL_FRAME.size : end])
        at = end
    return tuple(found)


def _framed(payload: bytes) -> bytes:
    return _JOURNAL_FRAME.pack(len(payload), crc32(payload)) + payload


def _probe(path: Path) -> object:
    return ProbeCache(path).get("http://server", _CLOCK)


def _probes() -> bytes:
    verdict = {"mode": "cas", "etag_style": "quoted", "reason": "", "us": _CLOCK.now_us()}
    return json.dumps({"http://server": verdict}).encode()


def _cached_nodes(path: Path) -> object:
    cache = NodeCache(path)
    try:
        return cache.get([b"key"])
    finally:
        cache.close()


def _node_cache(folder: Path) -> bytes:
    path = folder / "nodes"
    cache = NodeCache(path)
    cache.put({b"key": _LEAF})
    cache.close()
    data = path.read_bytes()
    path.unlink()
    return data


def _booklet(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with booklet.VariableLengthValue(
        buffer, "n", key_serializer="str", value_serializer="bytes", n_buckets=11
    ) as file:
        for key, value in entries.items():
            file[key] = value
        file.sync()
        return buffer.getvalue()


def _local_file(path: Path) -> object:
    """A local file that somebody sent: opened for reading and for writing, looked through, closed."""
    for mode in ("read", "write"):
        store = open_store(path, clock=_CLOCK, mode=mode, create=False, lock_timeout=0)
        try:
            for key, _ in list(store.timestamps()):
                store.get_entry(key)
            store.get_metadata()
            store.count()
        finally:
            store.close()
    return None


def _file_lock() -> bytes:
    record = dict.fromkeys(("owner", "host", "purpose"), "x") | {"state": "held", "since_s": 1.0}
    return json.dumps(record | {"token": 3, "pid": 1}).encode().ljust(1023) + b"\n"


# Names, URLs, entries of groups.


def _addressed(url: str) -> object:
    return str(RemoteAddress.parse(url))


def _by_url(url: str) -> object:
    store, key = open_public(S3Connection(db_url=url).address())
    store.close()
    return key


def _entry(data: bytes) -> object:
    """The entry of a group, as a program passes it to `open`; with and without own credentials."""
    try:
        entry = json.loads(data)
    except (ValueError, RecursionError):
        return None  # the serializer's business, which has a row of its own
    if not isinstance(entry, dict) or "remote_conn" not in entry:
        return None
    with suppress(TypeError, ValueError):
        bare = connection_of(entry)
        assert not bare.has_credentials, "an entry brought credentials of its own"
    return connection_of(entry | {"access_key_id": "mine", "access_key": "secret"})


def _names(text: str) -> object:
    owner_of(text)
    is_segment_key("db", text)
    value_key("db", text)
    with suppress(ValueError):
        parse_sid(text)
    with suppress(ValueError):
        return check_db_key(text)
    return None


def _serializer_name(name: str) -> object:
    return _REGISTRY.serializer(canonical_name(name)).name


# Answers of servers, as far as our own code reads them.


def _answer(data: bytes) -> HTTPResponse:
    """An answer of which the status, each header and the body come out of the bytes."""
    status = (200, 206, 416)[data[0] % 3] if data else 200
    head, _, body = data[1:].partition(b"\n\n")
    headers = HTTPHeaderDict()
    for line in head.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        headers.add(name.strip(), value.strip())
    return HTTPResponse(io.BytesIO(body), headers, status, preload_content=False)


def _http_part(data: bytes) -> object:
    httpanswers.described(_answer(data), "db")
    return httpanswers.part_of(_answer(data), "db", 2, 9)


def _http_whole(data: bytes) -> object:
    return httpanswers.read_whole(_answer(data), "db", lambda size: size <= KIB)


def _s3_part(said: str) -> object:
    place, _, length = said.partition("|")
    answer = {
        "ResponseMetadata": {"HTTPStatusCode": 206},
        "ContentRange": place,
        "ContentLength": len(length),
    }
    return botoanswers.placed("db", answer, 2, 9)


def _date(text: str) -> object:
    clock = ServerClock()
    clock.note(text)
    return clock.now_ms(), httpanswers._date_ms(text)


def _refusal(data: bytes) -> object:
    code = s3failures.code_of(data)
    for status in (0, 400, 403, 404, 409, 412, 503):
        error = s3failures.refused(
            status, code, op="get", key="db", where="b", effect=s3failures.Effect.READ
        )
        assert isinstance(error, StoreError)
        assert str(error).isprintable()
    return None


_CUT_ANSWER: Final = (RemoteIntegrityError, HTTPError)  # the adapter translates urllib3's
_ANSWERS: Final = (
    b"\x01Content-Range: bytes 2-8/20\nContent-Length: 7\nETag: x\n\nllo wor",
    b"\x01Content-Range: bytes 2-8/20\nLast-Modified: Fri, 13 Dec 2024 07:28:00 GMT\n\nllo wor",
    b"\x00Content-Length: 11\nx-amz-meta-a: b\n\nhello world",
    b"\x00Content-Encoding: gzip\n\n\x1f\x8b",
    b"\x00Content-Encoding: gzip\n\n" + BOMB,
    b"\x02Content-Range: bytes */1\n\n",
)

# What 0.11 wrote.


def _legacy_index() -> bytes:
    buffer = io.BytesIO()
    with booklet.FixedLengthValue(
        buffer, "n", key_serializer="str", value_len=19, n_buckets=11
    ) as file:
        for n in range(20):
            file[f"key/{n}"] = n.to_bytes(7, "little") + struct.pack("<III", n, 19, n)
        file.sync()
        return buffer.getvalue()


def _indexed(data: bytes) -> object:
    table = IndexTable(data, "db")
    table.find(b"key/3")
    return list(table)


def _grouped(data: bytes) -> object:
    reader = GroupReader(lambda key, *_: len(key) < 100)
    return [member for part in (data[:40], data[40:]) for member in reader.feed(part)]


def _described(data: bytes) -> object:
    pairs = [line.partition("=") for line in data.decode("latin-1").split("\n")]
    return read_description([(name, value) for name, _, value in pairs], "db")


def _descriptions() -> tuple[bytes, ...]:
    import base64

    header = bytearray(_booklet({})[:200])
    header[49:65] = _UUID.bytes
    text = base64.urlsafe_b64encode(bytes(header)).decode()
    said = {"uuid": _UUID.hex, "type": "EVariableLengthValue", "init_bytes": text}
    rows = said | {"timestamp": "1700000000000000", "format_version": "3"}
    return ("\n".join(f"{name}={value}" for name, value in rows.items()).encode(),)


# Serializers that call themselves safe.

_JSON: Final = {"a": [1, 2.5, None, "é"], "b": {"c": True}}
_SAMPLES: Final[dict[str, object]] = {
    "bytes": b"hello" * 20,
    "str": "héllo" * 20,
    "json": _JSON,
    "orjson": _JSON,
    "cbor": _JSON,
    "msgpack": _JSON,
    "wkb": shapely.GeometryCollection([shapely.Point(1, 2).buffer(1)] * 9 + [shapely.Point(3, 4)]),
    "pd_zstd": pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None], "c": [1.5, 2.5, 3.5]}),
    "gpd_zstd": gpd.GeoDataFrame({"a": [1, 2]}, geometry=gpd.points_from_xy([1, 2], [3, 4])),
    "numpy": np.arange(24, dtype="f4").reshape(2, 3, 4),
    **{f"numpy_int{n}": np.arange(20, dtype=f"i{n}") for n in (1, 2, 4, 8)},
    **{f"{kind}{n}": 5 for kind in ("int", "uint") for n in (1, 2, 4, 5, 8)},
}


def _serializers() -> Iterator[Target]:
    registered = set(_REGISTRY.names("ebooklet.serializers")) - {"+zstd", "pickle"}
    if missing := registered - _SAMPLES.keys():
        raise AssertionError(f"no sample of what {sorted(missing)} stores: add one to the table")
    for name, sample in _SAMPLES.items():
        serializer = _REGISTRY.serializer(name)
        assert serializer.safe, name
        yield Target(
            f"serializer {name}",
            plain(serializer.loads),
            (serializer.dumps(sample),),
            (SerializationError,),
            room=FREE_INFLATION if "zstd" in name else MIB,
            factor=1000,
        )
    for name in ("json+zstd", "zstd", "msgpack_zstd"):
        packed = _REGISTRY.serializer(name)
        sample = _SAMPLES[name.partition("+")[0].removesuffix("_zstd").replace("zstd", "bytes")]
        yield Target(
            f"serializer {name}",
            plain(packed.loads),
            (packed.dumps(sample),),
            (SerializationError,),
            room=2 * FREE_INFLATION + MIB,
            factor=1000,
        )


def targets(folder: Path) -> dict[str, Target]:
    """The table.

    Args:
        folder: for what has to be written to a file to be had as bytes.
    """
    head = encode_head(example_head())
    bucket = [
        Target("head", plain(partial(decode_head, key="db")), (head,), Damage),
        Target("head sealed", plain(_sealed_head), (head[_HEAD_FRAME.size : -32],), Damage),
        Target(
            "log row", plain(decode_log_row), (encode_log_row(example_head().recent[0]),), Damage
        ),
        Target("commit", plain(decode_commit), (encode_commit(example_commit()),), Damage),
        Target(
            "segment", plain(_segment_of), tuple(_segment(kind) for kind in SegmentKind), Damage
        ),
        Target("segment sealed", plain(_sealed_segment), (_footer(_segment()),), Damage),
        Target("segment ids", plain(split_sids), (b"".join(map(bytes, [[1] * 16])),), Damage),
        Target("leaf", plain(_node(0, _LEAF_DIGEST, 20)), (_LEAF,), Damage),
        Target("leaf sealed", plain(_sealed_node(0)), (_parts(_LEAF, 0),), Damage, 8 * MIB),
        Target("inner node", plain(_node(1, _INNER_DIGEST, 78)), (_INNER,), Damage),
        Target("inner sealed", plain(_sealed_node(1)), (_parts(_INNER, 1),), Damage, 8 * MIB),
        Target("metadata", plain(decode_metadata), (b'{"a": [1, 2]}', b"null"), Damage),
        Target(
            "sealed block",
            plain(_unsealed),
            (
                bytes(_SEALER.seal(Content.VALUE, b"hi")),
                bytes(_SEALER.seal(Content.VALUE, b"hi" * 99)),
            ),
            (RemoteIntegrityError, EncryptionError),
        ),
        Target(
            "lock object",
            plain(decode_record),
            (
                encode_record(
                    HolderRecord(3, "me", "host", 7, "write", "held", 60_000, 2, bytes(16))
                ),
            ),
        ),
    ]
    beside = [
        Target("journal", plain(replay), (_JOURNAL,)),
        Target("journal sealed", plain(lambda data: replay(_framed(data))), _payloads(_JOURNAL)),
        Target("resident log", plain(replay_resident), (_RESIDENT,)),
        Target(
            "resident sealed",
            plain(lambda data: replay_resident(_framed(data))),
            _payloads(_RESIDENT),
        ),
        Target(
            "dictionaries",
            plain(decode_dictionaries),
            (encode_dictionaries([Dictionary(7, b"abc"), Dictionary(8, b"d" * 99)]),),
            Damage,
        ),
        Target("mark", plain(Mark.decode), (Mark(200, 5, _UUID, "edited").encode(),)),
        Target("probe cache", in_file("probes.json", _probe), (_probes(),)),
        Target("node cache", in_file("nodes", _cached_nodes), (_node_cache(folder),)),
        Target("lock file", plain(lockfile.parse_record), (_file_lock(),)),
        Target(
            "local file",
            in_file("sent.blt", _local_file),
            (_booklet({f"key/{n}": b"v" * n for n in range(20)}),),
            (LocalFileError, FileNotFoundError),  # zero bytes count as absent
            room=8 * MIB,
            is_slow=True,
        ),
    ]
    entry = {
        "entry_version": 1,
        "type": "EVariableLengthValue",
        "remote_conn": {
            "db_key": "data/db",
            "bucket": "bucket",
            "endpoint_url": "https://server:9000",
            "db_url": "https://server/data/db",
        },
    }
    named = [
        Target(
            "url",
            text(_addressed),
            (b"s3://bucket/a/db?region=eu", b"file:///data/a%20b", b"https://h:8/x?y=1"),
            (InvalidURLError,),
        ),
        Target("db_url", text(_by_url), (b"https://server:443/a/db",), (ValueError,)),
        Target(
            "endpoint_url",
            text(lambda url: S3Connection("i", "k", "db", "b", url)),
            (b"http://[::1]:9000", b"https://server"),
            (InvalidURLError,),
        ),
        Target(
            "group entry", plain(_entry), (json.dumps(entry).encode(),), (TypeError, ValueError)
        ),
        Target("object names", text(_names), (b"a/b", b"db.d/" + b"0" * 26, b"a//../b.lock")),
        Target(
            "serializer name",
            text(_serializer_name),
            (b"json", b"pickle_zstd", b"json+zstd"),
            (UnknownNameError,),
            room=8 * MIB,
        ),
    ]
    answers = [
        Target("http part", plain(_http_part), _ANSWERS, (*_CUT_ANSWER, RemoteUnavailable)),
        Target("http whole", plain(_http_whole), _ANSWERS, _CUT_ANSWER, 4 * MIB),
        Target("s3 part", text(_s3_part), (b"bytes 2-8/20|1234567",), (RemoteIntegrityError,)),
        Target("s3 refusal", plain(_refusal), (b"<Error><Code>NoSuchKey</Code></Error>",)),
        Target(
            "date",
            text(_date),
            (
                b"Fri, 13 Dec 2024 07:28:00 GMT",
                b"Sun Nov  6 08:49:37 1994",
                b"1 Jan 0001 0:0 -2359",
            ),
        ),
    ]
    frame = FRAME.pack(MAGIC, 2, 0, 2, 0, 100)
    value = IndexEntry(5, 0, 0, 3)
    old = [
        Target("0.11 frame", plain(lambda data: read_frame(data, 142, "db")), (frame,), Damage),
        Target(
            "0.11 manifest",
            plain(partial(read_manifest, key="db")),
            (b'{"0": "0123456789abc", "17": "fedcba9876543"}',),
            Damage,
        ),
        Target(
            "0.11 metadata",
            plain(partial(read_metadata, key="db")),
            (b'{"timestamp": 5, "data": {"a": 1}}',),
            Damage,
        ),
        Target("0.11 description", plain(_described), _descriptions(), Damage),
        Target("0.11 index", plain(_indexed), (_legacy_index(),), Damage),
        Target(
            "0.11 group",
            plain(_grouped),
            (struct.pack(">I", 2) + 2 * (member_head(b"key", value) + b"abc"),),
        ),
        Target(
            "0.11 journal",
            plain(partial(read_journal, location="f")),
            (b'{"v": 2, "written": ["a"], "deletes": [], "meta_pending": true}',),
            (LocalFileError, UnsupportedFormatError),
        ),
        Target(
            "0.11 state",
            plain(partial(read_remote_timestamp, location="f")),
            (b'{"v": 1, "remote_ts": 17}',),
            (LocalFileError, UnsupportedFormatError),
        ),
    ]
    here = machine(folder, partial(_sealed, required=ENCRYPTION_BIT), slice(_HEAD_FRAME.size, -32))
    rows = [*bucket, *beside, *named, *answers, *old, *here, *_serializers()]
    return {row.name: row for row in rows}


def warm(target: Target, folder: Path) -> None:
    """Have libraries import, build and open what they do when first used: that is no find."""
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):  # which JSON may have
        codecs.lookup(encoding)
    for data in (*target.seeds, b"", b"\xff" * 40):
        with suppress(*target.errors):
            target.decode(data, folder)
