"""What every serializer owes the database."""

from __future__ import annotations

import copy
import pickle
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebooklet.core.serialization import FREE_INFLATION
from ebooklet.core.serializer_names import canonical_name
from ebooklet.errors import SerializationError
from ebooklet.ports.serializer import BufferSerializer, Serializer
from ebooklet.testing.contract import Contract

__all__ = ["JSON_VALUES", "SerializerContract"]

# A serializer is stateless, so sharing one between examples is what a database does; and one suite
# runs for many of them, which is what "differing executors" warns of.
_bounded = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[
        HealthCheck.differing_executors,
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)

# Lengths of up to 2**64, as MessagePack, CBOR, zstd and WKB spell them, with nothing behind.
_CLAIMS: Final = (
    *(b"\xc6\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x9b" + b"\x7f" * 8),
    *(b"\x28\xb5\x2f\xfd\xe0" + b"\x7f" * 8 + b"\x01\x00\x00", b"\x5b" + b"\x7f" * 8),
    *(b"\x01\x02\x00\x00\x00\xff\xff\xff\x7f", b"[" * 100_000, b"\x81" * 100_000),
)

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5)
    ),
    max_leaves=20,
)
"""Values that every JSON dialect gives back as they were."""


_ran: list[str] = []


def trip(how: str = "a name") -> None:
    """Note that hostile bytes got a function of their choice called."""
    _ran.append(how)


