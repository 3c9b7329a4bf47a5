"""Bad input: a typed error that names the thing and the remedy, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import booklet
import pytest

import ebooklet
from ebooklet.adapters.local.memory import open_store as open_in_memory
from ebooklet.bootstrap import open as open_database
from ebooklet.core.head import MAGIC_BYTES, MAX_HEAD_BYTES
from ebooklet.errors import (
    EBookletError,
    InvalidKeyError,
    LocalFileError,
    RemoteIntegrityError,
    RemoteUnavailable,
    SerializationError,
    UnknownNameError,
    UnsupportedFormatError,
    UUIDMismatchError,
)
from ebooklet.ports.remote_store import ByteRange
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from ebooklet.testing.servers import S3Server

from .conftest import Opener, store_of


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"flag": "x"}, ValueError, "unknown flag 'x'; one of r, w, c, n"),
        ({"remote_conn": "sftp9://host/db"}, UnknownNameError, "known: file"),
        ({"remote_conn": "not a url"}, ValueError, "s3://bucket/key"),
        ({"remote_conn": 5}, TypeError, "S3Connection"),
        ({"remote_conn": "s3://user:secret@bucket/db"}, ValueError, "S3Connection"),
        ({"value_serializer": "yaml"}, UnknownNameError, "known: bytes"),
        ({"value_serializer": object()}, TypeError, "dumps"),
        ({"local": "papyrus"}, UnknownNameError, "booklet"),
        ({"lock": "padlock"}, ValueError, "exclusive"),
        ({"remote_conn": "memory://x/a.d"}, ValueError, "our own objects"),
        ({"remote_conn": "memory://x/../y"}, ValueError, "component"),
        ({"file_path": "missing/folder/db.blt"}, FileNotFoundError, "missing"),
    ],
)
def test_wrong_arguments_leave_nothing_behind(
    url: str, tmp_path: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Said before any file, lock or request."""
    chosen = {"remote_conn": url, "file_path": "db.blt", "flag": "c"} | options
    chosen["file_path"] = tmp_path / chosen["file_path"]
    with pytest.raises(error) as caught:
        open_database(**chosen)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert files(tmp_path) == set()
    assert list(store_of(url).list("")) == []


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (5, TypeError),
        (None, TypeError),
        (b"bytes", TypeError),
        ("x" * 65_536, InvalidKeyError),
        ("ü" * 40_000, InvalidKeyError),
        ("\ud800", InvalidKeyError),
        ("adb01ebc1ba3433eb043527", InvalidKeyError),
        ("7c40d2ea915b4f3a8e6d201", InvalidKeyError),
        ("f19a5c3d7e2b48069ab34c5", InvalidKeyError),
    ],
)
def test_bad_keys_are_never_written(opener: Opener, key: Any, error: type[Exception]) -> None:
    """Every way of writing refuses them; reading says they are absent."""
    with opener("a", "c") as db:
        db["good"] = 1
        for write in (
            lambda: db.__setitem__(key, 1),
            lambda: db.set(key, 1),
            lambda: db.update([(key, 1)]),
            lambda: db.setdefault(key, 1),
        ):
            with pytest.raises(error):
                write()
        assert key not in db
        assert db.get(key, "absent") == "absent"
        with pytest.raises(KeyError):
            db[key]
        with pytest.raises(KeyError):
            del db[key]
        assert list(db) == ["good"]
        db.push()


def test_strange_but_valid_keys_stay_apart(opener: Opener) -> None:
    """Any other text is a key, and no two are folded together."""
    keys = [
        "",
        "\0",
        "/",
        "..",
        ".",
        "%2F",
        "?",
        "#",
        "a b",
        "a%20b",
        "a+b",
        "ﬁ",
        "fi",
        "é",
        "e\u0301",
    ]
    keys += ["x" * 65_535, "\n", "\U0010ffff", "..\\..", "key/"]
    with opener("a", "c") as db:
        db.update({key: number for number, key in enumerate(keys)})
        db.push()
    with opener("b", "r") as db:
        assert dict(db.items()) == {key: number for number, key in enumerate(keys)}


