"""What every local store owes the core: subclass a suite, provide its fixtures, run pytest.

`LocalStoreContract` covers one handle; `DurableLocalStoreContract` adds what a store on disk owes:
coming back after a close, a kill or a fork, and several handles of one place.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ebooklet.errors import EBookletError, ForkedProcessError, LockTimeout
from ebooklet.ports.local_store import LocalStore, LocalValue
from ebooklet.testing.contract import Contract

__all__ = [
    "DurableLocalStoreContract",
    "LocalStoreContract",
    "OpenLocalStore",
    "in_child",
    "killed_child",
]

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


def in_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked child.

    Returns:
        0 when it raised nothing; otherwise 1 (its traceback goes to stderr), or the number of
        the signal that ended it, negated.
    """
    child = _fork()
    if child == 0:
        code = 1
        try:
            action()
            gc.collect()
            code = 0
        except BaseException:  # noqa: BLE001  # the child ends here
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_child(action: Callable[[Callable[[], None]], object]) -> None:
    """Run `action` in a forked child and SIGKILL it once it calls its argument."""
    reading, writing = os.pipe()
    child = _fork()
    if child == 0:
        try:
            os.close(reading)
            action(lambda: _report_and_wait(writing))
        except BaseException:  # noqa: BLE001  # the child ends here
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"!", "the child failed before it was to be killed"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns where threads run, as those of test runners do.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _report_and_wait(pipe: int) -> None:
    os.write(pipe, b"!")
    signal.pause()


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