class _Bomb:
    """Something whose pickle calls a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return trip, ("a pickle",)


_HOSTILE: Final = (
    *(pickle.dumps(_Bomb(), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
    f"__import__({__name__!r}, fromlist=['trip']).trip('an expression')".encode(),
    f"!!python/object/apply:{__name__}.trip ['a YAML tag']".encode(),
    f'{{"py/reduce": [{{"py/function": "{__name__}.trip"}}, {{"py/tuple": []}}]}}'.encode(),
)


class SerializerContract(Contract):
    """Subclass, give a `serializer` fixture and say what it holds, then run pytest.

    Example:
        >>> class TestMine(SerializerContract):
        ...     values = JSON_VALUES
        ...     refused = (object(),)
        ...
        ...     @pytest.fixture
        ...     def serializer(self) -> Serializer:
        ...         return MINE
    """

    values: st.SearchStrategy[Any] = JSON_VALUES
    """Values the format can hold and gives back equal."""

    refused: tuple[object, ...] = ()
    """Values the format cannot hold."""

    unreadable: tuple[bytes, ...] = ()
    """Bytes the format cannot read."""

    def same(self, one: Any, other: Any) -> bool:
        """Whether a value came back as it was; replace it where `==` does not answer that."""
        return bool(one == other)

    @pytest.fixture
    def serializer(self) -> Serializer:
        """The serializer under test."""
        raise NotImplementedError("give a `serializer` fixture")

    @_bounded
    @given(data=st.data())
    def test_values_survive_a_round_trip(self, serializer: Serializer, data: st.DataObject) -> None:
        """Promise 1: what was stored is what comes back."""
        value = data.draw(self.values)
        stored = serializer.dumps(value)
        assert type(stored) is bytes
        assert self.same(serializer.loads(stored), value)

    @_bounded
    @given(data=st.data())
    def test_equal_values_give_equal_bytes(
        self, serializer: Serializer, data: st.DataObject
    ) -> None:
        """Promise 4: storing a value again changes nothing, so it is no change to push."""
        value = data.draw(self.values)
        assert serializer.dumps(copy.deepcopy(value)) == serializer.dumps(value)

    def test_what_it_cannot_hold_is_refused(self, serializer: Serializer) -> None:
        """Promise 2: such a value raises `SerializationError`, which is a TypeError too."""
        if not self.refused:
            pytest.skip("its tests name no value in `refused`: it holds whatever there is")
        for value in self.refused:
            with pytest.raises(SerializationError) as caught:
                serializer.dumps(value)
            assert isinstance(caught.value, TypeError)

    def test_what_it_cannot_read_is_refused(self, serializer: Serializer) -> None:
        """Promise 2: such bytes raise `SerializationError`, which is a ValueError too."""
        if not self.unreadable:
            pytest.skip("its tests name no bytes in `unreadable`: it reads whatever there is")
        for data in self.unreadable:
            with pytest.raises(SerializationError) as caught:
                serializer.loads(data)
            assert isinstance(caught.value, ValueError)

    @_bounded
    @given(noise=st.binary(max_size=200))
    def test_noise_raises_nothing_else(self, serializer: Serializer, noise: bytes) -> None:
        """Promise 2: hostile bytes give a value or `SerializationError`, if it calls itself safe."""
        if not serializer.safe:
            pytest.skip("loading noise with an unsafe serializer would run it")
        assert len(_complaint(serializer, noise)) < 1000

    @_bounded
    @given(data=st.data())
    def test_damaged_values_raise_nothing_else(
        self, serializer: Serializer, data: st.DataObject
    ) -> None:
        """Promise 2: so do its own bytes, cut short or with one byte changed."""
        if not serializer.safe:
            pytest.skip("loading damaged bytes with an unsafe serializer would run them")
        stored = bytearray(serializer.dumps(data.draw(self.values)))
        if stored:
            place = data.draw(st.integers(0, len(stored) - 1))
            stored[place] ^= data.draw(st.integers(1, 255))
        cut = data.draw(st.integers(0, len(stored)))
        assert len(_complaint(serializer, bytes(stored))) < 1000
        assert len(_complaint(serializer, bytes(stored[:cut]))) < 1000

    @settings(_bounded, max_examples=10)
    @given(data=st.data())
    def test_buffers_are_as_good_as_bytes(
        self, serializer: Serializer, data: st.DataObject
    ) -> None:
        """Promises 5 and 6: values are written and read without a copy, and come out the same."""
        if not isinstance(serializer, BufferSerializer):
            return  # it makes neither promise
        value = data.draw(self.values)
        stored = serializer.dumps(value)
        written = serializer.dumps_buffer(value)
        assert isinstance(written, (bytes, bytearray, memoryview))
        assert (len(written), bytes(written)) == (len(stored), stored)
        padded = bytearray(b"<" + stored + b">")
        inside = memoryview(padded)[1:-1]
        for buffer in (bytearray(stored), memoryview(stored), inside, inside.toreadonly()):
            assert self.same(serializer.loads(buffer), value)

    def test_buffers_it_cannot_read_are_refused(self, serializer: Serializer) -> None:
        """Promise 2 holds for every buffer that promise 6 speaks of."""
        if isinstance(serializer, BufferSerializer):
            for data in self.unreadable:
                with pytest.raises(SerializationError):
                    serializer.loads(memoryview(data))

    def test_hostile_bytes_take_bounded_memory(self, serializer: Serializer) -> None:
        """Promise 3: what bytes only claim is not allocated."""
        if not serializer.safe:
            pytest.skip("loading hostile bytes with an unsafe serializer would run them")
        for data in (*self.unreadable, *_CLAIMS):
            tracemalloc.start()
            try:
                _complaint(serializer, data)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak <= FREE_INFLATION + 100 * len(data), data[:40]

    def test_hostile_bytes_run_nothing(self, serializer: Serializer) -> None:
        """Promise 3: of one that calls itself safe, bytes made to run code run none."""
        if not serializer.safe:
            pytest.skip("an unsafe serializer would run them, as it says")
        _ran.clear()
        for data in _HOSTILE:
            assert len(_complaint(serializer, data)) < 1000
        assert _ran == []

    def test_the_bytes_are_not_in_the_message(self, serializer: Serializer) -> None:
        """Values are the user's and may be secret: an error does not show them."""
        if serializer.safe:
            assert "sEcReT" not in _complaint(serializer, b"\xff\x00sEcReT" * 3)

    @settings(_bounded, max_examples=3)
    @given(data=st.data())
    def test_threads_do_not_disturb_each_other(
        self, serializer: Serializer, data: st.DataObject
    ) -> None:
        """One serializer serves many threads at once."""
        values = data.draw(st.lists(self.values, min_size=2, max_size=3))
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with ThreadPoolExecutor(4) as pool:
                back = list(pool.map(lambda v: serializer.loads(serializer.dumps(v)), values * 4))
        finally:
            sys.setswitchinterval(interval)
        assert all(map(self.same, back, values * 4))

    def test_the_name_is_canonical(self, serializer: Serializer) -> None:
        """The name it gives is the one that is stored and compared."""
        assert canonical_name(serializer.name) == serializer.name

    def test_it_fits_the_port(self, serializer: Serializer) -> None:
        """It has what the port asks for, and `safe` is a plain bool."""
        assert isinstance(serializer, Serializer)
        assert type(serializer.safe) is bool


def _complaint(serializer: Serializer, data: bytes) -> str:
    try:
        serializer.loads(data)
    except SerializationError as exc:
        return str(exc)
    return ""