def test_a_value_the_serializer_cannot_hold(opener: Opener) -> None:
    """Refused at the set, the old value stays."""
    with opener("a", "c") as db:
        db["a"] = 1
        with pytest.raises(SerializationError):
            db["a"] = object()
        assert db["a"] == 1
        with pytest.raises(TypeError):
            db.set("a", "text", encode_value=False)


def foreign_file(path: Path) -> None:
    path.write_bytes(b"this is somebody's notes, not a database" * 100)


def bytes_keys(path: Path) -> None:
    booklet.open(str(path), "n").close()


def no_timestamps(path: Path) -> None:
    booklet.open(str(path), "n", key_serializer="str", init_timestamps=False).close()


def fixed_length(path: Path) -> None:
    booklet.FixedLengthValue(str(path), "n", key_serializer="str", value_len=5).close()


@pytest.mark.parametrize(
    ("make", "flag"),
    [
        *((make, flag) for make in (bytes_keys, no_timestamps, fixed_length) for flag in "rwc"),
        *((foreign_file, flag) for flag in "rwcn"),  # a Booklet may be started anew, a text not
    ],
)
def test_local_files_that_are_no_use(
    opener: Opener, tmp_path: Path, make: Callable[[Path], None], flag: str
) -> None:
    """Refused by what they are, and left byte for byte as they were."""
    path = tmp_path / "a.blt"
    make(path)
    before = path.read_bytes()
    with pytest.raises(LocalFileError, match=r"a\.blt"):
        opener("a", flag)
    assert path.read_bytes() == before


def test_a_remote_object_that_is_not_ours(opener: Opener, url: str, tmp_path: Path) -> None:
    """Never overwritten, never taken for a database, no local file made."""
    store_of(url).put("db", b'{"something": "else"}')
    for flag in "rwcn":
        with pytest.raises(UnsupportedFormatError, match="db"):
            opener("a", flag)
    assert store_of(url).get("db").body == b'{"something": "else"}'
    assert "a.blt" not in files(tmp_path)


def test_every_flipped_or_cut_head_is_noticed(opener: Opener, url: str) -> None:
    """No byte of a head can change unnoticed, and nothing but our own errors comes out."""
    with opener("a", "c") as db:
        db["a"] = 1
        db.push()
    store = store_of(url)
    whole = store.get("db").body
    damaged = [whole[:n] for n in range(0, len(whole), 7)] + [whole + b"\0"]
    damaged += [
        whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :] for n in range(len(whole))
    ]
    for body in damaged:
        store.put("db", body)
        with pytest.raises((RemoteIntegrityError, UnsupportedFormatError)):
            opener(None, "r")
    store.put("db", whole)
    with opener("a", "w") as db:
        assert db["a"] == 1


