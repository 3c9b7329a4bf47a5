"""Contract tests of ranges of objects."""

from __future__ import annotations

import pytest

from ebooklet.errors import ObjectNotFound, RemoteIntegrityError, StoreError
from ebooklet.ports.remote_store import ByteRange, RemoteStore
from ebooklet.testing.contract import Contract
from ebooklet.testing.remote_store.wire import Wire

__all__ = ["PartsContract"]


class PartsContract(Contract):
    """Parts of objects, one and many."""

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
