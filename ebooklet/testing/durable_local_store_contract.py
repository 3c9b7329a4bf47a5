"""What a local store on disk owes beyond `LocalStoreContract`.

It comes back after a close, a kill or a fork, and has several handles of one place.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebooklet.errors import EBookletError, LocalFileError, LockTimeout
from ebooklet.ports.local_store import LocalStore, LocalValue
from ebooklet.testing.children import in_child, killed_child
from ebooklet.testing.local_store_contract import (
    UUID_GIVEN,
    LocalStoreContract,
    OpenLocalStore,
    everything,
)

__all__ = ["DurableLocalStoreContract"]


class DurableLocalStoreContract(LocalStoreContract):
    """What a store that outlives its handles owes; `open_store` opens the same place again."""

    def test_comes_back_clean(self, open_store: OpenLocalStore) -> None:
        """What was written is there after a close, with its slots and logs (promises 1, 4, 10)."""
        store = open_store()
        store.adopt_uuid(UUID_GIVEN)
        store.set_many((f"k{i}", str(i).encode(), i) for i in range(100))
        store.set_metadata(b'{"x":1}', 3)
        store.write_slot("s", b"slot")
        store.append_log("l", b"log")
        before = everything(store)
        store.close()
        for mode in ("write", "read"):
            again = open_store(mode=mode)
            assert again.condition == "clean"
            assert again.uuid == UUID_GIVEN
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
        """A reader that comes back learns of other processes' changes, until it acknowledges.

        It asks its guard before it reads anything (promise 11).
        """
        with_content(open_store)
        reader = open_store(mode="read", lock_timeout=30)
        assert reader.get("k1") == b"1"
        assert not _has_changed(reader)

        def refuse() -> None:
            raise LocalFileError("refused")

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
        reader.guard(refuse)
        for read in (reader.get, reader.get_entry, reader.contains, lambda k: [*reader.keys(), k]):
            with pytest.raises(LocalFileError, match="refused"):
                read("k1")
        reader.guard(lambda: reader.read_slot("s"))
        assert reader.get("k1") == (b"changed" if what == "value" else b"1")
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