def test_flipped_or_cut_segments_never_give_a_wrong_value(opener: Opener, url: str) -> None:
    """Each damaged byte is either in nobody's way or an error; a missing segment is an error."""
    values = {f"k{n}": "v" * n for n in range(60, 90)}
    with opener("a", "c") as db:
        db.update(values)
        db.push()
    store = store_of(url)
    (segment,) = [meta.key for meta in store.list("") if meta.key != "db"]
    whole = store.get(segment).body
    noticed = 0
    for n in range(0, len(whole), 5):
        store.put(segment, whole[:n] + bytes([whole[n] ^ 0x10]) + whole[n + 1 :])
        with opener(None, "r") as db:
            try:
                assert dict(db.items()) == values
            except RemoteIntegrityError:
                noticed += 1
    # At least every byte of the values that lie in the segment: those above 64 bytes.
    assert noticed >= sum(n + 2 for n in range(63, 90)) // 5
    for cut in (0, 10, len(whole) // 2):
        store.put(segment, whole[:cut])
        with opener(None, "r") as db, pytest.raises(RemoteIntegrityError):
            dict(db.items())
    store.delete([segment])
    with opener(None, "r") as db, pytest.raises(RemoteIntegrityError, match="fsck"):
        db["k80"]
    with opener("a", "w") as db:
        assert dict(db.items()) == values


def test_pickles_of_strangers_are_not_read(url: str) -> None:
    """`allow_pickle` is about trust in an anonymous remote; a named remote of one's own is read."""
    with open_database(url, None, "c") as db:
        db["a"] = {1, 2}
        db.push()
    with open_database(url, None, "r") as db:
        assert db["a"] == {1, 2}
        assert isinstance(db, ebooklet.EBooklet)


class Spoiling(FaultyRemoteStore):
    """A store whose ranges come from a copy that is damaged: one bit of each is turned over."""

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        for body in super().get_ranges(ranges):
            assert isinstance(body, bytes)
            at = len(body) // 2
            yield body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def test_a_damaged_answer_is_asked_for_again(opener: Opener, url: str) -> None:
    """Nodes, values and large metadata that come damaged are read where they were written."""
    values = {f"k{n:03}": "v" * (100 + n) for n in range(400)}
    metadata = {"about": "m" * 100_000}
    with opener(None, "c") as db:
        db.update(values)
        db.set_metadata(metadata)
        db.push()
    store = Spoiling(store_of(url))
    with open_database(store) as db:
        assert db["k123"] == values["k123"]
        assert dict(db.items()) == values
        assert db.get_metadata() == metadata


def test_what_is_damaged_everywhere_is_said_to_be(opener: Opener, url: str) -> None:
    """Asked for again and still wrong: an error for each key in the damaged bytes, and for no other."""
    values = {f"k{n:03}": f"{n:03}" * 100_000 for n in range(40)}
    with opener(None, "c") as db:
        db.update(values)
        db.push()
    store = store_of(url)
    for meta in store.list("db.d/"):
        body = bytearray(store.get(meta.key).body)
        body[len(body) // 3] ^= 1
        store.put(meta.key, body)
    with opener(None, "r") as db:
        failures = db.load_items()
        assert failures
        assert {type(error) for error in failures.values()} == {RemoteIntegrityError}
        assert {k: db[k] for k in values if k not in failures} == {
            k: v for k, v in values.items() if k not in failures
        }
        assert len(failures) < len(values)


def test_an_object_that_is_no_head_is_not_fetched_whole(moto: S3Server, tmp_path: Path) -> None:
    """A hostile object in the head's place costs no more than the largest head, and a short look."""
    bucket = moto.new_bucket()
    body = b"EBKHEAD1" + bytes(20 << 20)
    moto.client().put_object(Bucket=bucket, Key="db", Body=body)
    with CountingProxy(moto.endpoint_url) as proxy:
        with pytest.raises(UnsupportedFormatError):
            ebooklet.open(moto.at(proxy.url).connection(bucket, "db"), tmp_path / "a.blt")
        counts = proxy.counts()
    assert (counts.requests, counts.body_down) == (2, MAX_HEAD_BYTES + 1 + MAGIC_BYTES)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("how", ["another database", "another serializer", "no remote"])
def test_a_local_store_of_the_callers_stays_open(opener: Opener, url: str, how: str) -> None:
    """Who did not open it does not close it, however late the open fails."""
    with opener(None, "c") as db:
        db["a"] = 1
        db.push()
        uuid = db.uuid
    built = open_in_memory(
        value_serializer="json", uuid=None if how == "another database" else uuid
    )
    built.set("mine", b"1", 1)
    store = FaultyRemoteStore(store_of(url))
    options: dict[str, Any] = {}
    if how == "another serializer":
        options["value_serializer"] = "orjson"
    if how == "no remote":
        store.add(StoreRule(StoreFault.REFUSE, times=None))
    with pytest.raises((UUIDMismatchError, RemoteUnavailable, ValueError)):
        open_database(store, None, "w", local=built, **options)
    assert built.get("mine") == b"1"
    built.close()
    remote = store.inner if how == "no remote" else store
    assert remote.head("db").key == "db"  # nor the remote


def test_values_that_cannot_be_held_are_named_by_key(url: str) -> None:
    """The error of one value among many says whose it is; those before it are there."""
    with open_database(url, None, "c", value_serializer="json") as db:
        for write in (
            lambda: db.update({"good": 1, "bad": {1}}),
            lambda: db.set("bad", {1}),
            lambda: db.__setitem__("bad", {1}),
        ):
            with pytest.raises(SerializationError) as caught:
                write()
            assert caught.value.key == "bad"
        assert dict(db) == {"good": 1}
        db.set("bytes", b"no json", encode_value=False)
        with pytest.raises(SerializationError) as caught:
            db["bytes"]
        assert caught.value.key == "bytes"
