"""CONTRACT §7, `copy_remote`: what is committed, whole, to a place without a database."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.core.head import Head, decode_head
from ebooklet.core.names import segment_key
from ebooklet.database import EBooklet
from ebooklet.errors import ReadOnlyError, RemoteMissingError
from ebooklet.services.retained import retained_segments
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import S3Server
from tests.contract.conftest import Place, make_place

pytestmark = pytest.mark.filterwarnings("ignore:.*plain http:UserWarning")


def content(db: EBooklet[Any]) -> dict[str, tuple[Any, int]]:
    """Every key with its value and timestamp."""
    return {key: (value, timestamp) for key, timestamp, value in db.timestamps(include_value=True)}


def head_of(place: Place, db_key: str = "db") -> Head:
    store, key = place.store(db_key)
    try:
        return decode_head(store.get(key).body, key=key)
    finally:
        store.close()


def in_use(place: Place, db_key: str = "db") -> dict[str, int | None]:
    """R(H) by object name."""
    store, key = place.store(db_key)
    try:
        sizes = retained_segments(store, key, decode_head(store.get(key).body, key=key)).sizes
        return {segment_key(key, sid): size for sid, size in sizes.items()}
    finally:
        store.close()


def segments(objects: dict[str, bytes], db_key: str) -> dict[str, bytes]:
    """Segment id to body."""
    prefix = f"{db_key}.d/"
    return {name[len(prefix) :]: b for name, b in objects.items() if name.startswith(prefix)}


def named(place: Place, name: str) -> str:
    """The name, where its folder has to exist and does: a file place has folders of its own."""
    if place.kind == "file":
        (place.folder / "bucket" / name).parent.mkdir(exist_ok=True)
    return name


def fill(db: EBooklet[Any]) -> None:
    """A few commits: values of all sizes, a deletion, metadata too large for the head."""
    random_ = random.Random(7)
    db.update({f"k{n:03}": random_.randbytes(n).hex() for n in range(200)})
    db.set("stamped", [1, None, {"é": "ü"}], timestamp=1_234_567)
    db.push("first")
    db["large"] = random_.randbytes(300_000).hex()
    del db["k007"]
    db.push("second")
    db.set_metadata({"text": "m" * 100_000}, timestamp=77)
    db.push("metadata only")


@pytest.fixture
def source(place: Place) -> Iterator[EBooklet[Any]]:
    """A writer's handle on `db`, with a history and something pending."""
    with place.open() as db:
        fill(db)
        db["pending"] = "not committed"
        del db["k008"]
        yield db


def test_a_copy_is_what_was_committed(place: Place, source: EBooklet[Any]) -> None:
    """Values, timestamps, metadata, uuid and history; not what is pending, which stays so."""
    name = named(place, "other/copy é +%20")
    before = place.objects()
    assert source.copy_remote(place.connect(name)) is None
    assert {change["key"] for change in source.changes()} == {"pending", "k008"}
    assert segments(place.objects(), "db") == segments(before, "db")
    with place.open("db", "reader", "r") as old, place.open(name, "b", "w") as new:
        assert new.uuid == old.uuid == source.uuid
        assert content(new) == content(old)
        assert {"k008", "large", "stamped"} <= set(new)
        assert new.get_timestamp("stamped") == 1_234_567
        assert new.get_metadata(include_timestamp=True) == ({"text": "m" * 100_000}, 77)
        assert "pending" not in new
        new["later"] = 1
        assert new.push()
    old_head, new_head = head_of(place), head_of(place, name)
    assert new_head.tip.parents == (old_head.branch.commit.id,)
    assert new_head.recent[: len(old_head.recent)] == old_head.recent
    with place.open("db", "reader", "r") as old:
        assert "later" not in old


def test_exactly_what_is_retained_is_copied(place: Place, source: EBooklet[Any]) -> None:
    """Segments of the whole history, byte for byte, and no leftover of failed pushes."""
    store, key = place.store()
    leftover = segment_key(key, bytes(15) + b"\x01")
    store.put(leftover, b"of a push that failed")
    store.close()
    source.copy_remote(place.connect("copy"))
    copied = segments(place.objects("copy"), "copy")
    expected = segments(place.objects("db"), "db")
    del expected[leftover.partition("/")[2]]
    assert copied == expected
    assert {f"copy.d/{sid}": len(body) for sid, body in copied.items()} == {
        name: len(copied[name.partition("/")[2]]) if size is None else size
        for name, size in in_use(place, "copy").items()
    }


