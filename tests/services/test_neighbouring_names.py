"""Databases whose names lie close together: apart on every server, or refused aloud."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

import pytest

import ebooklet
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.connection import RemoteAddress, S3Connection
from ebooklet.core.names import mint_sid, sid_text
from ebooklet.errors import (
    NameClashError,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    StoreError,
    UUIDMismatchError,
)
from ebooklet.plugins.registry import Registry, RemoteOpener
from ebooklet.ports.remote_store import ObjectMeta, RemoteStore, StoredObject
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.servers import S3Server, start_rclone

LONGEST = "x" * 200
NAMES: Final = (
    "a",
    "a2",
    "A",
    "a.bak",
    "a b",
    "a+b",
    "a%20b",
    "a%2Fb",
    "a/b",
    "f/b",
    unicodedata.normalize("NFC", "ä"),
    unicodedata.normalize("NFD", "ä"),
    "日本",
    "🦊",
    "a&b=c?d#e",
    LONGEST,
    LONGEST[:-1],
)
FEW: Final = ("a", "a2", "A", "a b", "a%20b", "a/b", *NAMES[10:12])
SERVERS: Final = ("seaweedfs", "moto", "ministack", "juicefs", "rclone")
DRIVERS: Final = ("boto3", "minio", "obstore", "fsspec")
IN_FOLDERS: Final = ("juicefs", "rclone")  # cannot hold `a` beside `a/b`
OLD_SEGMENT: Final = sid_text(mint_sid(1, bytes(10)))

Remote = str | S3Connection
Objects = Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class Bucket:
    """One bucket and the databases in it."""

    connect: Callable[[str], Remote]
    objects: Callable[[], Objects]  # name to version and size
    plant: Callable[[str], object]  # puts an object there
    names: Sequence[str]
    lock: Literal["exclusive", "optimistic"]
    tells_time: bool = True  # of the server; without, nothing is swept


def _cells(*, representative: Sequence[tuple[str, str]]) -> list[Any]:
    return [
        pytest.param(
            driver,
            server,
            id=f"{driver}-{server}",
            marks=[
                pytest.mark.matrix(
                    "names", driver, server, representative=(driver, server) in representative
                ),
                pytest.mark.xdist_group(server),
            ],
        )
        for driver in DRIVERS
        for server in SERVERS
    ]


def _on_server(server: S3Server, driver: str) -> Bucket:
    bucket, client = server.new_bucket(), server.client()

    def objects() -> Objects:
        found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {one["Key"]: (one["ETag"], one["Size"]) for one in found if one["Key"][-1] != "/"}

    return Bucket(
        lambda key: server.connection(bucket, key, driver=driver),
        objects,
        lambda key: client.put_object(Bucket=bucket, Key=key, Body=b"nobody's"),
        [
            name
            for name in NAMES
            if not (name == "a/b" and server.name in IN_FOLDERS)
            and not (name == NAMES[11] and server.name == "rclone")  # it normalises Unicode
        ],
        "optimistic",
        tells_time=driver != "obstore",
    )


def _in_store(store: RemoteStore, connect: Callable[[str], Remote]) -> Bucket:
    return Bucket(
        connect,
        lambda: {meta.key: (meta.etag, meta.size) for meta in store.list("")},
        lambda key: store.put(key, b"nobody's"),
        NAMES,
        "optimistic",
    )


def _quoted(key: str) -> str:
    return key.replace("%", "%25").replace("?", "%3F").replace("#", "%23")


def _create(bucket: Bucket, name: str, file: Path | None = None) -> None:
    with ebooklet.open(
        bucket.connect(name), file, "c", value_serializer="json", lock=bucket.lock
    ) as db:
        assert len(db) == 0
        db["name"] = name
        assert db.push()


def _belongs(key: str, name: str) -> bool:
    return key in (name, f"{name}.alt") or key.startswith((f"{name}.d/", f"{name}.lock"))


def _without(objects: Objects, name: str) -> Objects:
    return {key: found for key, found in objects.items() if not _belongs(key, name)}


def _keep_apart(bucket: Bucket, tmp_path: Path) -> None:
    """Create all, read all cold, remove from one after the other, and look at the others."""
    first, again, *others = bucket.names
    _create(bucket, first)  # before those below it, as servers with folders want it
    _create(bucket, again, tmp_path / "again.blt")
    with ThreadPoolExecutor(4) as pool:  # locks cost a second each on some servers
        list(pool.map(lambda name: _create(bucket, name), others))
        cold = list(pool.map(lambda name: _contents(bucket, name), bucket.names))
    assert cold == [{"name": name} for name in bucket.names]

    for name in ("a", "a b") if bucket.tells_time else ():
        orphan = f"{name}.d/{OLD_SEGMENT}"
        bucket.plant(orphan)
        before = bucket.objects()
        report = ebooklet.fsck(bucket.connect(name), delete_orphans=True, min_age=0)
        assert report.swept == (orphan,)
        after = bucket.objects()
        assert _without(after, name) == _without(before, name)
        assert orphan not in after

    before = bucket.objects()
    with ebooklet.open(
        bucket.connect("A"), None, "n", value_serializer="json", lock=bucket.lock
    ) as db:
        db["name"] = "replaced"
        assert db.push()
    assert _without(bucket.objects(), "A") == _without(before, "A")

    for name in bucket.names:
        before = bucket.objects()
        with ebooklet.open_session(bucket.connect(name), "w") as session:
            session.delete_remote()
        after = bucket.objects()
        assert _without(after, name) == _without(before, name)
        assert [
            key for key in after if _belongs(key, name) and not key.startswith(f"{name}.lock")
        ] == []

    _create(bucket, again)
    before = bucket.objects()
    for flag in ("r", "w"):
        with pytest.raises(UUIDMismatchError):
            ebooklet.open(bucket.connect(again), tmp_path / "again.blt", flag, lock=bucket.lock)
    assert bucket.objects() == before
    assert _contents(bucket, again) == {"name": again}


def _contents(bucket: Bucket, name: str) -> dict[str, object]:
    with ebooklet.open(bucket.connect(name)) as db:
        return dict(db.items())


@pytest.mark.parametrize(("driver", "server"), _cells(representative=[("boto3", "seaweedfs")]))
def test_neighbours_stay_apart(
    driver: str, server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Every name is a database of its own, and what is deleted of one is nothing of another."""
    bucket = _on_server(request.getfixturevalue(server), driver)
    if not request.config.getoption("--servers"):
        bucket = replace(bucket, names=FEW)
    _keep_apart(bucket, tmp_path)


