"""Decoders of what people, programs and files of this machine say: arguments, keys, old local files.

Rows of the table in `targets.py`, to which they belong.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import booklet

from ebooklet.adapters import keypaths
from ebooklet.adapters.encryption.aesgcm import AesGcmCipher
from ebooklet.adapters.encryption.keyfile import KeyFile
from ebooklet.adapters.local.booklet.layout import BLOCK_BYTES
from ebooklet.adapters.local.booklet.legacy import LegacyLocalFile
from ebooklet.adapters.local.lmdb import open_store as open_lmdb
from ebooklet.adapters.localfiles.flushed import (
    Flushed,
    decode_states,
    encode_positions,
    encode_states,
)
from ebooklet.adapters.localfiles.gate import Gate
from ebooklet.adapters.localfiles.sidecar import Sidecar
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import checking
from ebooklet.bootstrap import open as open_database
from ebooklet.cli.app import app
from ebooklet.core.cbor import Malformed
from ebooklet.core.dictionaries import Dictionaries
from ebooklet.core.encryption import Encryption
from ebooklet.core.head import decode_head, encode_head
from ebooklet.core.keyring import Keyring
from ebooklet.core.legacy.journal import JOURNAL_KEY, METADATA_KEY
from ebooklet.core.notes import read_notes
from ebooklet.core.serialization import FREE_INFLATION
from ebooklet.core.tagnotes import read_message
from ebooklet.core.timestamps import to_microseconds
from ebooklet.errors import (
    EncryptionError,
    LocalFileError,
    SerializationError,
    UnknownNameError,
    UnknownVersionError,
)
from ebooklet.plugins.registry import Registry
from ebooklet.ports.serializer import TrainedSerializer
from ebooklet.services.migration.localfile import find_pending, read_state
from ebooklet.services.migration.report import Findings, PendingFound, decode_slot, encode_slot
from ebooklet.services.remembered import decode_base, encode_base
from ebooklet.services.snapshot import Snapshot
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.records import example_head
from tests.fuzz.target import KIB, MIB, Damage, Target, in_file, plain, text

_CLOCK: Final = ManualClock()
_STATUSES: Final = range(5)  # of the command `fsck`, and those of click


# What is typed.


class _NothingOutside(Registry):
    """Databases in memory alone: no input leads to a file or to a host."""

    def remote_store(self, scheme: str) -> Any:
        if scheme != "memory":
            raise UnknownNameError("not here", op="open")
        return super().remote_store(scheme)


_INSIDE: Final = _NothingOutside()


def _command_line(data: bytes) -> object:
    """The whole command, as a shell would start it: arguments apart by line ends."""
    given = data.decode("utf-8", "surrogateescape").replace("\0", "").split("\n")

    def check(url: str, *, encryption: object, **options: Any) -> object:
        return real(url, registry=_INSIDE, **options)

    real = checking.fsck
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors)
        for errors in ("surrogateescape", "backslashreplace")  # as those of a program in C.UTF-8
    )
    with patch.object(checking, "fsck", check), redirect_stdout(out), redirect_stderr(err):
        try:
            app(args=given, prog_name="ebooklet")
        except SystemExit as exc:
            status = exc.code
    assert status in _STATUSES
    return status


_COMMANDS: Final = (
    b"fsck\nmemory://fuzzed/db\n--json\n--check-objects",
    b"fsck\nmemory://fuzzed/db\n--rescue\n--value-serializer\njson\n--uuid\n" + b"0" * 32,
    b"fsck\nmemory://fuzzed/db\n--delete-orphans\n--min-age=1e3\n--lock-timeout\n0\n--lock\nlease",
    b"fsck\nmemory://fuzzed/db\n--repair\n--group\n--lock\nnobody",
    b"--version",
    b"fsck\n--help",
)


def _folder_name(name: str) -> object:
    elements = name.split("/")
    keypaths.decode(elements, folder=True)
    key = keypaths.decode(elements, folder=False)
    if key is not None:
        assert "".join(keypaths.encode(key)) == keypaths_plain(elements)
    return key


def keypaths_plain(elements: list[str]) -> str:
    """A path as `encode` makes it, without what sets an object aside."""
    return "".join([*elements[:-1], elements[-1].removesuffix(keypaths.set_aside(""))])


# What lies in files.


def _key_file(path: Path) -> object:
    path.chmod(0o600)
    keys = KeyFile(path)
    return [keys.key(key_id) for key_id in keys.ids()]


def _key_files(folder: Path) -> bytes:
    path = folder / "made.keys"
    KeyFile.generate(path, "2026").add("2027")
    data = path.read_bytes()
    path.unlink()
    return data


def _holder(path: Path) -> object:
    """Who a lock file says is the writer."""
    gate = Gate(path.parent, path.with_name("db.blt"), _CLOCK)
    told = gate.holder()
    assert len(told) < KIB
    return told


def _dead_blocks(path: Path) -> object:
    """The list of a file's dead blocks: read for a state, and gone on with."""
    sidecar = Sidecar(path.with_name("db.blt"))
    sidecar.folder.mkdir(exist_ok=True)
    path.replace(sidecar.folder / "dead")
    number, size = sidecar.dead_list()
    found = sidecar.dead_of(Flushed(1, 1, 1, number, size))
    return found, sidecar.append_dead(encode_positions([7]))


