"""Contract tests of whole objects, as they are put and got."""

from __future__ import annotations

import io
import threading
from pathlib import Path

from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.contract import Contract
from ebooklet.testing.remote_store.listed import keys_of
from ebooklet.testing.remote_store.racing import together

__all__ = ["BodiesContract"]


class BodiesContract(Contract):
    """Whole objects."""

    def test_get_gives_what_put_stored(self, store: RemoteStore) -> None:
        """Promise 2: a body comes back as it was put, under the metadata that `put` returned."""
        put = store.put("k", b"body")
        found = store.get("k")
        assert found.body == b"body"
        assert (found.meta.key, found.meta.size, found.meta.etag) == ("k", 4, put.etag)
        assert (put.key, put.size) == ("k", 4)

    def test_put_replaces(self, store: RemoteStore) -> None:
        """Promise 2: the last body put is the one that is read, shorter or longer than before."""
        for body in (b"first", b"second and longer", b"3rd", b""):
            store.put("k", body)
            assert store.get("k").body == body
            assert store.head("k").size == len(body)

    def test_empty_body(self, store: RemoteStore) -> None:
        """Promise 2: an object of no bytes exists, and every way of reading it gives none."""
        store.put("k", b"")
        assert store.get("k").body == b""
        assert store.get("k", start=0, stop=10).body == b""
        assert store.get("k", start=5).body == b""
        assert keys_of(store.list("k")) == ["k"]

    def test_kinds_of_bodies(self, store: RemoteStore, tmp_path: Path) -> None:
        """A body may be bytes, bytearray, memoryview or a file, which is read from its position."""
        path = tmp_path / "body"
        path.write_bytes(b"headbody")
        store.put("bytearray", bytearray(b"body"))
        store.put("memoryview", memoryview(b"headbody")[4:])
        with path.open("rb") as file:
            file.seek(4)
            assert store.put("file", file).size == 4
        in_memory = io.BytesIO(b"headbody")
        in_memory.seek(4)
        store.put("in memory", in_memory)
        for key in ("bytearray", "memoryview", "file", "in memory"):
            assert store.get(key).body == b"body"

    def test_large_body(self, store: RemoteStore, tmp_path: Path) -> None:
        """Promise 7: a body of several megabytes comes back whole, from bytes and from a file."""
        body = bytes(range(256)) * (6 << 12) + b"odd"
        path = tmp_path / "body"
        path.write_bytes(body)
        store.put("bytes", body)
        with path.open("rb") as file:
            store.put("file", file)
        for key in ("bytes", "file"):
            found = store.get(key)
            assert found.meta.size == len(body)
            assert found.body == body

    def test_cache_control_is_accepted(self, store: RemoteStore) -> None:
        """A cache header changes nothing about the object."""
        store.put("k", b"body", cache_control="no-cache")
        assert store.get("k").body == b"body"

    def test_a_reader_never_sees_a_mix(self, store: RemoteStore) -> None:
        """Promise 1: while bodies of two lengths replace each other, each read is one of them."""
        bodies = {bytes([65 + i]) * (150_000 + 60_000 * i) for i in range(2)}
        store.put("k", min(bodies))
        writing = threading.Event()
        writing.set()

        def write() -> int:
            try:
                for _ in range(8):
                    for body in bodies:
                        store.put("k", body)
            finally:
                writing.clear()
            return 0

        def read() -> int:
            wrong = 0
            while writing.is_set():
                found = store.get("k")
                wrong += found.body not in bodies or found.meta.size != len(found.body)
            return wrong

        assert together([write, read, read, read]) == [0, 0, 0, 0]