def test_neighbours_are_not_touched(place: Place, source: EBooklet[Any]) -> None:
    """Databases whose names begin alike, or lie below, keep every byte."""
    names = ["copy2", "copy.bak", "cop"]
    if place.kind != "seaweedfs":  # which takes a folder `copy` for an object in If-None-Match
        names.append(named(place, "copy/sub"))
    for name in names:
        with place.open(name, None) as db:
            db["name"] = name
            db.push()
    before = {name: place.objects(name) for name in names}
    source.copy_remote(place.connect("copy"))
    after = {name: place.objects(name) for name in names}
    copied = ("copy", "copy.alt")
    for name in names:
        kept = {
            key: body
            for key, body in after[name].items()
            if key not in copied and not key.startswith(("copy.d/", "copy.lock"))
        }
        assert kept == before[name]


def test_the_target_must_not_exist(place: Place, source: EBooklet[Any]) -> None:
    """`ValueError` for a database, for anything else in its place, and for the source's own."""
    with place.open("copy", None) as db:
        db["other"] = "database"
        db.push()
    store, _ = place.store("foreign")
    store.put("foreign", b"no database at all")
    store.close()
    before = place.objects("copy") | place.objects("foreign")
    for name in ("copy", "foreign", "db"):
        with pytest.raises(ValueError, match=name):
            source.copy_remote(place.connect(name))
    assert place.objects("copy") | place.objects("foreign") == before
    with place.open("copy", None, "r") as db:
        assert dict(db) == {"other": "database"}


def test_the_source_must_exist(place: Place) -> None:
    """`RemoteMissingError` for what was never pushed, and nothing appears at the target."""
    with place.open() as db:
        db["never"] = "pushed"
        with pytest.raises(RemoteMissingError, match="db"):
            db.copy_remote(place.connect("copy"))
        assert place.objects("copy") == {}
        db.push()
        db.copy_remote(place.connect("copy"))


@pytest.mark.parametrize("place", ["memory"], indirect=True)
def test_only_writers_copy_and_only_to_where_one_can_write(
    place: Place, source: EBooklet[Any]
) -> None:
    """A read-only handle, and a target that is a plain URL: `ReadOnlyError`, also a `ValueError`."""
    with place.open(file=None, flag="r") as reader, pytest.raises(ReadOnlyError):
        reader.copy_remote(place.connect("copy"))
    with pytest.raises(ReadOnlyError, match="credentials"):
        source.copy_remote("http://127.0.0.1:9/bucket/copy")
    for wrong in (7, None):
        with pytest.raises(TypeError):
            source.copy_remote(wrong)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match=r"\.lock"):
        source.copy_remote(f"{place.connect('x')}.lock")
    assert place.objects("copy") == place.objects("x") == {}


@pytest.mark.parametrize("place", ["memory", "file"], indirect=True)
def test_a_long_history_comes_along(place: Place) -> None:
    """More commits than a head holds, most of whose segments the newest does not need."""
    with place.open(file=None) as db:
        for n in range(100):
            db["n"] = [n, "x" * 200]
            assert db.push(f"number {n}")
        db.copy_remote(place.connect("copy"))
    assert head_of(place, "copy").log is not None
    assert segments(place.objects("copy"), "copy") == segments(place.objects("db"), "db")
    assert len(segments(place.objects("copy"), "copy")) == 100
    with place.open("copy", None, "w") as copy:
        assert copy["n"][0] == 99
        copy["n"] = [100, ""]
        assert copy.push().seq == 101


@pytest.mark.parametrize("place", ["memory", "file", "moto"], indirect=True)
def test_a_group_is_copied(place: Place, seaweedfs: S3Server) -> None:
    """A connection group stays one, entries and all."""
    member = seaweedfs.connection(seaweedfs.new_bucket(), "member")
    with ebooklet.open(member, flag="c", value_serializer="json") as db:
        db.push()
    with place.open(file=None, remote_conn_group=True) as group:
        assert isinstance(group, ebooklet.RemoteConnGroup)
        key = group.add(member, user_meta={"a": 1})
        group.push()
        group.copy_remote(place.connect("copy"))
    with ebooklet.open_rcg(place.connect("copy")) as copy:
        assert copy[key]["remote_conn"] == member.to_dict()
        assert copy[key]["user_meta"] == {"a": 1}


def test_an_empty_database_is_copied(place: Place) -> None:
    """One commit without keys is a database."""
    with place.open(file=None) as db:
        db.push()
        db.copy_remote(place.connect("copy"))
    with place.open("copy", None, "r") as copy:
        assert len(copy) == 0
        assert copy.uuid == db.uuid


WAYS = [
    pair
    for pair in itertools.permutations(("memory", "file", "seaweedfs", "moto"), 2)
    if pair not in (("file", "moto"), ("memory", "moto"), ("moto", "memory"))
]