class DurableLocalStoreContract(LocalStoreContract):
    """What a store that outlives its handles owes; `open_store` opens the same place again."""

    def test_comes_back_clean(self, open_store: OpenLocalStore) -> None:
        """What was written is there after a close, with its slots and logs (promises 1, 4)."""
        store = open_store()
        uuid = store.uuid
        store.set_many((f"k{i}", str(i).encode(), i) for i in range(100))
        store.set_metadata(b'{"x":1}', 3)
        store.write_slot("s", b"slot")
        store.append_log("l", b"log")
        before = everything(store)
        store.close()
        for mode in ("write", "read"):
            again = open_store(mode=mode)
            assert again.condition == "clean"
            assert again.uuid == uuid
            assert again.writable == (mode == "write")
            assert everything(again) == before
            assert again.get_metadata() == (b'{"x":1}', 3)
            assert again.read_slot("s") == b"slot"
            assert again.read_log("l") == b"log"
            again.close()

    def test_keeps_the_serializers_name(self, open_store: OpenLocalStore) -> None:
        """The serializer of an existing store is that of its creation."""
        for name in ("bytes", "pickle", "cbor", "json+zstd", None):
            open_store(f"of {name}", value_serializer=name).close()
            assert open_store(f"of {name}").value_serializer == name

    def test_survives_a_kill_after_sync(self, open_store: OpenLocalStore) -> None:
        """What was there at `sync` is there after a SIGKILL among later writes (promise 1)."""

        def work(ready: Callable[[], None]) -> None:
            store = open_store()
            store.set_many((f"k{i}", b"synced", i) for i in range(500))
            store.append_log("l", b"synced")
            store.sync()
            store.append_log("l", b" more")
            store.set_many((f"k{i}", b"later", i) for i in range(250, 750))
            store.delete(["k0"])
            ready()

        killed_child(work)
        store = open_store()
        found = everything(store)
        assert store.condition == "crashed"
        assert {f"k{i}" for i in range(1, 500)} <= set(found)
        assert all(found[f"k{i}"].value == b"synced" for i in range(1, 250))
        assert {entry.value for entry in found.values()} <= {b"synced", b"later"}
        assert store.read_log("l") == b"synced more"
        store.sync()
        store.close()
        assert open_store().condition == "clean"

    def test_a_kill_without_writes_leaves_it_clean(self, open_store: OpenLocalStore) -> None:
        """A writer that dies with everything synced leaves a clean store (promise 4)."""

        def work(ready: Callable[[], None]) -> None:
            store = open_store()
            store.set("k", b"v", 1)
            store.sync()
            ready()

        killed_child(work)
        store = open_store()
        assert store.condition == "clean"
        assert everything(store) == {"k": LocalValue(1, b"v")}

    def test_an_open_that_fails_swallows_no_finding(self, open_store: OpenLocalStore) -> None:
        """Without `sync` the finding of one open is that of the next (promise 4)."""

        def work(ready: Callable[[], None]) -> None:
            store = open_store()
            store.set("k", b"v", 1)
            ready()

        killed_child(work)
        for mode in ("read", "write", "read", "write"):
            store = open_store(mode=mode)
            assert store.condition == "crashed"
            store.set("seen", b"v", 1)
            store.close()

    def test_one_writer(self, open_store: OpenLocalStore) -> None:
        """A second writer waits, then fails naming the first (promise 5)."""
        store = open_store()
        with pytest.raises(LockTimeout, match=str(os.getpid())):
            open_store(lock_timeout=0.05)
        store.close()
        open_store(lock_timeout=5).close()

    def test_one_writer_across_processes(self, open_store: OpenLocalStore) -> None:
        """A writer in another process is waited for, and named (promise 5)."""
        store = open_store()

        def child() -> None:
            with pytest.raises(LockTimeout, match=str(os.getppid())):
                open_store(lock_timeout=0.05)
            with pytest.raises(LockTimeout):
                open_store(lock_timeout=0.05, mode="read")

        assert in_child(child) == 0
        store.set("k", b"v", 1)
        store.close()

    def test_many_readers(self, open_store: OpenLocalStore) -> None:
        """Any number of readers have the store open at once, in many processes (promise 5)."""
        with_content(open_store)
        readers = [open_store(mode="read") for _ in range(3)]
        assert in_child(lambda: everything(open_store(mode="read", lock_timeout=0.5))) == 0
        for reader in readers:
            assert len(everything(reader)) == 100

    def test_readers_let_a_writer_in(self, open_store: OpenLocalStore) -> None:
        """A reader that stays open, busy or idle, does not starve a writer (promise 5)."""
        with_content(open_store)
        idle, busy = open_store(mode="read"), open_store(mode="read")
        assert idle.get("k1") == b"1"
        stop = threading.Event()
        failed: list[BaseException] = []

        def read() -> None:
            try:
                while not stop.is_set():
                    assert busy.get("k1") in (b"1", b"changed")
            except BaseException as exc:  # noqa: BLE001  # handed to the main thread
                failed.append(exc)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            with_lock = open_store(lock_timeout=10)
            with_lock.set("k1", b"changed", 2)
            with_lock.close()
        finally:
            stop.set()
            thread.join()
        assert failed == []
        assert idle.get("k1") == busy.get("k1") == b"changed"

    def test_a_reader_keeps_what_it_fetched(self, open_store: OpenLocalStore) -> None:
        """A reader's writes land in the store, and other readers find them."""
        with_content(open_store)
        reader, other = open_store(mode="read"), open_store(mode="read")
        assert other.get("k1") == b"1"
        reader.set_many([("fetched", b"value", 7)])
        reader.write_slot("s", b"1")
        reader.append_log("l", b"1")
        reader.cache_nodes({b"n": b"data"})
        assert reader.get("fetched") == other.get("fetched") == b"value"
        assert other.read_slot("s") == b"1"
        assert other.read_log("l") == b"1"
        reader.close()
        other.close()
        store = open_store()
        assert store.condition == "clean"
        assert store.get_entry("fetched") == LocalValue(7, b"value")

    def test_a_reader_borrows_the_writers_place(self, open_store: OpenLocalStore) -> None:
        """Inside `exclusive` a reader does all that a writer may, and it lasts (promise 5)."""
        with_content(open_store)
        reader = open_store(mode="read")
        with reader.exclusive(5):
            reader.set("fetched", b"v", 7)
            assert reader.delete(["k1"]) == 1
            assert reader.delete(["k1"]) == 0
            with reader.exclusive(5):
                reader.append_log("l", b"log")
                reader.write_slot("s", b"slot")
            with pytest.raises(LockTimeout):
                open_store(lock_timeout=0.05)
            assert reader.get("fetched") == b"v"
            assert reader.count() == 100
            reader.sync()
        assert not reader.changed_elsewhere
        assert reader.get("fetched") == b"v"
        reader.close()
        store = open_store()
        assert store.condition == "clean"
        assert set(everything(store)) == {f"k{i}" for i in range(100)} - {"k1"} | {"fetched"}
        assert (store.read_log("l"), store.read_slot("s")) == (b"log", b"slot")

    def test_a_reader_loses_no_work_to_an_error(self, open_store: OpenLocalStore) -> None:
        """An error inside `exclusive` gives the writer's place back, with what was done."""
        with_content(open_store)
        reader = open_store(mode="read")

        def work() -> None:
            with reader.exclusive(5):
                reader.set("before", b"v", 1)
                raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            work()
        store = open_store()
        assert store.condition == "clean"
        assert store.get("before") == b"v"

    def test_a_reader_becomes_the_writer(self, open_store: OpenLocalStore) -> None:
        """It keeps others out from then on, and lets them in again afterwards (promise 9)."""
        with_content(open_store)
        store = open_store(mode="read")
        assert store.get("k1") == b"1"
        store.change_mode("write", timeout=5)
        assert store.condition == "clean"
        store.set("k1", b"changed", 2)
        with pytest.raises(LockTimeout):
            open_store(lock_timeout=0.05)
        store.change_mode("read", timeout=0)
        other = open_store(lock_timeout=5)
        assert (other.condition, other.get("k1")) == ("clean", b"changed")
        other.set("k2", b"other", 3)
        other.close()
        assert store.get("k2") == b"other"
        assert store.changed_elsewhere

    def test_a_reader_that_cannot_become_the_writer(self, open_store: OpenLocalStore) -> None:
        """It is told who is the writer, and stays a reader (promise 9)."""
        with_content(open_store)
        store, other = open_store(mode="read"), open_store()
        with pytest.raises(LockTimeout, match=str(os.getpid())):
            store.change_mode("write", timeout=0.05)
        assert not store.writable
        other.set("k1", b"changed", 2)
        other.close()
        assert store.get("k1") == b"changed"
        store.change_mode("write", timeout=5)
        assert everything(store)["k1"] == LocalValue(2, b"changed")

    def test_changing_the_mode_swallows_no_finding(self, open_store: OpenLocalStore) -> None:
        """What the writer found stays for the next open, unless it was dealt with (promise 9)."""

        def work(ready: Callable[[], None]) -> None:
            store = open_store()
            store.set("k", b"v", 1)
            ready()

        killed_child(work)
        store = open_store(mode="read")
        for _ in range(2):
            store.change_mode("write", timeout=5)
            assert store.condition == "crashed"
            store.change_mode("read", timeout=0)
        store.change_mode("write", timeout=5)
        store.sync()
        store.change_mode("read", timeout=0)
        store.close()
        assert open_store().condition == "clean"

    @pytest.mark.parametrize("what", ["value", "slot", "log"])
    def test_a_reader_notices_what_changed_elsewhere(
        self, open_store: OpenLocalStore, what: str
    ) -> None:
        """A reader that comes back learns of other processes' changes, until it acknowledges."""
        with_content(open_store)
        reader = open_store(mode="read", lock_timeout=30)
        assert reader.get("k1") == b"1"
        assert not _has_changed(reader)

        def change() -> None:
            store = open_store()
            if what == "value":
                store.set("k1", b"changed", 2)
            elif what == "slot":
                store.write_slot("s", b"changed")
            else:
                store.append_log("l", b"changed")
            store.close()

        assert in_child(change) == 0
        reader.get("k1")
        assert _has_changed(reader)
        reader.acknowledge()
        assert not _has_changed(reader)
        reader.get("k1")
        assert not _has_changed(reader)

    def test_a_reader_looks_without_waiting(self, open_store: OpenLocalStore) -> None:
        """Asked to, a reader learns at once of what changed, and waits for no writer."""
        with_content(open_store)
        reader = open_store(mode="read", lock_timeout=1000)
        store = open_store()
        store.set("k1", b"changed", 2)
        reader.freshen()
        assert not _has_changed(reader)
        store.close()
        reader.freshen()
        assert _has_changed(reader)
        assert reader.get("k1") == b"changed"
        store = open_store(mode="read")
        store.change_mode("write", timeout=10)
        store.freshen()
        assert not _has_changed(store)

    def test_a_reader_cannot_keep_values_while_a_writer_is_there(
        self, open_store: OpenLocalStore
    ) -> None:
        """What a reader would keep is refused, and the reader goes on afterwards (promise 5)."""
        with_content(open_store)
        reader = open_store(mode="read", lock_timeout=0.05)
        store = open_store()
        with pytest.raises(LockTimeout):
            reader.get("k1")
        store.close()
        reader.set("kept", b"v", 1)
        assert reader.get("kept") == b"v"

    def test_a_forked_child_does_no_harm(self, open_store: OpenLocalStore) -> None:
        """A child that drops or closes its copy neither frees the lock nor touches the data (6)."""
        store = open_store()
        store.set("before", b"v", 1)
        copies = [store]

        def close() -> None:
            copies[0].close()

        for action in (copies.clear, close):
            assert in_child(action) == 0
            assert in_child(lambda: _expect_lock(open_store)) == 0
        store.set("after", b"v", 2)
        store.close()
        again = open_store()
        assert again.condition == "clean"
        assert set(everything(again)) == {"before", "after"}

    def test_dropping_a_store_closes_it(self, open_store: OpenLocalStore) -> None:
        """A store that is dropped without `close` leaves what was written, and the lock."""

        def drop() -> None:
            store = open_store()
            store.set("k", b"v", 1)

        drop()
        gc.collect()
        store = open_store(lock_timeout=0.05)
        assert store.condition == "clean"
        assert everything(store) == {"k": LocalValue(1, b"v")}

    def test_compacting_shrinks(self, open_store: OpenLocalStore) -> None:
        """After compacting, a store opens clean with what was left."""
        store = open_store()
        for number in range(5):
            store.set_many((f"k{i}", bytes([number]) * 1000, number) for i in range(100))
            store.sync()
        assert store.compact(evict=["k1"]) >= 1
        expected = everything(store)
        store.close()
        again = open_store()
        assert again.condition == "clean"
        assert everything(again) == expected

    @given(data=st.data())
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def test_errors_are_ours(self, open_store: OpenLocalStore, data: st.DataObject) -> None:
        """A store in use gives no error but ours, whatever is asked of it meanwhile."""
        timeout = data.draw(st.floats(0, 0.02))
        mode = data.draw(st.sampled_from(["read", "write"]))
        store = open_store("busy")
        with pytest.raises(EBookletError):
            open_store("busy", mode=mode, lock_timeout=timeout)
        store.close()


def _has_changed(store: LocalStore) -> bool:
    return store.changed_elsewhere


def _expect_lock(open_store: OpenLocalStore) -> None:
    with pytest.raises(LockTimeout):
        open_store(lock_timeout=0.05)


def with_content(open_store: OpenLocalStore) -> None:
    """Make a store with a hundred keys, and close it."""
    store = open_store()
    store.set_many((f"k{i}", str(i).encode(), i) for i in range(100))
    store.sync()
    store.close()