def test_neighbours_stay_apart_in_memory(tmp_path: Path) -> None:
    """The same, by URL, where a key is escaped as in any URL."""
    place = uuid4().hex
    bucket = _in_store(MemoryRemoteStore(place), lambda key: f"memory://{place}/{_quoted(key)}")
    _keep_apart(bucket, tmp_path)


def test_neighbours_stay_apart_in_a_folder(tmp_path: Path) -> None:
    """The same in a folder, which holds `a` beside `a/b` under names of its own."""
    root = tmp_path / "bucket"
    root.mkdir()

    def connect(key: str) -> str:
        folder, _, _ = key.rpartition("/")
        (root / folder).mkdir(exist_ok=True)  # a folder is a bucket of its own
        return f"file://{root}/{_quoted(key)}"

    bucket = _in_store(FilesystemRemoteStore(root), connect)
    names = [name for name in NAMES if "/" not in name]
    _keep_apart(replace(bucket, names=names), tmp_path)


# Where a server cannot hold an object beside a folder of its name.


def _clash(connect: Callable[[str], Remote], first: str, second: str, folder: Path) -> None:
    """The second is refused by name, the first is as it was, and the way out works."""
    kept, refused = folder / f"1-{len(first)}.blt", folder / f"2-{len(first)}.blt"
    with ebooklet.open(connect(first), kept, "c", value_serializer="json") as db:
        db["name"] = first
        assert db.push()
    elsewhere = f"elsewhere-{len(second)}"
    # Made while the remote was out of reach, so that something is pending.
    with ebooklet.open(None, refused, "c", value_serializer="json") as db:
        db["name"] = second
    for _ in range(2):
        with (
            pytest.raises(NameClashError) as caught,
            ebooklet.open(connect(second), refused, "c") as db,
        ):
            db.push()
        assert caught.value.key == second
        assert repr(second) in str(caught.value)
        assert repr(first) in str(caught.value)
        assert isinstance(caught.value, ValueError)
    with ebooklet.open(connect(first), kept, "w") as db:
        db["more"] = True
        assert db.push()
    with ebooklet.open(connect(first)) as db:
        assert dict(db.items()) == {"name": first, "more": True}
    with ebooklet.open(None, refused) as db:
        assert [change["kind"] for change in db.changes()] == ["added"]
    with ebooklet.open(connect(elsewhere), refused, "w") as db:
        assert db.push()
    with ebooklet.open(connect(elsewhere)) as db:
        assert dict(db.items()) == {"name": second}
    assert ebooklet.fsck(connect(first)).ok