def _lmdb(path: Path) -> object:
    store = open_lmdb(path, clock=_CLOCK, mode="read", create=False, lock_timeout=0)
    try:
        for key, _ in list(store.timestamps()):
            store.get_entry(key)
        return store.count()
    finally:
        store.close()


def _lmdb_file(folder: Path) -> bytes:
    path = folder / "made.lmdb"
    store = open_lmdb(path, clock=_CLOCK)
    for n in range(20):
        store.set(f"key/{n}", b"v" * n, n)
    store.close()
    return path.read_bytes()


def _old_file(path: Path) -> object:
    with LegacyLocalFile(path, clock=_CLOCK, lock_timeout=0) as file:
        for block in list(file.blocks()):
            file.read(block)
        return find_pending(file, read_state(file), None)


def _old_files() -> bytes:
    buffer = io.BytesIO()
    with booklet.VariableLengthValue(
        buffer, "n", key_serializer="str", value_serializer="bytes", n_buckets=11
    ) as file:
        for n in range(9):
            file[f"key/{n}"] = b"v" * n
        journal = {"v": 2, "written": ["key/3"], "deletes": ["gone"], "meta_pending": True}
        file[JOURNAL_KEY.decode()] = json.dumps(journal).encode()
        file[METADATA_KEY.decode()] = b'{"a": 1}'
        file.sync()
        return buffer.getvalue()


def _torn(whole: bytes) -> tuple[bytes, ...]:
    """A file as it is, and with something in its midst that is no block."""
    middle = whole.index(b"key/4") - BLOCK_BYTES
    return whole, whole[:middle] + b"\x01" * 64 + whole[middle:]


_FINDINGS: Final = Findings({"k": "damaged"}, ("note",), PendingFound(("a",), ("b",), True))


def _bases() -> tuple[bytes, ...]:
    head = example_head()
    data = encode_head(head)
    name = next(iter(head.branches))
    return data, encode_base(Snapshot(head, data, "", name, head.tip))


# What lies under keys, and what needs dictionaries.

_KEYS: Final = Encryption({"2026": bytes(32)}, current="2026")


def _sealed_head(reseal: Callable[[bytes], bytes]) -> Callable[[bytes], object]:
    """A head of an encrypted database, opened with the right key, and what it says in words."""

    def decode(data: bytes) -> object:
        head = decode_head(reseal(data), key="db")
        sealer = Keyring(AesGcmCipher(), _KEYS).sealer_of(head)
        for name, tag in head.tags.items():
            read_message(tag, name, sealer)
        return read_notes(head.tip, sealer)

    return decode


