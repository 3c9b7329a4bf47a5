"""A bucket full of hostile bytes, met by all that a program does with a database.

Promised is an error of ours or a right value, bounded memory, and that nothing is imported, unpickled,
run, or opened outside of the local folder; not that a hostile writer's values are true.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.bootstrap.installed import INSTALLED
from ebooklet.errors import EBookletError, LocalFileError, SerializationError
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.servers import S3Server
from tests.fuzz.forging import entry, forged, honest, nowhere, placed
from tests.fuzz.guard import SCRATCH, measured, watched
from tests.fuzz.mutations import tampered

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")

ROOM: Final = 48 << 20  # bytes beside what is stored: a footer may claim 8 MiB, a node 2
_EXAMPLES: Final = int(os.environ.get("EBOOKLET_FUZZ_EXAMPLES", "15"))
_names: Final = itertools.count()

Deed = Callable[[Any, Path], object]


def _read(remote: Any, folder: Path) -> object:
    with open_database(remote, folder / f"r{next(_names)}.blt", "r") as db:
        db.load_items()
        found = dict(db.items())
        list(db.timestamps())
        db.get_metadata()
        db.pull()
        return found


def _write(remote: Any, folder: Path) -> object:
    path = folder / f"w{next(_names)}.blt"
    with open_database(remote, path, "w", lock_timeout=0) as db:
        with suppress(TypeError):  # in a group, where values are connections
            db["mine"] = "m" * 100
        with suppress(KeyError):
            del db["a"]
        db.changes()
        return db.push()


def _copy(remote: Any, folder: Path) -> object:
    with open_database(remote, None, "w", lock_timeout=0) as db:
        return db.copy_remote(f"memory://copy-{next(_names)}/db")


def _check(remote: Any, folder: Path) -> object:
    return ebooklet.fsck(remote, check_objects=True, lock_timeout=0)


def _sweep(remote: Any, folder: Path) -> object:
    return ebooklet.fsck(remote, delete_orphans=True, min_age=0, lock_timeout=0)


def _group(remote: Any, folder: Path) -> object:
    with suppress(TypeError), ebooklet.open_rcg(remote, None, "r") as group:
        return dict(group.items())
    return None


DEEDS: Final[dict[str, Deed]] = {
    "read": _read,
    "write": _write,
    "copy": _copy,
    "fsck": _check,
    "sweep": _sweep,
    "group": _group,
}


def harm(deed: Deed, remote: Any, folder: Path) -> str:
    """Do it, and say what came of it that must not; "" where nothing did."""
    with watched(folder, SCRATCH) as seen, measured() as peak:
        with suppress(EBookletError):
            deed(remote, folder)
        gc.collect(0)
    if seen:
        return f"seen: {seen}"
    return f"{peak.used} bytes of memory" if peak.used > ROOM else ""


@pytest.fixture(scope="module", autouse=True)
def _warmed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported and opened when a whole database is used."""
    folder = tmp_path_factory.mktemp("warm")
    lay(_OURS, folder / "bucket")
    for deed in DEEDS.values():
        deed(honest(), folder)
        deed(f"file://{folder}/bucket/db", folder)
        with suppress(EBookletError):
            deed(forged(head=HEADS["mode lock"]), folder)


def _objects(store: RemoteStore) -> dict[str, bytes]:
    return {meta.key: store.get(meta.key).body for meta in store.list("")}


_OURS: Final = _objects(honest())
_OTHERS: Final = [*_objects(honest({"other": "y" * 200})).values(), b"", bytes(1 << 20)]