@pytest.mark.parametrize(("driver", "server"), _cells(representative=[("boto3", "seaweedfs")]))
def test_a_folder_in_the_way(
    driver: str, server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """`p/b` after `p`, and `q` after `q/b`: both live, or the second is refused with both names."""
    running: S3Server = request.getfixturevalue(server)
    bucket = running.new_bucket()

    def connect(key: str) -> S3Connection:
        return running.connection(bucket, key, driver=driver)

    for first, second in (("p", "p/b"), ("q/b", "q")):
        if server in IN_FOLDERS or (server, second) == ("seaweedfs", "q"):
            _clash(connect, first, second, tmp_path)
            continue
        for name in (first, second):
            with ebooklet.open(connect(name), None, "c", value_serializer="json") as db:
                db["name"] = name
                assert db.push()
        for name in (first, second):
            with ebooklet.open(connect(name)) as db:
                assert db["name"] == name


class InFolders:
    """A store that keeps objects in folders, and says so in one of the ways that servers have."""

    def __init__(self, store: RemoteStore, refusal: type[StoreError]) -> None:
        self._store = store
        self._refusal = refusal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, body: Any, **options: Any) -> ObjectMeta:
        parts = key.split("/")
        above = ["/".join(parts[:length]) for length in range(1, len(parts))]
        if any(map(self._holds, above)) or any(True for _ in self._store.list(f"{key}/")):
            raise self._refusal("a folder is not a file", op="put", key=key)
        return self._store.put(key, body, **options)

    def delete(self, keys: Any) -> None:
        for key in keys:
            parts = key.split("/")
            above = ["/".join(parts[:length]) for length in range(1, len(parts))]
            # As rclone does: an absent object below takes the one above with it.
            self._store.delete([key, *filter(self._holds, above)])

    def _holds(self, key: str) -> bool:
        try:
            self._store.head(key)
        except ObjectNotFound:
            return False
        return True


class OneStore(Registry):
    """Opens one store, whatever the URL; the path is the key."""

    def __init__(self, store: Any) -> None:
        super().__init__()
        self._only = store

    def remote_store(self, scheme: str) -> RemoteOpener:
        def opener(address: RemoteAddress) -> tuple[RemoteStore, str]:
            return self._only, address.path

        return opener


@pytest.mark.parametrize("refusal", [PreconditionFailed, StoreError, OutcomeUnknown])
@pytest.mark.parametrize(("first", "second"), [("p", "p/b"), ("q/b", "q")])
def test_however_a_store_refuses(first: str, second: str, refusal: type[StoreError]) -> None:
    """The error names both keys, and neither database is any different."""
    plain = MemoryRemoteStore()
    options: dict[str, Any] = {
        "registry": OneStore(InFolders(plain, refusal)),
        "clock": ManualClock(),
    }
    with ebooklet.open(f"x://y/{first}", None, "c", "json", **options) as db:
        db["name"] = first
        assert db.push()
    before = {meta.key: plain.get(meta.key).body for meta in plain.list(first)}
    with ExitStack() as stack:
        caught = stack.enter_context(pytest.raises(NameClashError))
        db = stack.enter_context(ebooklet.open(f"x://y/{second}", None, "c", "json", **options))
        db["name"] = second
        db.push()
    assert caught.value.other == first
    assert caught.value.key == second
    assert repr(first) in str(caught.value)
    assert {key: plain.get(key).body for key in before} == before


# Where a server takes two names for one.


class Folding:
    """A store that finds an object by any name that it folds to the same."""

    def __init__(self, store: RemoteStore, fold: Callable[[str], str]) -> None:
        self._store = store
        self._fold = fold

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _stored(self, key: str) -> str:
        folded = self._fold(key)
        return next((m.key for m in self._store.list("") if self._fold(m.key) == folded), key)

    def get(self, key: str, **span: Any) -> StoredObject:
        return self._store.get(self._stored(key), **span)

    def head(self, key: str) -> ObjectMeta:
        return self._store.head(self._stored(key))

    def put(self, key: str, body: Any, **options: Any) -> ObjectMeta:
        return self._store.put(self._stored(key), body, **options)

    def delete(self, keys: Any) -> None:
        self._store.delete([self._stored(key) for key in keys])

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        start = self._fold(prefix)
        return (m for m in self._store.list("", after=after) if self._fold(m.key).startswith(start))