def _encrypted_head() -> bytes:
    store = MemoryRemoteStore()
    with open_database(store, None, "c", "json", encryption=_KEYS) as db:
        db["a"] = "v"
        db.set_metadata({"m": 1})
        db.push("message")
        db.tag("t", message="of the tag")
    return store.get("db").body


def _trained() -> tuple[Any, bytes]:
    """A serializer with a dictionary, and what it stores."""
    untrained = Registry().serializer("json+zstd:dict")
    assert isinstance(untrained, TrainedSerializer)
    values = [{"station": f"station {n % 7}", "rain": n, "unit": "mm"} for n in range(2000)]
    dictionary = untrained.train([untrained.dumps(value) for value in values], 100_000)
    assert dictionary is not None
    known = Dictionaries()
    known.add([dictionary])
    trained = untrained.bind(known)
    return trained, bytes(trained.dumps(values[5]))


def machine(folder: Path, reseal: Callable[[bytes], bytes], body: slice) -> list[Target]:
    """The rows.

    Args:
        folder: for what has to be written to a file to be had as bytes.
        reseal: puts the body of a head behind the right checksum.
        body: where the body of a head stands in it.
    """
    head = _encrypted_head()
    trained, stored = _trained()
    locked = (*Damage, EncryptionError)
    return [
        Target("command line", plain(_command_line), _COMMANDS, room=8 * MIB, is_slow=True),
        Target(
            "moment",
            text(lambda said: to_microseconds(said, 0)),
            (b"2026-11-25T15:44:00+00:00", b"0001-01-01T00:00+23:59", b"2026-W48-3T15Z"),
            (ValueError,),
        ),
        Target("folder name", text(_folder_name), (b"a/b%2Fc/d%o", b"%2Eebooklet/x", b"a%+/b")),
        Target(
            "key file", in_file("keys.json", _key_file), (_key_files(folder),), (EncryptionError,)
        ),
        Target(
            "writer's note",
            in_file("lock", _holder),
            (b'{"pid": 7, "host": "here", "since_us": 5}', b'{"pid": 1e3}'),
        ),
        Target(
            "flushed states",
            plain(decode_states),
            (encode_states([Flushed(1, 2, 3, 4, 5), Flushed(6, 7, 8, 9, 10, (11, 12))]),),
        ),
        Target(
            "dead blocks",
            in_file("dead", _dead_blocks),
            (encode_positions([3, 200, 300]), b""),
            is_slow=True,
        ),
        Target(
            "base",
            plain(lambda data: decode_base(data, "db")),
            _bases(),
            (*Damage, Malformed, UnknownVersionError),
        ),
        Target(
            "migration slot",
            plain(decode_slot),
            (encode_slot("s3://b/k", _FINDINGS), encode_slot("s3://b/k", None)),
            (LocalFileError,),
        ),
        Target(
            "0.11 local file",
            in_file("old.blt", _old_file),
            _torn(_old_files()),
            (*Damage, LocalFileError),
        ),
        Target(
            "LMDB file",
            in_file("sent.lmdb", _lmdb),
            (_lmdb_file(folder),),
            (LocalFileError, FileNotFoundError),  # as "local file"
            room=8 * MIB,
            is_slow=True,
        ),
        Target("encrypted head", plain(_sealed_head(bytes)), (head,), locked),
        Target("encrypted head sealed", plain(_sealed_head(reseal)), (head[body],), locked),
        Target(
            "serializer json+zstd:dict",
            plain(trained.loads),
            (stored,),
            (SerializationError,),
            room=2 * FREE_INFLATION + MIB,
            factor=1000,
        ),
    ]


BOMB: Final = gzip.compress(bytes(8 * MIB), mtime=0)
"""Bytes of an answer that inflate a thousandfold."""