def lay(objects: dict[str, bytes], folder: Path) -> None:
    """Put objects where a file:// remote has them."""
    for key, body in objects.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(body)


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("deed", DEEDS)
def test_any_object_may_hold_anything(
    kind: str, deed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tampered, foreign, empty or huge bytes in the place of some objects do no harm."""
    monkeypatch.chdir(tmp_path)  # files are opened below a folder's descriptor, by relative names
    root = tmp_path / "bucket"
    root.mkdir()

    @settings(
        max_examples=_EXAMPLES if kind == "memory" else _EXAMPLES // 5,
        deadline=None,
        derandomize="EBOOKLET_FUZZ_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        objects = dict(_OURS)
        chosen = st.sets(st.sampled_from(sorted(objects)), min_size=1, max_size=2)
        for key in sorted(data.draw(chosen)):
            bytes_ = tampered([objects[key]]) | st.sampled_from([*_OTHERS, *_OURS.values()])
            objects[key] = data.draw(bytes_)
        if kind == "memory":
            store = MemoryRemoteStore()
            for key, body in objects.items():
                store.put(key, body)
            assert harm(DEEDS[deed], store, tmp_path) == ""
            return
        folder = root / str(next(_names))
        lay(objects, folder)
        assert harm(DEEDS[deed], f"file://{folder}/db", tmp_path) == ""

    run()


@pytest.mark.parametrize("body", [b"", b"\0" * 100, bytes(1 << 20)], ids=len)
def test_a_servers_objects_may_hold_anything(
    body: bytes, seaweedfs: S3Server, tmp_path: Path
) -> None:
    """The same through a client library and a real server, which open files of their own."""
    bucket = seaweedfs.new_bucket()
    client = seaweedfs.client()
    for key in _OURS:
        for name, whole in _OURS.items():
            client.put_object(Bucket=bucket, Key=name, Body=body if name == key else whole)
        remote = seaweedfs.connection(bucket, "db")
        for deed in (_read, _write, _check):
            with watched(tmp_path) as seen, suppress(EBookletError):
                deed(remote, tmp_path)
            forbidden = ("pickle.", "os.system", "os.exec", "subprocess.", "os.posix_spawn")
            assert [event for event in seen if event.startswith(forbidden)] == []


KEYS: Final = (
    "../../x", "/etc/passwd", "a/../../b", "\0", "", "..", "C:\\x", "k" * 65_535, "é" * 30_000,
    "adb01ebc1ba3433eb043527", "7c40d2ea915b4f3a8e6d201", "f19a5c3d7e2b48069ab34c5",
    "%2e%2e%2f", "a\nb", "\u202e",
)  # fmt: skip

HEADS: Final[dict[str, dict[str, Any]]] = {
    "pickled keys": {"key_serializer": "pickle"},
    "no serializer": {"value_serializer": "os.system"},
    "nested": {"value_serializer": "json" + "+zstd" * 20},
    "path": {"value_serializer": "../../x"},
    "custom": {"value_serializer": "custom"},
    "metadata nowhere": {"metadata": None, "metadata_ref": nowhere()},
    "metadata no JSON": {"metadata": b"\xff{"},
    "metadata in time": {"metadata_timestamp": (1 << 56) - 1},
    "log nowhere": {"log": None},
    "name": {"name": "../../other"},
    "group": {"type": "group"},
    "last seq": {"seq": (1 << 63) - 1},
    "last fence": {"fence": (1 << 63) - 1},
    "last ms": {"ms": (1 << 48) - 1},
    "mode lock": {"proto": ebooklet.core.head.Proto("lock", "bare", 1, "x")},
}

INDEXES: Final[dict[str, list[Any]]] = {
    "keys": [entry(key) for key in KEYS],
    "before 1970": [entry("k", timestamp=-5)],
    "too late": [entry("k", timestamp=(1 << 63) - 1)],
    "after 2**56": [entry("k", timestamp=1 << 56)],
    "wrong digest": [entry("k", digest=bytes(16))],
    "wrong length": [entry("k", length=1 << 40)],
    "value of 4 GiB": [placed("k", 64, (1 << 32) - 1)],
    "values beyond": [placed(f"k{n}", (1 << 47) + n, 100) for n in range(50)],
    "values nowhere": [placed("k", 64, 10, b"\x09" * 16)],
    "values of nodes": [placed("k", 64, 100), placed("l", 0, 64)],
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("name", HEADS)
def test_a_head_may_say_anything(name: str, deed: str, tmp_path: Path) -> None:
    """Whatever a well-formed head claims, no module comes of it, no pickle, no foreign file."""
    assert harm(DEEDS[deed], forged(head=HEADS[name]), tmp_path) == ""


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("name", INDEXES)
def test_an_index_may_say_anything(name: str, deed: str, tmp_path: Path) -> None:
    """Keys that look like paths, times out of range and places that are none do no harm."""
    assert harm(DEEDS[deed], forged(INDEXES[name]), tmp_path) == ""


def test_a_strangers_pickles_stay_closed(tmp_path: Path) -> None:
    """A head that says pickle, at a place that can only be read, is refused before any value."""

    class Published(MemoryRemoteStore):
        capabilities = replace(MemoryRemoteStore().capabilities, writable=False)

    store = Published()
    for key, body in _objects(forged(head={"value_serializer": "pickle"})).items():
        store.put(key, body)
    INSTALLED.serializer("pickle")  # the module of this name, which imports no more than pickle
    with watched(tmp_path, SCRATCH) as seen, pytest.raises(SerializationError, match="run code"):
        _read(store, tmp_path)
    assert seen == []


def test_keys_are_no_paths(tmp_path: Path) -> None:
    """Whatever a key looks like, it is a key: beside the local file stands its folder, and no more."""
    folder = tmp_path / "local"
    folder.mkdir()
    keys = [key for key in KEYS if key not in ebooklet.core.keys.RESERVED_KEYS]
    with open_database(forged([entry(key) for key in keys]), folder / "db.blt", "r") as db:
        assert db.load_items() == {}
        assert dict(db.items()) == dict.fromkeys(keys, "value")
    assert {path.name for path in tmp_path.iterdir()} == {"local"}
    assert {path.name for path in folder.iterdir()} == {"db.blt", "db.blt.ebk"}


@pytest.mark.parametrize("what", ["folder", "nodes", "log.pending", "slot.head"])
@pytest.mark.parametrize("flag", ["r", "w"])
def test_links_beside_the_local_file_are_not_followed(what: str, flag: Any, tmp_path: Path) -> None:
    """The folder and what is in it are no links: one that leads elsewhere is refused or replaced."""
    store = honest()
    path = tmp_path / "db.blt"
    with open_database(store, path, "w") as db:
        db["pending"] = 1
    folder = tmp_path / "db.blt.ebk"
    elsewhere = tmp_path / "elsewhere"
    if what == "folder":
        folder.rename(elsewhere)
        folder.symlink_to(elsewhere)
        before = {file.name: file.read_bytes() for file in elsewhere.iterdir()}
        with pytest.raises(LocalFileError, match="symbolic link"):
            open_database(store, path, flag, lock_timeout=0)
        assert {file.name: file.read_bytes() for file in elsewhere.iterdir()} == before
        return
    target = folder / what
    target.unlink(missing_ok=True)
    elsewhere.write_bytes(b"precious")
    target.symlink_to(elsewhere)
    with suppress(EBookletError), open_database(store, path, flag, lock_timeout=0) as db:
        dict(db.items())
    assert elsewhere.read_bytes() == b"precious"