def _never_overwritten(connect: Callable[[str], Any], one: str, other: str, folder: Path) -> None:
    """Whatever is done under the other name, the first database stays as it is."""
    options: dict[str, Any] = {"value_serializer": "json"}

    def open_(name: str, file: Path | None, flag: Any, **more: Any) -> ebooklet.EBooklet[Any]:
        given = connect(name)
        remote = given.pop("remote_conn")
        return ebooklet.open(remote, file, flag, **given, **more)

    with open_(one, folder / "one.blt", "c", **options) as db:
        db["name"] = one
        assert db.push()
    with ebooklet.open(None, folder / "other.blt", "c", **options) as db:
        db["name"] = other
    for file, flag in ((None, "r"), (None, "c"), (None, "n"), (folder / "other.blt", "w")):
        with pytest.raises(NameClashError) as caught:
            open_(other, file, flag)
        assert caught.value.other == one
        assert repr(one) in str(caught.value)
        assert repr(other) in str(caught.value)
    with ebooklet.open(None, folder / "other.blt") as db:
        assert [change["kind"] for change in db.changes()] == ["added"]
    with open_(one, folder / "one.blt", "w") as db:
        db["more"] = True
        assert db.push()
    with open_(one, None, "r") as db:
        assert dict(db.items()) == {"name": one, "more": True}


@pytest.mark.parametrize(
    ("one", "other", "fold"),
    [
        ("a", "A", str.casefold),
        ("X/db", "x/db", str.casefold),
        (
            unicodedata.normalize("NFC", "ä"),
            unicodedata.normalize("NFD", "ä"),
            lambda key: unicodedata.normalize("NFC", key),
        ),
        ("a/b", "a\\b", lambda key: key.replace("\\", "/")),
    ],
    ids=["case", "case of a folder", "unicode", "backslash"],
)
@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_names_that_a_store_takes_for_one(
    kind: str, one: str, other: str, fold: Callable[[str], str], tmp_path: Path
) -> None:
    """FORMAT 10.20: the second name is refused by all that reads or writes, and told for what.

    Fails without: the look at the name in a head that was read.
    """
    (tmp_path / "bucket").mkdir()
    inner = MemoryRemoteStore() if kind == "memory" else FilesystemRemoteStore(tmp_path / "bucket")
    registry = OneStore(Folding(inner, fold))

    def connect(name: str) -> dict[str, Any]:
        return {"remote_conn": f"x://y/{name}", "registry": registry}

    _never_overwritten(connect, one, other, tmp_path)


@pytest.mark.parametrize("name", ["a.alt", "a.ALT", "a.D/b", "a.Lock", "a.LOCK.x", "f/a.Alt"])
def test_names_of_the_objects_of_another(name: str) -> None:
    """Where case does not count, `a.ALT` is the second copy of the head of `a`: refused anywhere."""
    with pytest.raises(ValueError, match="which name our own objects"):
        ebooklet.open(f"memory://{uuid4().hex}/{name}", flag="c")


@pytest.mark.matrix("names", "boto3", "rclone, folding", representative=False)
def test_a_server_that_folds_case(tmp_path: Path) -> None:
    """The same on a server over a folder in which case does not count."""
    with start_rclone(tmp_path / "rclone", folds_case=True) as server:
        bucket = server.new_bucket()
        _never_overwritten(
            lambda name: {"remote_conn": server.connection(bucket, name)}, "a", "A", tmp_path
        )


def test_a_head_moved_by_hand_is_found_under_any_other_name() -> None:
    """Only names that some server could take for one are compared: copies of objects still open."""
    place = uuid4().hex
    with ebooklet.open(f"memory://{place}/old", flag="c", value_serializer="json") as db:
        db["a"] = 1
        assert db.push()
    store = MemoryRemoteStore(place)
    for meta in list(store.list("old")):
        store.put(meta.key.replace("old", "folder/new", 1), store.get(meta.key).body)
    with ebooklet.open(f"memory://{place}/folder/new", flag="w") as db:
        assert db["a"] == 1
