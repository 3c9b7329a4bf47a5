"""Section 8: connection groups, and that no credentials are ever stored."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

import ebooklet
from ebooklet.group import RemoteConnGroup
from ebooklet.testing.servers import S3Server
from tests.contract.conftest import Place

LARGE = {"text": "x" * 100_000}  # above what a head holds


@pytest.fixture(params=["moto"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """One server: members are named by S3 connections."""
    from tests.contract.conftest import make_place

    return make_place(request.param, tmp_path, request)


def connection(place: Place, db_key: str) -> ebooklet.S3Connection:
    conn = place.connect(db_key)
    assert isinstance(conn, ebooklet.S3Connection)
    return conn


def make_member(place: Place, db_key: str = "member", metadata: Any = None, **content: Any) -> Any:
    """Commit a database; its connection and its uuid in hexadecimal."""
    with place.open(db_key, file=None) as db:
        db.update(content or {"k": 1})
        if metadata is not None:
            db.set_metadata(metadata)
        db.push()
        return connection(place, db_key), db.uuid.hex


@pytest.fixture
def group(place: Place) -> Iterator[RemoteConnGroup]:
    """A new group, nothing pushed."""
    with ebooklet.open_rcg(place.connect("group"), place.path("g"), "c") as opened:
        yield opened


# The database that a group is.


def test_two_ways_to_open_one(place: Place) -> None:
    """remote_conn_group=True and open_rcg make one; afterwards the stored type decides."""
    member, uuid = make_member(place)
    for n, made in enumerate(
        (
            ebooklet.open(place.connect("g0"), place.path("g0"), "n", remote_conn_group=True),
            ebooklet.open_rcg(place.connect("g1"), place.path("g1"), "c"),
        )
    ):
        with made:
            assert isinstance(made, ebooklet.RemoteConnGroup)
            assert isinstance(made, ebooklet.EVariableLengthValue)
            assert made.type == "RemoteConnGroup"
            assert made.add(member) == uuid
            assert made.changes().push()
        for path in (place.path(f"g{n}"), place.path(f"cold{n}"), None):
            with ebooklet.open(place.connect(f"g{n}"), path) as group:
                assert isinstance(group, ebooklet.RemoteConnGroup)
                assert list(group) == [uuid]
                assert group[uuid]["type"] == "EVariableLengthValue"
    with ebooklet.open(None, place.path("g0")) as local:
        assert isinstance(local, ebooklet.RemoteConnGroup)


def test_each_factory_refuses_the_other_kind(place: Place, group: RemoteConnGroup) -> None:
    """TypeError from open_ebooklet and open_rcg; lock and file are free again."""
    member, _ = make_member(place)
    group.push()
    group.close()
    for flag in ("r", "w", "c"):
        with pytest.raises(TypeError):
            ebooklet.open_ebooklet(place.connect("group"), place.path("g"), flag)
        with pytest.raises(TypeError):
            ebooklet.open_rcg(member, place.path("m"), flag)
    with ebooklet.open(member, place.path("m2"), "w", remote_conn_group=True, lock_timeout=2) as db:
        assert type(db) is ebooklet.EBooklet  # whatever was asked for
        assert db.type == "EVariableLengthValue"
    with ebooklet.open(place.connect("group"), place.path("g"), "w", lock_timeout=2) as again:
        assert isinstance(again, ebooklet.RemoteConnGroup)


def test_it_is_a_database_of_dicts(place: Place, group: RemoteConnGroup) -> None:
    """Reads, deletions, metadata, times, changes, discard and pull are those of every database."""
    member, uuid = make_member(place)
    group.add(member)
    group.add(member, key="named")
    group.add(make_member(place, "second")[0], key="second")
    assert list(group) == ["named", "second"]
    assert (len(group), "named" in group, uuid in group) == (2, True, False)
    assert {change["kind"] for change in group.changes()} == {"added"}
    group.set_metadata({"about": "members"})
    assert group.push().n_set == 2
    with ebooklet.open(place.connect("group"), file_path=None) as cold:
        assert dict(cold.items()) == dict(group.items())
        assert [type(value) for value in cold.values()] == [dict, dict]
        assert cold.get_metadata() == {"about": "members"}
        assert set(cold.keys("na")) == {"named"}
        assert cold["named"]["uuid"] == uuid
    del group["named"]
    assert group.pop("second")["remote_conn"]["db_key"] == "second"
    assert group.changes().pending_deletes == {"named", "second"}
    group.discard(["named"])
    assert list(group) == ["named"]
    group.set_timestamp("named", 5)
    assert group.push()
    assert group.get_timestamp("named") == 5


# Entries.


def test_what_an_entry_says(place: Place, group: RemoteConnGroup) -> None:
    """Version 1: type, time, the member's metadata, mine, and how to reach it; and the uuid."""
    member, uuid = make_member(place, metadata={"title": "a member"})
    assert group.add(member, user_meta={"mine": [1, None]}) == uuid
    entry = group[uuid]
    with place.open("member", file=None, flag="r") as db:
        base = db._copy.base
        assert base is not None
        committed = base.head.ms * 1000
    assert entry == {
        "entry_version": 1,
        "type": "EVariableLengthValue",
        "timestamp": committed,
        "uuid": uuid,
        "remote_meta": {"title": "a member"},
        "user_meta": {"mine": [1, None]},
        "remote_conn": member.to_dict(),
    }
    assert set(entry["remote_conn"]) == {"db_key", "bucket", "endpoint_url", "db_url"}


