"""What every remote store owes the core: subclass, provide a `store` fixture, run pytest."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pytest

from ebooklet.errors import (
    EBookletError,
    ObjectNotFound,
    PreconditionFailed,
    RemoteIntegrityError,
    StoreError,
    UnsupportedOperation,
)
from ebooklet.ports.remote_store import (
    ByteRange,
    Capabilities,
    IfAbsent,
    IfMatch,
    ObjectMeta,
    Origin,
    RemoteStore,
)
from ebooklet.testing.contract import Contract

__all__ = ["RemoteStoreContract", "Wire"]

T = TypeVar("T")

_RACERS: Final = 8
_DAY_MS: Final = 86_400_000
_NEIGHBOURS: Final = ("a", "a2", "a/b", "A", "a.d/x", "a/b/c", "a-b")
_ODD_KEYS: Final = (
    "with space/and more",
    " lead and trail ",
    "%41",
    "%2F%25",
    "100%",
    "plus+and&eq=?#*",
    "quotes'\"<>",
    "colon:semi;comma,at@",
    "ünïcödé/日本語/🙂",
    "e\u0301 not composed",
    "..a",
    "a..",
    "...",
    ".hidden",
    ".ebooklet/lock",
    ".ebooklet.d",
    "trailing.",
    "~tilde",
    "[a-z]{1}|^`",
)
_BAD_KEYS: Final = (
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/./b",
    "a/../b",
    "../a",
    "x" * 1025,
    "\ud800",
)


def _together(calls: Sequence[Callable[[], T]]) -> list[T | EBookletError]:
    """Run all calls at the same moment; a store's error is a result like any other."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | EBookletError:
        barrier.wait()
        try:
            return call()
        except EBookletError as exc:
            return exc

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def _keys(metas: Iterable[ObjectMeta]) -> list[str]:
    return sorted(meta.key for meta in metas)


@dataclass(frozen=True)
class Wire:
    """An empty store, and what passed between it and its server since the beginning."""

    store: RemoteStore
    bytes_moved: Callable[[], int]
    conditions_sent: Callable[[], int]  # requests with If-Match or If-None-Match


