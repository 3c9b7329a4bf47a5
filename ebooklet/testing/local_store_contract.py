"""What one handle of a local store owes the core: subclass, provide the fixture, run pytest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ebooklet.errors import ForkedProcessError
from ebooklet.ports.local_store import LocalStore, LocalValue
from ebooklet.testing.children import in_child
from ebooklet.testing.contract import Contract

__all__ = ["LocalStoreContract", "OpenLocalStore", "everything"]

UUID_GIVEN = UUID("0d3f2a50-6f0e-4bb5-9d0c-5b8f4d1c7e11")
AWKWARD_KEYS = ("", "\0", "/", "..", "%2F", "a b", "é", "e\u0301", "🐟", "k" * 16_000, "\n")


class OpenLocalStore(Protocol):
    """Opens a store; every call with the same `place` opens the same data."""

    def __call__(  # noqa: D102  # see the class
        self,
        place: str = "one",
        *,
        mode: str = "write",
        lock_timeout: float = 10.0,
        uuid: UUID | None = None,
        value_serializer: str | None = "bytes",
    ) -> LocalStore: ...


def everything(store: LocalStore) -> dict[str, LocalValue]:
    """All content, read through every way there is, which must agree."""
    names = sorted(store.keys())
    content = dict(store.get_many(names))
    assert sorted(content) == names
    assert len(names) == len(set(names)) == store.count()
    assert dict(store.timestamps()) == {key: entry.timestamp for key, entry in content.items()}
    return content


class LocalStoreContract(Contract):
    """What one handle owes.

    Fixtures to provide: `open_store`, an `OpenLocalStore` whose stores are closed at the end, but
    not kept alive until then.
    """

    examples: ClassVar[int] = 15  # of hypothesis, per test

    @pytest.fixture
    def store(self, open_store: OpenLocalStore) -> Iterator[LocalStore]:
        """A new store, open for writing."""
        store = open_store()
        yield store
        store.close()

    def test_is_a_local_store(self, store: LocalStore) -> None:
        """The adapter has every method of the port, and starts empty and new (promise 4)."""
        assert isinstance(store, LocalStore)
        assert store.condition == "new"
        assert store.writable
        assert store.count() == 0
        assert list(store.keys()) == []
        assert store.location

    def test_keeps_uuid_and_serializer(self, open_store: OpenLocalStore) -> None:
        """A store is created with the uuid and the serializer of its database."""
        for place, name in (("a", "bytes"), ("b", "pickle"), ("c", "cbor"), ("d", None)):
            store = open_store(place, uuid=UUID_GIVEN, value_serializer=name)
            assert (store.uuid, store.value_serializer) == (UUID_GIVEN, name)
            store.set("k", b"raw", 1)
            assert store.get("k") == b"raw"

    def test_makes_up_uuids(self, open_store: OpenLocalStore) -> None:
        """Without a uuid given, each store gets its own."""
        assert open_store("a").uuid != open_store("b").uuid

    def test_returns_what_was_set(self, store: LocalStore) -> None:
        """A value comes back with its timestamp, at once and through every way of reading."""
        store.set("k", b"value", 17)
        assert store.get("k") == b"value"
        assert store.get_entry("k") == LocalValue(17, b"value")
        assert store.contains("k")
        assert list(store.get_many(["k"])) == [("k", LocalValue(17, b"value"))]
        assert list(store.timestamps()) == [("k", 17)]

    def test_absent_is_none(self, store: LocalStore) -> None:
        """An absent key is None, an empty value is a value."""
        store.set("empty", b"", 0)
        assert store.get("empty") == b""
        assert store.get("absent") is None
        assert store.get_entry("absent") is None
        assert not store.contains("absent")

    def test_takes_any_key(self, store: LocalStore) -> None:
        """Keys are compared by code points; no character has a meaning."""
        for number, key in enumerate(AWKWARD_KEYS):
            store.set(key, str(number).encode(), number)
        assert sorted(store.keys()) == sorted(AWKWARD_KEYS)
        for number, key in enumerate(AWKWARD_KEYS):
            assert store.get_entry(key) == LocalValue(number, str(number).encode())

    def test_keeps_extreme_timestamps(self, store: LocalStore) -> None:
        """Timestamps reach from 0 to 2**56 - 1 µs."""
        for stamp in (0, 1, 2**56 - 1):
            store.set("k", b"", stamp)
            entry = store.get_entry("k")
            assert entry is not None
            assert entry.timestamp == stamp

    def test_keeps_large_values(self, store: LocalStore) -> None:
        """A value may exceed every buffer."""
        large = bytes(range(256)) * 40_000
        store.set("large", large, 1)
        store.set("after", b"x", 2)
        assert store.get("large") == large
        assert store.get("after") == b"x"

    def test_overwrites(self, store: LocalStore) -> None:
        """The last write of a key counts, whatever its timestamp."""
        store.set("k", b"old", 9)
        store.set("k", b"new", 3)
        assert everything(store) == {"k": LocalValue(3, b"new")}

    def test_deletes(self, store: LocalStore) -> None:
        """Deleting ignores absent keys and tells how many were there."""
        store.set_many((f"k{i}", b"v", i) for i in range(10))
        assert store.delete(["k1", "k2", "absent", "k2"]) == 2
        assert store.delete(iter(())) == 0
        assert store.count() == 8
        assert not store.contains("k1")
        store.set("k1", b"again", 5)
        assert store.get("k1") == b"again"

    def test_get_many_keeps_the_order_asked(self, store: LocalStore) -> None:
        """Keys come in the order asked, absent ones left out, repeated ones repeated."""
        store.set_many((f"k{i:03}", str(i).encode(), i) for i in range(300))
        few = ["k200", "absent", "k003", "k200"]
        assert [key for key, _ in store.get_many(few)] == ["k200", "k003", "k200"]
        many = [f"k{i * 7 % 310:03}" for i in range(310)]
        found = list(store.get_many(many))
        assert [key for key, _ in found] == [key for key in many if key < "k300"]
        assert all(entry.value == str(int(key[1:])).encode() for key, entry in found)

    def test_get_many_goes_on_while_writing(self, store: LocalStore) -> None:
        """Writes, deletions and compaction between two items break no stream (promise 3)."""
        names = [f"k{i:04}" for i in range(1500)]
        store.set_many((name, b"old " + name.encode(), 1) for name in names)
        seen: dict[str, bytes] = {}
        for number, (key, entry) in enumerate(store.get_many(names)):
            seen[key] = entry.value
            if number == 100:
                store.set_many((name, b"new " + name.encode(), 2) for name in names)
            if number == 400:
                store.delete(names[1400:])
            if number == 700:
                store.compact()
        assert set(names[:1000]) <= set(seen) <= set(names)
        assert not set(names[1400:]) & set(seen)
        assert all(v in (b"old " + k.encode(), b"new " + k.encode()) for k, v in seen.items())

    def test_set_many_may_read_the_store(self, store: LocalStore) -> None:
        """The iterable may read the store that it is written to."""
        store.set("k0", b"0", 0)

        def doubled() -> Iterator[tuple[str, bytes, int]]:
            for number in range(1, 600):
                before = store.get(f"k{number - 1}") if number == 1 else b"1"
                yield f"k{number}", (before or b"") + b"1", number

        store.set_many(doubled())
        assert store.count() == 600
        assert store.get("k1") == b"01"

    def test_set_many_keeps_what_came_before_an_error(self, store: LocalStore) -> None:
        """When the iterable fails, its error comes out and the store stays usable."""

        def failing() -> Iterator[tuple[str, bytes, int]]:
            yield from ((f"k{i}", b"v", i) for i in range(1000))
            raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            store.set_many(failing())
        store.set("after", b"v", 1)
        assert store.get("after") == b"v"
        assert everything(store)["after"] == LocalValue(1, b"v")

    def test_iterators_are_snapshots(self, store: LocalStore) -> None:
        """Keys set later do not appear, deleted ones are left out, none comes twice (promise 3)."""
        store.set_many((f"k{i}", b"v", i) for i in range(50))
        keys, stamps = store.keys(), store.timestamps()
        first = next(keys)
        store.set_many((f"new{i}", b"v", i) for i in range(50))
        store.set_many((f"k{i}", b"overwritten", i) for i in range(25))
        gone = "k40" if first != "k40" else "k41"
        store.delete([gone])
        rest = list(keys)
        assert sorted([first, *rest]) == sorted({f"k{i}" for i in range(50)} - {gone})
        assert {key for key, _ in stamps} == {f"k{i}" for i in range(50)} - {gone}

    def test_reading_while_iterating(self, store: LocalStore) -> None:
        """Reads and nested iterators are allowed while iterating (promise 3)."""
        store.set_many((f"k{i}", b"v", i) for i in range(20))
        pairs = [(a, b) for a in store.keys() for b in store.keys() if store.contains(b)]  # noqa: SIM118  # not a Mapping
        assert len(pairs) == 400

    def test_clear(self, store: LocalStore) -> None:
        """Clearing removes the keys, and neither metadata nor slots nor logs."""
        store.set_many((f"k{i}", b"v", i) for i in range(20))
        store.set_metadata(b'{"a":1}', 5)
        store.write_slot("s", b"slot")
        store.append_log("l", b"log")
        store.clear()
        assert store.count() == 0
        assert list(store.keys()) == []
        assert store.get("k1") is None
        assert store.get_metadata() == (b'{"a":1}', 5)
        assert store.read_slot("s") == b"slot"
        assert store.read_log("l") == b"log"
        store.set("k1", b"again", 1)
        assert everything(store) == {"k1": LocalValue(1, b"again")}

    def test_metadata(self, store: LocalStore) -> None:
        """Metadata come back byte by byte with their timestamp, and are no key."""
        assert store.get_metadata() is None
        for data in (b'{"b": 1.0, "a" : [1, null]}', b"null", b'"x"'):
            store.set_metadata(data, 2**56 - 1)
            assert store.get_metadata() == (data, 2**56 - 1)
        assert store.count() == 0
        assert list(store.keys()) == []

    def test_slots(self, store: LocalStore) -> None:
        """A slot is absent, replaced, or removed by None (promise 7)."""
        assert store.read_slot("base") is None
        store.write_slot("base", b"1")
        store.write_slot("base", b"")
        assert store.read_slot("base") == b""
        store.write_slot("base", None)
        store.write_slot("base", None)
        assert store.read_slot("base") is None

    def test_logs(self, store: LocalStore) -> None:
        """A log grows by what is appended and can be replaced as a whole (promise 7)."""
        assert store.read_log("journal") == b""
        for part in (b"a", b"", b"bc"):
            store.append_log("journal", part)
        assert store.read_log("journal") == b"abc"
        store.replace_log("journal", b"xy")
        store.append_log("journal", b"z")
        assert store.read_log("journal") == b"xyz"
        assert store.read_log("other") == b""

    def test_node_cache(self, store: LocalStore) -> None:
        """The node cache returns what it still has, unchanged, and nothing else (promise 8)."""
        nodes = {bytes([i]) * 24: bytes([i]) * 3000 for i in range(200)}
        store.cache_nodes(nodes)
        store.cache_nodes({})
        found = store.cached_nodes([*nodes, b"unknown"])
        assert all(nodes[ref] == data for ref, data in found.items())
        assert store.cached_nodes([]) == {}

    def test_exclusive_blocks_nest(self, store: LocalStore) -> None:
        """A writer may hold the store alone, also twice; its handle stays as it was."""
        with store.exclusive(1), store.exclusive(1):
            store.set("k", b"v", 1)
            store.sync()
        store.set("k2", b"v", 2)
        store.acknowledge()
        assert not store.changed_elsewhere
        assert set(everything(store)) == {"k", "k2"}

    def test_changing_the_mode_keeps_everything(self, store: LocalStore) -> None:
        """Writer, reader, writer: one store with all that was in it (promise 9)."""
        store.set("k", b"v", 1)
        store.set_metadata(b"[1]", 2)
        store.write_slot("s", b"slot")
        store.append_log("l", b"log")
        for mode in ("read", "read", "write", "write"):
            store.change_mode(mode, timeout=5)
            assert store.writable == (mode == "write")
            assert everything(store) == {"k": LocalValue(1, b"v")}
            assert store.get_metadata() == (b"[1]", 2)
            assert store.read_slot("s") == b"slot"
            assert store.read_log("l") == b"log"
            assert not store.changed_elsewhere
        store.set("k2", b"v", 2)
        assert set(everything(store)) == {"k", "k2"}
        store.close()
        with pytest.raises(ValueError, match="closed"):
            store.change_mode("read", timeout=5)

    def test_adopting_a_uuid_keeps_everything(self, store: LocalStore) -> None:
        """The store is another database's half from then on, with all that was in it (promise 10)."""
        store.set("k", b"v", 1)
        store.set_metadata(b"[1]", 2)
        store.write_slot("s", b"slot")
        store.append_log("l", b"log")
        for uuid in (UUID_GIVEN, UUID_GIVEN):
            store.adopt_uuid(uuid)
            assert store.uuid == UUID_GIVEN
            assert everything(store) == {"k": LocalValue(1, b"v")}
            assert store.get_metadata() == (b"[1]", 2)
            assert store.read_slot("s") == b"slot"
            assert store.read_log("l") == b"log"
            store.set("k2", b"v", 2)
            assert store.delete(["k2"]) == 1

    def test_compact(self, store: LocalStore) -> None:
        """Compacting keeps every live key but the evicted ones, and tells how many went."""
        store.set_many((f"k{i}", b"v" * 100, i) for i in range(50))
        store.set_many((f"k{i}", b"w" * 100, i) for i in range(10))
        store.set_metadata(b"{}", 1)
        store.sync()
        before = everything(store)
        removed = store.compact(evict=["k1", "k49", "absent"])
        assert removed >= 2
        assert everything(store) == {k: v for k, v in before.items() if k not in ("k1", "k49")}
        assert store.get_metadata() == (b"{}", 1)
        store.set("k1", b"again", 1)
        assert store.get("k1") == b"again"

    def test_many_threads(self, store: LocalStore) -> None:
        """Threads that read, write, delete and iterate at once see whole values (promise 3)."""
        store.set_many((f"k{i}", f"k{i}".encode() * 20, 1) for i in range(200))
        errors: list[BaseException] = []

        def check(key: str, value: bytes | None) -> None:
            if value is not None and not value.startswith(key.encode()):
                errors.append(AssertionError(f"{key}: {value[:40]!r}"))

        def work(seed: int) -> None:
            try:
                for number in range(150):
                    key = f"k{(number * 7 + seed * 31) % 200}"
                    check(key, store.get(key))
                    store.set(key, key.encode() * (1 + number % 30), number)
                    if number % 20 == 0:
                        store.delete([key])
                        store.set(key, key.encode(), number)
                        store.set_metadata(b"[%d]" % seed, number)
                        assert store.get_metadata() is not None
                    if number % 50 == 0:
                        for name, entry in store.get_many([f"k{i}" for i in range(200)]):
                            check(name, entry.value)
                        store.sync()
                    if number == 75 and seed == 0:
                        store.compact()
            except BaseException as exc:  # noqa: BLE001  # handed to the main thread
                errors.append(exc)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert set(everything(store)) == {f"k{i}" for i in range(200)}

    def test_closing_twice(self, store: LocalStore) -> None:
        """Closing is idempotent; afterwards everything but `close` and `sync` raises ValueError."""
        store.set("k", b"v", 1)
        store.close()
        store.close()
        store.sync()
        for call in (
            lambda: store.get("k"),
            lambda: store.set("k", b"v", 1),
            lambda: store.delete(["k"]),
            lambda: store.keys(),
            lambda: store.count(),
            lambda: store.read_slot("s"),
            lambda: store.append_log("l", b""),
            lambda: store.compact(),
        ):
            with pytest.raises(ValueError, match="closed"):
                call()

    def test_refuses_after_fork(self, store: LocalStore) -> None:
        """A child that inherits a handle is refused, and the parent goes on (promise 6)."""
        store.set("k", b"v", 1)

        calls: tuple[Callable[[], object], ...] = (
            lambda: store.get("k"),
            lambda: store.set("k", b"child", 2),
            store.sync,
        )

        def child() -> None:
            for call in calls:
                with pytest.raises(ForkedProcessError):
                    call()
            store.close()

        assert in_child(child) == 0
        assert store.get("k") == b"v"
        store.set("k2", b"v", 2)
        assert set(everything(store)) == {"k", "k2"}

    def test_behaves_like_a_dict(self, open_store: OpenLocalStore) -> None:
        """Any sequence of calls leaves what it would leave in a dict."""
        number = iter(range(1_000_000))
        machine = _machine(lambda: open_store(f"machine{next(number)}"))
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def _machine(make: Callable[[], LocalStore]) -> type[RuleBasedStateMachine]:
    names = st.sampled_from([f"key{i}" for i in range(12)] + ["", "é"])
    values = st.binary(max_size=60) | st.binary(min_size=5000, max_size=5001)
    stamps = st.integers(0, 2**56 - 1)

    class LocalStoreMachine(RuleBasedStateMachine):
        @initialize()
        def start(self) -> None:
            self.store = make()
            self.model: dict[str, LocalValue] = {}

        @rule(key=names, value=values, stamp=stamps)
        def set(self, key: str, value: bytes, stamp: int) -> None:
            self.store.set(key, value, stamp)
            self.model[key] = LocalValue(stamp, value)

        @rule(items=st.lists(st.tuples(names, values, stamps), max_size=6))
        def set_many(self, items: list[tuple[str, bytes, int]]) -> None:
            self.store.set_many(iter(items))
            self.model.update((key, LocalValue(stamp, value)) for key, value, stamp in items)

        @rule(keys=st.lists(names, max_size=4, unique=True))
        def delete(self, keys: list[str]) -> None:
            expected = sum(self.model.pop(key, None) is not None for key in keys)
            assert self.store.delete(keys) == expected

        @rule()
        def sync(self) -> None:
            self.store.sync()

        @rule()
        def clear(self) -> None:
            self.store.clear()
            self.model.clear()

        @rule(evict=st.lists(names, max_size=3, unique=True))
        def compact(self, evict: list[str]) -> None:
            self.store.compact(evict=evict)
            for key in evict:
                self.model.pop(key, None)

        @rule(key=names)
        def get(self, key: str) -> None:
            assert self.store.get_entry(key) == self.model.get(key)
            assert self.store.contains(key) == (key in self.model)

        @invariant()
        def count(self) -> None:
            if hasattr(self, "store"):
                assert self.store.count() == len(self.model)

        def teardown(self) -> None:
            if hasattr(self, "store"):
                assert everything(self.store) == self.model
                self.store.close()

    return LocalStoreMachine