@pytest.mark.parametrize(
    ("metadata", "user_meta"),
    [(None, None), (0, 0), ([], {}), ("text", "text"), (LARGE, LARGE), ({"1": None}, {1: "int"})],
    ids=["none", "zero", "empty", "text", "large", "keys"],
)
def test_metadata_in_an_entry(
    place: Place, group: RemoteConnGroup, metadata: Any, user_meta: Any
) -> None:
    """Whatever JSON holds, however large; None where there is none."""
    member, uuid = make_member(place, metadata=metadata)
    group.add(member, user_meta=user_meta)
    assert group[uuid]["remote_meta"] == metadata
    assert group[uuid]["user_meta"] == ({"1": "int"} if user_meta == {1: "int"} else user_meta)
    assert group.push()
    with ebooklet.open(place.connect("group"), None) as cold:
        assert cold[uuid] == group[uuid]


def test_a_group_in_a_group(place: Place, group: RemoteConnGroup) -> None:
    """The type says so."""
    group.push()
    with ebooklet.open_rcg(place.connect("outer"), place.path("o"), "c") as outer:
        key = outer.add(connection(place, "group"))
        assert outer[key]["type"] == "RemoteConnGroup"
        assert outer[key]["remote_meta"] is None


def test_keys_of_entries(place: Place, group: RemoteConnGroup) -> None:
    """The uuid by default; an explicit key takes the place of an entry under it, and only of that."""
    member, uuid = make_member(place)
    other, other_uuid = make_member(place, "other")
    assert group.add(member) == uuid
    assert group.add(other) == other_uuid
    assert group.add(member, "first") == "first"
    assert set(group) == {"first", other_uuid}
    assert group.add(member, key="second") == "second"
    assert set(group) == {"first", "second", other_uuid}
    assert group.add(other, key=other_uuid) == other_uuid
    assert group.add(member) == uuid
    assert set(group) == {"first", "second", uuid, other_uuid}
    for key in ("a", "A.b_c-9", "..", "-", "0" * 200):
        assert group.add(member, key=key) == key
    assert group.add(other, key="first") == "first"
    assert group["first"]["uuid"] == other_uuid


def test_adding_again_replaces(place: Place, group: RemoteConnGroup) -> None:
    """A change even if equal; a member that moved on is described as it is now."""
    member, uuid = make_member(place)
    group.add(member, user_meta="old")
    group.push()
    assert group.add(member, user_meta="old") == uuid
    assert [change["kind"] for change in group.changes()] == ["modified"]
    assert group.push().n_set == 1
    before = group[uuid]
    with place.open("member", file=None) as db:
        db["k"] = 2
        db.set_metadata("new")
        db.push()
    assert group[uuid] == before
    group.add(member)
    after = group[uuid]
    assert (after["remote_meta"], after["user_meta"]) == ("new", None)
    assert after["timestamp"] > before["timestamp"]


ASSIGN: dict[str, Callable[[RemoteConnGroup, Any], object]] = {
    "[]=": lambda group, value: group.__setitem__("k", value),
    "set": lambda group, value: group.set("k", value),
    "update": lambda group, value: group.update({"k": value}),
    "setdefault": lambda group, value: group.setdefault("k", value),
    "add": lambda group, value: group.add(value, key="k"),
}