class RemoteStoreContract(Contract):
    """Tests of the promises in `ebooklet.ports.remote_store.RemoteStore`, by their numbers.

    Fixtures to provide:
        store: a `RemoteStore` that holds no object and that no other test uses.
        secrets: strings that must never be shown; none by default.
        wire: a store of the same kind whose traffic is counted; None by default, where nothing
            crosses any wire.
        neighbour: a second empty store of the same server and identity, in another bucket or
            folder; None by default, where a kind of store has no such thing.
    """

    @pytest.fixture
    def secrets(self) -> tuple[str, ...]:
        """Override where the store has credentials."""
        return ()

    @pytest.fixture
    def wire(self) -> Wire | None:
        """Override where a store has a server: what crosses to it shows what the store can do."""
        return None

    @pytest.fixture
    def neighbour(self) -> RemoteStore | None:
        """Override where there can be two stores of one server."""
        return None

    # Whole objects.

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
        assert _keys(store.list("k")) == ["k"]

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

        assert _together([write, read, read, read]) == [0, 0, 0, 0]

    # Versions and conditions.

    def test_all_answers_name_one_version(self, store: RemoteStore) -> None:
        """Promise 2: put, get, a part, head and list agree on the ETag and the size."""
        put = store.put("k", b"body")
        (listed,) = store.list("k")
        answers = [
            store.get("k").meta,
            store.get("k", start=1, stop=2).meta,
            store.head("k"),
            listed,
        ]
        assert [(m.key, m.size, m.etag) for m in answers] == [("k", 4, put.etag)] * 4

    def test_another_body_has_another_etag(self, store: RemoteStore) -> None:
        """Bodies of one size, put one right after the other, are told apart by their ETags."""
        etags = {store.put("k", b"body %02d" % i).etag for i in range(20)}
        assert len(etags) == 20

    def test_if_absent_creates(self, store: RemoteStore) -> None:
        """Promise 3: where nothing stands, `IfAbsent` writes."""
        self._needs_conditions(store)
        assert store.put("k", b"first", condition=IfAbsent()).etag == store.head("k").etag
        assert store.get("k").body == b"first"

    def test_if_absent_admits_one_writer(self, store: RemoteStore) -> None:
        """Promises 1, 3: the second creator is refused and the first body stays."""
        self._needs_conditions(store)
        store.put("k", b"first", condition=IfAbsent())
        with pytest.raises(PreconditionFailed):
            store.put("k", b"second", condition=IfAbsent())
        assert store.get("k").body == b"first"

    def test_if_absent_after_delete(self, store: RemoteStore) -> None:
        """Promise 3: a deleted object is absent."""
        self._needs_conditions(store)
        store.put("k", b"first")
        store.delete(["k"])
        store.put("k", b"second", condition=IfAbsent())
        assert store.get("k").body == b"second"

    def test_if_match_replaces(self, store: RemoteStore) -> None:
        """Promise 3: a chain of replacements, each naming the version before, goes through."""
        self._needs_conditions(store)
        etag = store.put("k", b"0").etag
        for body in (b"1", b"2", b"3"):
            etag = store.put("k", body, condition=IfMatch(etag)).etag
        assert store.get("k").body == b"3"
        assert store.get("k").meta.etag == etag

    def test_if_match_takes_the_etag_of_any_answer(self, store: RemoteStore) -> None:
        """Promise 3: the ETag of a get, a head or a list names the version as that of a put."""
        self._needs_conditions(store)
        store.put("k", b"0")
        store.put("k", b"1", condition=IfMatch(store.get("k").meta.etag))
        store.put("k", b"2", condition=IfMatch(store.head("k").etag))
        (listed,) = store.list("k")
        store.put("k", b"3", condition=IfMatch(listed.etag))
        assert store.get("k").body == b"3"

    def test_if_match_refuses_a_stale_version(self, store: RemoteStore) -> None:
        """Promises 1, 3: a version that was replaced is never replaced again."""
        self._needs_conditions(store)
        stale = store.put("k", b"first").etag
        store.put("k", b"second")
        with pytest.raises(PreconditionFailed):
            store.put("k", b"third", condition=IfMatch(stale))
        assert store.get("k").body == b"second"

    def test_if_match_refuses_a_missing_object(self, store: RemoteStore) -> None:
        """Promise 3: nothing to replace is refused, and nothing is created."""
        self._needs_conditions(store)
        etag = store.put("k", b"first").etag
        store.delete(["k"])
        with pytest.raises(PreconditionFailed):
            store.put("k", b"second", condition=IfMatch(etag))
        with pytest.raises(ObjectNotFound):
            store.get("k")

    def test_raced_creation_has_one_winner(self, store: RemoteStore) -> None:
        """Promise 3: of creators at the same moment one is told of success, and its body stays."""
        self._needs_conditions(store)
        self._race(store, IfAbsent())

    def test_raced_replacement_has_one_winner(self, store: RemoteStore) -> None:
        """Promise 3: of replacers of one version one is told of success, and its body stays."""
        self._needs_conditions(store)
        self._race(store, IfMatch(store.put("k", b"before").etag))

    # Parts.

    def test_parts_of_an_object(self, store: RemoteStore) -> None:
        """Promise 7: a part is exactly the bytes asked for, and knows the whole object's size."""
        body = bytes(range(256)) * 4
        store.put("k", body)
        for start, stop in ((0, 1), (0, 1024), (1, 2), (100, 612), (1023, 1024)):
            found = store.get("k", start=start, stop=stop)
            assert found.body == body[start:stop]
            assert found.meta.size == 1024
        assert store.get("k", start=1000).body == body[1000:]

    def test_parts_beyond_the_end(self, store: RemoteStore) -> None:
        """Promise 7: `get` gives what there is, and nothing where there is nothing."""
        store.put("k", b"0123456789")
        assert store.get("k", start=4, stop=99).body == b"456789"
        assert store.get("k", stop=99).body == b"0123456789"
        for start, stop in ((10, 11), (10, None), (99, 100), (5, 5), (0, 0)):
            found = store.get("k", start=start, stop=stop)
            assert found.body == b""
            assert found.meta.size == 10

    def test_impossible_parts(self, store: RemoteStore) -> None:
        """Promise 5: a range that no object can have is refused."""
        store.put("k", b"0123456789")
        for start, stop in ((-1, None), (-5, 5), (5, 4)):
            with pytest.raises(StoreError):
                store.get("k", start=start, stop=stop)

    def test_many_ranges_come_in_order(self, store: RemoteStore) -> None:
        """Promise 7: parts of several objects come as asked, repeated and overlapping ones too."""
        bodies = {f"d/{i}": bytes([i]) * 50 + bytes(range(200)) for i in range(5)}
        for key, body in bodies.items():
            store.put(key, body)
        wanted = [
            ByteRange(f"d/{i * 7 % 5}", i * 3 % 200, i * 3 % 200 + 1 + i % 50) for i in range(60)
        ]
        expected = [bodies[part.key][part.start : part.stop] for part in wanted]
        assert list(store.get_ranges(wanted)) == expected
        assert list(store.get_ranges([])) == []

    def test_a_failed_range_stands_in_its_place(self, store: RemoteStore) -> None:
        """A missing object or a part past the end yields its error; the others still come."""
        store.put("k", b"0123456789")
        found = list(
            store.get_ranges(
                [
                    ByteRange("k", 0, 4),
                    ByteRange("absent", 0, 4),
                    ByteRange("k", 8, 12),
                    ByteRange("k", 20, 24),
                    ByteRange("k", 6, 10),
                ]
            )
        )
        assert found[0] == b"0123"
        assert isinstance(found[1], ObjectNotFound)
        assert isinstance(found[2], RemoteIntegrityError)
        assert isinstance(found[3], RemoteIntegrityError)
        assert found[4] == b"6789"

    def test_ranges_may_be_left_early(self, store: RemoteStore) -> None:
        """Who has seen enough stops, and the store works on."""
        store.put("k", b"0123456789")
        for _ in range(3):
            parts = iter(store.get_ranges([ByteRange("k", i % 10, i % 10 + 1) for i in range(40)]))
            assert next(parts) == b"0"
            del parts
        assert store.get("k").body == b"0123456789"

    # Names.

    def test_absent_objects(self, store: RemoteStore) -> None:
        """Promise 5: reading what is absent is `ObjectNotFound`, also beside and below objects."""
        store.put("a/b", b"body")
        for key in ("k", "a", "a/b/c", "a/", "a/bc")[:3]:
            with pytest.raises(ObjectNotFound):
                store.get(key)
            with pytest.raises(ObjectNotFound):
                store.get(key, start=1, stop=3)
            with pytest.raises(ObjectNotFound):
                store.get(key, start=3, stop=3)
            with pytest.raises(ObjectNotFound):
                store.head(key)

    def test_neighbours_are_separate(self, store: RemoteStore) -> None:
        """Promise 6: names that begin alike, or differ in case, name objects of their own."""
        for key in _NEIGHBOURS:
            store.put(key, key.encode())
        for key in _NEIGHBOURS:
            assert store.get(key).body == key.encode()
        assert _keys(store.list("")) == sorted(_NEIGHBOURS)
        for key in reversed(_NEIGHBOURS):
            store.put(key, key.encode() * 2)
        assert [store.get(key).body for key in _NEIGHBOURS] == [
            key.encode() * 2 for key in _NEIGHBOURS
        ]

    def test_delete_spares_neighbours(self, store: RemoteStore) -> None:
        """Promise 6: a deletion removes its object and no other."""
        for gone in _NEIGHBOURS:
            for key in _NEIGHBOURS:
                store.put(key, key.encode())
            store.delete([gone])
            kept = [key for key in _NEIGHBOURS if key != gone]
            assert _keys(store.list("")) == sorted(kept)
            assert [store.get(key).body for key in kept] == [key.encode() for key in kept]

    def test_a_head_beside_its_segments(self, store: RemoteStore) -> None:
        """Promise 6: the names of a database's own objects never clash, on any server."""
        keys = ["deep/db", "deep/db.d/01arz3ndektsv4rrffq69g5fav", "deep/db.lock", "deep/db.alt"]
        for key in keys:
            store.put(key, key.encode())
        assert [store.get(key).body for key in keys] == [key.encode() for key in keys]
        assert _keys(store.list("deep/db.d/")) == [keys[1]]
        store.delete(keys)
        assert _keys(store.list("")) == []

    def test_odd_names(self, store: RemoteStore) -> None:
        """Promise 6: spaces, `%`, signs and all of Unicode name one object each, and list so."""
        for key in _ODD_KEYS:
            store.put(key, key.encode())
        for key in _ODD_KEYS:
            assert store.get(key).body == key.encode()
        assert _keys(store.list("")) == sorted(_ODD_KEYS)
        assert _keys(store.list("%")) == ["%2F%25", "%41"]
        if store.capabilities.server_side_copy:
            store.copy("ünïcödé/日本語/🙂", "cöpy %20+")
            assert store.get("cöpy %20+").body == "ünïcödé/日本語/🙂".encode()
        store.delete([*_ODD_KEYS, "cöpy %20+"])
        assert _keys(store.list("")) == []

    def test_backslash_in_a_name(self, store: RemoteStore) -> None:
        """Promise 6: a backslash is a letter, no separator."""
        store.put("a\\b", b"letter")
        store.put("a/b", b"separator")
        assert store.get("a\\b").body == b"letter"
        assert _keys(store.list("a")) == ["a/b", "a\\b"]

    def test_control_characters_in_a_name(self, store: RemoteStore) -> None:
        """Promise 6: line ends and tabs are letters, and come back from a list."""
        keys = ["tab\tin", "line\nend", "return\rend"]
        for key in keys:
            store.put(key, key.encode())
        assert [store.get(key).body for key in keys] == [key.encode() for key in keys]
        assert _keys(store.list("")) == sorted(keys)

    def test_long_names(self, store: RemoteStore) -> None:
        """Promise 6: a component may take all of the 1024 bytes."""
        keys = ["x" * 1024, "x" * 1023, "d/" + "é" * 511, "x" * 250, "x" * 251, "x" * 255]
        for key in keys:
            store.put(key, key[-3:].encode())
        assert [store.get(key).body for key in keys] == [key[-3:].encode() for key in keys]
        assert _keys(store.list("")) == sorted(keys)
        assert _keys(store.list("x" * 252)) == sorted(k for k in keys if k.startswith("x" * 252))

    def test_names_that_are_refused(self, store: RemoteStore) -> None:
        """Promise 6: a name on which stores disagree is refused, by every call and for one reason."""
        store.put("k", b"body")
        for key in _BAD_KEYS:
            for call in (
                lambda key: store.put(key, b"bad"),
                store.get,
                store.head,
                lambda key: store.delete([key]),
                lambda key: store.copy("k", key),
                lambda key: store.copy(key, "k"),
            ):
                with pytest.raises(StoreError) as caught:
                    call(key)
                assert not isinstance(caught.value, ObjectNotFound)
        assert _keys(store.list("")) == ["k"]
        assert store.get("k").body == b"body"

    # List, delete, copy.

    def test_list_by_prefix(self, store: RemoteStore) -> None:
        """Every object whose key starts with the prefix comes once, with its size, and no other."""
        keys = ["db", "db.d/1", "db.d/2", "db.d/10", "db.e", "db.d.x/1", "other/db.d/1", "db2.d/1"]
        for key in keys:
            store.put(key, key.encode())
        for prefix in ("", "d", "db", "db.", "db.d", "db.d/", "db.d/1", "other", "x", "db.d/1/"):
            metas = list(store.list(prefix))
            assert _keys(metas) == sorted(key for key in keys if key.startswith(prefix))
            assert all(meta.size == len(meta.key) for meta in metas)

    def test_list_after_a_key(self, store: RemoteStore) -> None:
        """`after` leaves out what is not greater, whether or not it exists itself."""
        keys = [f"d/{letter}" for letter in "aceg"]
        for key in keys:
            store.put(key, b"")
        for after in ("", "a", "d", "d/a", "d/b", "d/e", "d/g", "e"):
            assert _keys(store.list("d/", after=after)) == [key for key in keys if key > after]

    def test_list_knows_what_just_happened(self, store: RemoteStore) -> None:
        """Promise 2: a list shows each put and each deletion that returned before it began."""
        for i in range(5):
            store.put(f"d/{i}", b"x" * i)
            assert _keys(store.list("d/")) == [f"d/{j}" for j in range(i + 1)]
        for i in range(5):
            store.delete([f"d/{i}"])
            assert _keys(store.list("d/")) == [f"d/{j}" for j in range(i + 1, 5)]

    def test_list_of_strange_prefixes(self, store: RemoteStore) -> None:
        """Promise 6: a prefix that no name can have lists nothing, and leads nowhere else."""
        store.put("a/b", b"body")
        for prefix in ("../", "a/../", "./", "//", "a//", "a/./b"):
            assert _keys(store.list(prefix)) == []

    def test_delete_is_idempotent(self, store: RemoteStore) -> None:
        """Deleting many, from any iterable, removes what there is; the absent is no error."""
        for i in range(5):
            store.put(f"d/{i}", b"body")
        store.delete(f"d/{i}" for i in range(1, 8))
        store.delete(["d/1", "never/was"])
        store.delete([])
        assert _keys(store.list("")) == ["d/0"]
        with pytest.raises(ObjectNotFound):
            store.head("d/1")

    def test_copy(self, store: RemoteStore) -> None:
        """A copy has the body under its own version, replaces what stood there, and is apart."""
        self._needs_copies(store)
        store.put("from/k", b"body")
        store.put("to/k", b"something longer")
        copied = store.copy("from/k", "to/k")
        found = store.get("to/k")
        assert found.body == b"body"
        assert (copied.key, copied.size, copied.etag) == ("to/k", 4, found.meta.etag)
        store.put("from/k", b"changed")
        assert store.get("to/k").body == b"body"

    def test_copy_of_nothing(self, store: RemoteStore) -> None:
        """Promise 5: copying what is absent is `ObjectNotFound`, and the target stays."""
        self._needs_copies(store)
        store.put("to", b"body")
        with pytest.raises(ObjectNotFound):
            store.copy("absent", "to")
        assert store.get("to").body == b"body"

    def test_copy_from_a_neighbour(self, store: RemoteStore, neighbour: RemoteStore | None) -> None:
        """Promise 9: the server copies from another bucket or folder of its own, which stays."""
        if neighbour is None:
            pytest.skip("this kind of store has no neighbours")
        bodies = {"from/k": b"body", "a b/ünï %2F+": bytes(range(256)) * (5 << 12), "empty": b""}
        for key, body in bodies.items():
            neighbour.put(key, body)
        store.put("copy/from/k", b"something that stood there")
        assert store.copies_from(neighbour.origin)
        for key, body in bodies.items():
            copied = store.copy(key, f"copy/{key}", origin=neighbour.origin)
            found = store.get(f"copy/{key}")
            assert found.body == body
            assert (copied.size, copied.etag) == (len(body), found.meta.etag)
        assert _keys(store.list("")) == sorted(f"copy/{key}" for key in bodies)
        assert _keys(neighbour.list("")) == sorted(bodies)
        with pytest.raises(ObjectNotFound):
            store.copy("absent", "copy/empty", origin=neighbour.origin)
        assert store.get("copy/empty").body == b""

    def test_an_origin_out_of_reach(self, store: RemoteStore) -> None:
        """Promise 9: a store says what it can copy from, and refuses any other origin."""
        assert store.copies_from(store.origin) is store.capabilities.server_side_copy
        store.put("k", b"body")
        if store.capabilities.server_side_copy:
            assert store.copy("k", "copy", origin=store.origin).size == 4
            assert store.capabilities.max_copy_bytes >= 65 << 20
        elsewhere = Origin(("another server", "another identity"), "k")
        assert not store.copies_from(None)
        assert not store.copies_from(elsewhere)
        with pytest.raises(UnsupportedOperation):
            store.copy("k", "to", origin=elsewhere)
        assert "to" not in _keys(store.list(""))

    # The store itself.

    def test_many_threads(self, store: RemoteStore) -> None:
        """One store serves many threads, each seeing its own objects right."""

        def work(worker: int) -> int:
            for i in range(6):
                body = bytes([worker, i]) * 500
                store.put(f"{worker}/k", body)
                assert store.get(f"{worker}/k").body == body
                assert store.get(f"{worker}/k", start=10, stop=20).body == body[10:20]
            store.delete([f"{worker}/k"])
            return worker

        def job(worker: int) -> Callable[[], int]:
            return lambda: work(worker)

        assert _together([job(i) for i in range(_RACERS)]) == list(range(_RACERS))
        assert _keys(store.list("")) == []

    def test_errors_say_what_was_tried(self, store: RemoteStore) -> None:
        """Promise 5: an error carries the operation and the key, so that nobody parses messages."""
        with pytest.raises(ObjectNotFound) as caught:
            store.get("absent key")
        assert (caught.value.op, caught.value.key) == ("get", "absent key")
        with pytest.raises(ObjectNotFound) as caught:
            store.head("absent key")
        assert (caught.value.op, caught.value.key) == ("head", "absent key")

    def test_clock(self, store: RemoteStore) -> None:
        """The store's time is known after an answer, and objects are stamped by that clock."""
        meta = store.put("k", b"body")
        now = store.server_time_ms()
        assert now is not None
        assert abs(now - meta.modified_ms) < _DAY_MS or meta.modified_ms == 0
        assert abs(now - store.head("k").modified_ms) < _DAY_MS
        assert (store.server_time_ms() or 0) >= now - 1000

    def test_capabilities(self, store: RemoteStore) -> None:
        """A store says what it can do, and a segment fits into one atomic put."""
        assert isinstance(store.capabilities, Capabilities)
        assert store.capabilities.writable
        assert store.capabilities.max_put_bytes >= 65 << 20

    def test_conditions_are_sent_or_refused(self, store: RemoteStore, wire: Wire | None) -> None:
        """`conditional_put` tells the truth: conditions cross the wire, or are refused unsent."""
        if not store.capabilities.conditional_put:
            store.put("k", b"body")
            for condition in (IfAbsent(), IfMatch(store.head("k").etag or '"etag"')):
                for key in ("k", "new"):
                    with pytest.raises(UnsupportedOperation):
                        store.put(key, b"other", condition=condition)
            assert _keys(store.list("")) == ["k"]
            assert store.get("k").body == b"body"
        if wire is not None:
            before = wire.conditions_sent()
            with suppress(UnsupportedOperation):
                etag = wire.store.put("k", b"body", condition=IfAbsent()).etag
                wire.store.put("k", b"other", condition=IfMatch(etag))
            sent = wire.conditions_sent() - before
            assert sent == (2 if store.capabilities.conditional_put else 0)

    def test_parts_cost_their_own_bytes(self, wire: Wire | None) -> None:
        """`ranges` tells the truth: a part of a large object moves little, or the whole."""
        if wire is None:
            pytest.skip("nothing crosses a wire")
        store, body = wire.store, bytes(range(256)) * (4 << 10)
        store.put("k", body)
        before = wire.bytes_moved()
        assert store.get("k", start=1000, stop=1100).body == body[1000:1100]
        assert list(store.get_ranges([ByteRange("k", 7, 11)])) == [body[7:11]]
        assert (wire.bytes_moved() - before < len(body) // 4) is store.capabilities.ranges

    def test_copies_move_no_body(self, wire: Wire | None) -> None:
        """`server_side_copy` tells the truth: a copy moves no body, or is refused."""
        if wire is None:
            pytest.skip("nothing crosses a wire")
        store, body = wire.store, bytes(range(256)) * (4 << 10)
        store.put("k", body)
        before = wire.bytes_moved()
        if store.capabilities.server_side_copy:
            assert store.copy("k", "copy").size == len(body)
            assert wire.bytes_moved() - before < len(body) // 4
            assert store.get("copy").body == body
        else:
            with pytest.raises(UnsupportedOperation):
                store.copy("k", "copy")

    def test_it_is_a_remote_store(self, store: RemoteStore) -> None:
        """The object has all of the port's methods."""
        assert isinstance(store, RemoteStore)

    def test_nothing_secret_is_shown(self, store: RemoteStore, secrets: tuple[str, ...]) -> None:
        """Promise 8: neither `repr` nor the location nor an error holds a secret."""
        with pytest.raises(ObjectNotFound) as caught:
            store.get("absent")
        shown = (
            f"{store!r} {store} {store.location} {caught.value!r} {caught.value} {store.origin!r}"
        )
        assert store.location
        assert not [secret for secret in secrets if secret in shown]

    def test_close_is_idempotent(self, store: RemoteStore) -> None:
        """Closing twice is no error."""
        store.put("k", b"body")
        store.close()
        store.close()

    def _needs_conditions(self, store: RemoteStore) -> None:
        if not store.capabilities.conditional_put:
            pytest.skip("this store cannot send conditions, and says so")

    def _needs_copies(self, store: RemoteStore) -> None:
        if not store.capabilities.server_side_copy:
            pytest.skip("this store cannot copy, and says so")

    def _race(self, store: RemoteStore, condition: IfAbsent | IfMatch) -> None:
        def job(racer: int) -> Callable[[], ObjectMeta]:
            return lambda: store.put("k", b"racer %d" % racer, condition=condition)

        results = _together([job(i) for i in range(_RACERS)])
        winners = [i for i, result in enumerate(results) if isinstance(result, ObjectMeta)]
        losers = [result for result in results if isinstance(result, EBookletError)]
        assert len(winners) == 1, results
        assert all(isinstance(loser, PreconditionFailed) for loser in losers), losers
        assert store.get("k").body == b"racer %d" % winners[0]