@pytest.fixture
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Another place, of the kind that the test names."""
    folder = tmp_path / "far"
    folder.mkdir()
    return make_place(request.param, folder, request)


@pytest.mark.parametrize(("place", "far"), WAYS, indirect=True)
def test_from_place_to_place(place: Place, far: Place) -> None:
    """Through this process, from any kind of place to any other; local files follow either."""
    with place.open(named(place, "a db/ü")) as db:
        fill(db)
        expected = content(db)
        db.copy_remote(far.connect(named(far, "copy of/a db")))
    with far.open("copy of/a db", None, "w") as copy:
        assert content(copy) == expected
        copy["new"] = 1
        assert copy.push()
    with ebooklet.open(far.connect("copy of/a db"), place.path("a"), "r") as follows:
        assert follows["new"] == 1
        assert len(follows) == len(expected) + 1


def test_the_way_of_committing_is_the_targets_own(
    request: pytest.FixtureRequest, tmp_path: Path, locked_place: Place
) -> None:
    """From a server with conditional writes to one without, and back: each has its own mode."""
    (tmp_path / "cas").mkdir()
    place = make_place("seaweedfs", tmp_path / "cas", request)
    with place.open(file=None) as db:
        fill(db)
        expected = content(db)
        db.copy_remote(locked_place.connect("db"))
    assert head_of(place).proto.mode == "cas"
    assert head_of(locked_place).proto.mode == "lock"
    assert locked_place.objects()["db.alt"] == locked_place.objects()["db"]
    with locked_place.open(file=None, flag="w") as locked:
        assert content(locked) == expected
        locked["on"] = "rclone"
        assert locked.push()
        locked.copy_remote(place.connect("back"))
        with pytest.raises(ValueError, match="back"):
            locked.copy_remote(place.connect("back"))
        locked.copy_remote(locked_place.connect("other"))
    assert head_of(place, "back").proto.mode == "cas"
    assert "back.alt" not in place.objects("back")
    for where, name in ((place, "back"), (locked_place, "other")):
        with where.open(name, None, "w") as copy:
            assert content(copy) == content(locked_copy(locked_place))
            copy["more"] = 1
            assert copy.push()


def locked_copy(place: Place) -> EBooklet[Any]:
    return place.open(file=None, flag="r")


@pytest.mark.parametrize("server", ["seaweedfs", "moto", "rclone", "juicefs"])
def test_the_server_copies_where_keys_and_endpoint_agree(
    request: pytest.FixtureRequest, tmp_path: Path, server: str
) -> None:
    """Into another key and another bucket of one server no value passes through the client."""
    place = make_place(server, tmp_path, request)
    s3: S3Server = request.getfixturevalue(server)
    other_bucket = s3.new_bucket()
    values = {f"k{n}": random.Random(n).randbytes(500_000) for n in range(8)}
    with CountingProxy(s3.endpoint_url) as proxy:
        ProbeCache().put(proxy.url, SystemClock(), s3.mode_expected, "quoted", "")
        near = place.connect("db")
        assert isinstance(near, ebooklet.S3Connection)
        source = replace(near, endpoint_url=proxy.url)
        targets = [
            replace(source, db_key="copy ü"),
            replace(source, bucket=other_bucket),
        ]
        with ebooklet.open(source, flag="c", value_serializer="bytes") as db:
            db.update(values)
            db.push()
            for target in targets:
                proxy.reset()
                db.copy_remote(target)
                counts = proxy.counts()
                assert counts.by_kind["COPY"] >= 1
                assert counts.bytes_up + counts.bytes_down < 60_000
    for target in targets:
        with ebooklet.open(replace(target, endpoint_url=s3.endpoint_url)) as copy:
            assert dict(copy) == values


def test_other_keys_copy_through_the_client(seaweedfs: S3Server) -> None:
    """What the server would not copy for these keys is read with one pair and written with the other."""
    with CountingProxy(seaweedfs.endpoint_url) as proxy:
        ProbeCache().put(proxy.url, SystemClock(), "cas", "quoted", "")
        source = seaweedfs.connection(seaweedfs.new_bucket(), "db")
        target = replace(source, endpoint_url=proxy.url, db_key="copy")
        with ebooklet.open(source, flag="c", value_serializer="bytes") as db:
            db["k"] = random.Random(0).randbytes(100_000)
            db.push()
            db.copy_remote(target)
        assert "COPY" not in proxy.counts().by_kind
        assert proxy.counts().body_up > 100_000
        with ebooklet.open(target) as copy:
            assert dict(copy) == dict(db_values(source))


def db_values(connection: ebooklet.S3Connection) -> dict[str, Any]:
    with ebooklet.open(connection) as db:
        return dict(db)