@pytest.mark.parametrize("way", ASSIGN)
def test_assigning_a_connection_adds_it(place: Place, group: RemoteConnGroup, way: str) -> None:
    """set, [], update and setdefault are add with a key; anything but a connection is a TypeError."""
    member, uuid = make_member(place)
    group.add(member)
    ASSIGN[way](group, member)
    assert list(group) == ["k"]
    assert group["k"]["uuid"] == uuid
    assert group["k"]["remote_conn"] == member.to_dict()
    del group["k"]
    for wrong in (None, 5, "memory://x", b"x", member.to_dict(), {"remote_conn": {}}, object()):
        with pytest.raises(TypeError):
            ASSIGN[way](group, wrong)
    assert list(group) == []
    missing = connection(place, "nothing there")
    with pytest.raises(ebooklet.RemoteMissingError) as error:
        ASSIGN[way](group, missing)
    assert isinstance(error.value, ValueError)
    assert list(group) == []


def test_setdefault_returns_the_entry_there_is(place: Place, group: RemoteConnGroup) -> None:
    """Without asking any member."""
    member, _ = make_member(place)
    entry = group.setdefault("k", member)
    assert entry == group["k"]
    assert group.setdefault("k", None) == entry


WRONG: dict[str, tuple[Callable[[RemoteConnGroup, Any], object], type[Exception]]] = {
    "key int": (lambda group, member: group.add(member, key=5), TypeError),  # type: ignore[arg-type]  # wrong on purpose
    "key bytes": (lambda group, member: group.add(member, key=b"k"), TypeError),  # type: ignore[arg-type]  # wrong on purpose
    "set None": (lambda group, member: group.set(None, member), TypeError),  # type: ignore[arg-type]  # wrong on purpose
    "[None]": (lambda group, member: group.__setitem__(None, member), TypeError),  # type: ignore[index]  # wrong on purpose
    "[5]": (lambda group, member: group.__setitem__(5, member), TypeError),  # type: ignore[index]  # wrong on purpose
    "empty": (lambda group, member: group.add(member, key=""), ValueError),
    "a space": (lambda group, member: group.add(member, key="a b"), ValueError),
    "a slash": (lambda group, member: group.add(member, key="a/b"), ValueError),
    "a letter": (lambda group, member: group.add(member, key="ü"), ValueError),
    "a line": (lambda group, member: group.add(member, key="a\n"), ValueError),
    "long": (lambda group, member: group.add(member, key="a" * 65_536), ValueError),
    "object": (lambda group, member: group.add(member, user_meta=object()), TypeError),
    "set": (lambda group, member: group.add(member, user_meta={1, 2}), TypeError),
    "bytes": (lambda group, member: group.add(member, user_meta=b"x"), TypeError),
    "deep": (lambda group, member: group.add(member, user_meta=[{"a": object()}]), TypeError),
    "raw": (lambda group, member: group.set("k", member, encode_value=False), TypeError),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_add_refuses(place: Place, group: RemoteConnGroup, case: str) -> None:
    """Wrong types are TypeErrors, other letters in a key a ValueError; nothing is stored."""
    member, _ = make_member(place)
    call, error = WRONG[case]
    with pytest.raises(error):
        call(group, member)
    assert list(group) == []
    assert not list(group.changes())


def test_a_reader_adds_nothing(place: Place, group: RemoteConnGroup) -> None:
    """ReadOnlyError from every way in."""
    member, _ = make_member(place)
    group.push()
    group.close()
    with ebooklet.open_rcg(place.connect("group"), place.path("g")) as reader:
        for way in ASSIGN.values():
            with pytest.raises(ebooklet.ReadOnlyError):
                way(reader, member)


def test_what_is_no_database_of_ours_is_no_member(place: Place, group: RemoteConnGroup) -> None:
    """Refused by name; a server that does not answer is no missing member."""
    store, key = place.store("stranger")
    store.put(key, b"something else")
    store.close()
    with pytest.raises(ebooklet.UnsupportedFormatError):
        group.add(connection(place, "stranger"))
    down = ebooklet.S3Connection(
        "id", "secret secret", "k", "b", endpoint_url="http://127.0.0.1:9", retries=0
    )
    with pytest.raises(ebooklet.RemoteUnavailable):
        group.add(down)
    assert list(group) == []


# Opening entries, on each server, with and without credentials.


def test_an_entry_opens_its_member(
    s3_server: S3Server, bucket: str, public_url: str, tmp_path: Path
) -> None:
    """Read-only through its db_url; with credentials beside it, for writing too; never by itself."""
    public = s3_server.connection(bucket, "public", db_url=f"{public_url}/public")
    hidden = s3_server.connection(bucket, "hidden")
    group_conn = s3_server.connection(bucket, "group", db_url=f"{public_url}/group")
    for conn in (public, hidden):
        with ebooklet.open(conn, None, "c", "json") as db:
            db["name"] = conn.db_key
            db.push()
    with ebooklet.open_rcg(group_conn, None, "c") as group:
        group["public"], group["hidden"] = public, hidden
        group.push()

    with ebooklet.open(f"{public_url}/group", tmp_path / "theirs.blt") as theirs:
        assert isinstance(theirs, ebooklet.RemoteConnGroup)
        entries = dict(theirs.items())
    for entry in (entries["public"], entries["public"]["remote_conn"]):
        with ebooklet.open(entry, None) as db:
            assert dict(db) == {"name": "public"}
            assert not db.writable
    for flag in ("w", "c", "n"):
        with pytest.raises(ValueError):
            ebooklet.open(entries["public"], tmp_path / "p.blt", flag)
        with pytest.raises(ValueError):
            ebooklet.open(entries["hidden"], tmp_path / "h.blt", flag)
    with pytest.raises(ValueError, match="access_key_id"):
        ebooklet.open(entries["hidden"], tmp_path / "h.blt")

    keys: dict[str, Any] = {
        "access_key_id": s3_server.access_key_id,
        "access_key": s3_server.access_key,
    }
    inner = entries["hidden"]["remote_conn"]
    supplied: list[dict[str, Any] | ebooklet.S3Connection] = [
        {**entries["hidden"], **keys},
        {**inner, **keys},
        ebooklet.S3Connection(**inner, **keys),
    ]
    for n, remote_conn in enumerate(supplied):
        with ebooklet.open(remote_conn, None, "w") as db:
            db[f"{n}"] = n
            assert db.push()
    with ebooklet.open(hidden, None) as db:
        assert dict(db) == {"name": "hidden", "0": 0, "1": 1, "2": 2}
    assert entries["hidden"]["remote_conn"] == hidden.to_dict()  # the entry itself is as it was


def test_an_entry_brings_nothing_but_a_place(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Anybody may have written it: its credentials are refused, and its pickles are a stranger's.

    Fails if whoever publishes a group can have programs unpickle what they wrote, from a server of
    their own that the entry names, with keys that it brings or that the program puts beside it.
    """
    theirs = s3_server.connection(bucket, "theirs")
    with ebooklet.open(theirs, None, "c", "pickle") as db:
        db["k"] = 1
        db.push()
    keys: dict[str, Any] = {
        "access_key_id": s3_server.access_key_id,
        "access_key": s3_server.access_key,
    }
    entry: dict[str, Any] = {"remote_conn": theirs.to_dict()}
    with pytest.raises(ValueError, match="holds no credentials") as caught:
        ebooklet.open({"remote_conn": {**entry["remote_conn"], **keys}}, tmp_path / "a.blt")
    assert str(s3_server.access_key) not in str(caught.value)
    with pytest.raises(ebooklet.errors.SerializationError, match="group's entry"):
        ebooklet.open({**entry, **keys}, tmp_path / "a.blt")
    assert not list(tmp_path.iterdir())
    with ebooklet.open({**entry, **keys}, None, allow_pickle=True) as db:
        assert db["k"] == 1
    for field in ("db_key", "bucket", "endpoint_url", "db_url"):
        with pytest.raises(TypeError, match="strings"):
            ebooklet.open({"remote_conn": {**entry["remote_conn"], field: ["x"]}, **keys}, None)


# No credentials anywhere in what is stored or said.


def test_no_credentials_are_stored_or_said(
    s3_server: S3Server,
    bucket: str,
    public_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not in an object, a local file or its folder, a cache, a log, a repr or an error; decompressed too."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    conn = s3_server.connection(bucket, "member", db_url=f"{public_url}/member")
    group_conn = s3_server.connection(bucket, "group", db_url=f"{public_url}/group")
    with ebooklet.open(conn, tmp_path / "m.blt", "c", "json") as db:
        db.update({f"{n:04}": {"marker": "a known text", "n": n} for n in range(500)})
        db.set_metadata({"marker": "known metadata"})
        said += [repr(db), repr(db.push("a message")), repr(db.lock), repr(db.changes())]
        db["pending"] = 1
    with ebooklet.open_rcg(group_conn, tmp_path / "g.blt", "c") as group:
        group.add(conn, user_meta={"marker": "of an entry that is replaced"})
        group.add(conn, key="named", user_meta={"marker": "known user_meta"})
        said += [repr(group), str(dict(group)), repr(list(group.changes()))]
        group.push()
        group.add(conn, key="pending")
        group.load_items()
    with ebooklet.open(f"{public_url}/group", tmp_path / "public.blt") as group:
        entry = group["named"]
        said.append(str(entry))
    with ebooklet.open(entry, tmp_path / "entry.blt") as db:
        db.load_items()
    for connection in (conn, group_conn):
        address = connection.address()
        said += [repr(connection), str(connection), repr(address), str(address)]
        said += [repr(connection.to_dict()), connection.dumps().decode()]
    attempts: tuple[Callable[[], object], ...] = (
        lambda: ebooklet.open(conn, tmp_path / "missing" / "m.blt"),
        lambda: ebooklet.open(conn, tmp_path / "m.blt", "x"),  # type: ignore[call-overload]  # wrong on purpose
        lambda: ebooklet.open(conn, tmp_path / "g.blt", "w"),
        lambda: ebooklet.open(s3_server.connection(bucket, "nothing"), tmp_path / "n.blt"),
        lambda: ebooklet.open(s3_server.connection("no-bucket", "x"), tmp_path / "n.blt", "c"),
        lambda: ebooklet.open_rcg(conn, tmp_path / "m.blt"),
        lambda: s3_server.connection(bucket, "x", endpoint_url="nonsense"),
        lambda: s3_server.connection(bucket, "x", threads=0),
    )
    for attempt in attempts:
        with pytest.raises(Exception) as error:
            attempt()
        said += error_texts(error.value)
    said += [record.getMessage() for record in caplog.records if "ebooklet" in record.name]
    said += [*capsys.readouterr()]

    stored: dict[str, bytes] = {}
    client = s3_server.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", ()):
            body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            stored[f"s3:{item['Key']}"] = body
    for folder in (tmp_path, Path(os.environ["XDG_CACHE_HOME"])):
        for path in folder.rglob("*"):
            if path.is_file():
                stored[str(path)] = path.read_bytes()
    assert {"s3:member", "s3:group"} <= set(stored)
    assert any(name.endswith("m.blt") for name in stored)
    assert any(".ebk/" in name for name in stored)
    texts = [clear for body in stored.values() for clear in in_the_clear(body)]
    texts += [text.encode() for text in said]
    # The search finds what is known to be there: entries, values, metadata, in the bucket too.
    bucket_texts = [
        t for name in stored if name.startswith("s3:") for t in in_the_clear(stored[name])
    ]
    for known in (b"a known text", b"known metadata", b"known user_meta", bucket.encode()):
        assert any(known in text for text in texts)
        assert any(known in text for text in bucket_texts)
    for secret in (s3_server.access_key, s3_server.access_key_id):
        for form in forms(secret):
            assert not [text[:200] for text in texts if form in text]


def error_texts(error: BaseException | None) -> list[str]:
    """All that an error and its causes say."""
    texts: list[str] = []
    while error is not None:
        texts += [str(error), repr(error), str(vars(error))]
        error = error.__cause__ or error.__context__
    return texts


def in_the_clear(body: bytes) -> Iterator[bytes]:
    """The bytes, and what every zstd frame in them holds."""
    yield body
    at = body.find(zstandard.MAGIC_NUMBER.to_bytes(4, "little"))
    while at >= 0:
        try:
            unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(body[at:])
        except zstandard.ZstdError:
            unpacked = b""
        if unpacked:
            yield unpacked
        at = body.find(zstandard.MAGIC_NUMBER.to_bytes(4, "little"), at + 1)


def forms(secret: str) -> Iterator[bytes]:
    """A text as it is, backwards, in hexadecimal, and in base64 at each alignment."""
    data = secret.encode()
    yield data
    yield data[::-1]
    yield data.hex().encode()
    yield secret.encode("utf-16-le")
    for shift in range(3):
        yield base64.b64encode(b" " * shift + data)[4:-4]
