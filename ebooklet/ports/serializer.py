"""The Serializer port: values to bytes and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "Buffer",
    "BufferSerializer",
    "Dictionary",
    "DictionarySource",
    "Serializer",
    "TrainedSerializer",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Contiguous bytes; a memoryview is of format "B"."""


@runtime_checkable
class Serializer(Protocol):
    """Values to bytes and back, usable from many threads at once.

    Promises, each checked by `ebooklet.testing.SerializerContract`:

    1. `loads(dumps(v))` equals `v` for every value the format can hold.
    2. `dumps` of a value it cannot hold raises `SerializationError`, and so does `loads` of bytes
       it cannot read; nothing else comes out of a `safe` serializer.
    3. `safe` is True only if `loads` of hostile bytes runs no code and allocates in proportion
       to its input or to a stated bound.
    4. Equal values of one process give equal bytes wherever the format allows it.
    """

    @property
    def name(self) -> str:
        """The registered name, as stored in local files and heads."""
        ...

    @property
    def safe(self) -> bool:
        """Whether `loads` of hostile bytes runs no code."""
        ...

    def dumps(self, value: Any, /) -> bytes: ...

    def loads(self, data: bytes, /) -> Any: ...


@runtime_checkable
class BufferSerializer(Serializer, Protocol):
    """A serializer that needs no copy of what stands in somebody's memory; optional.

    Two more promises:

    5. `dumps_buffer(v)` has the bytes of `dumps(v)`. They may be the memory of `v` itself: whoever
       asks uses them before `v` changes.
    6. `loads` takes any `Buffer`. The value may share its memory, which then must not change.
    """

    def dumps_buffer(self, value: Any, /) -> Buffer: ...

    def loads(self, data: Buffer, /) -> Any: ...


class Dictionary(NamedTuple):
    """What a compressor has learnt of a database's values."""

    id: int  # stands in all that was written with it
    data: bytes


class DictionarySource(Protocol):
    """The dictionaries of one database, from many threads at once."""

    @property
    def newest(self) -> Dictionary | None:
        """The one to write with; None before any was trained."""
        ...

    def find(self, number: int) -> Dictionary | None:
        """The one of this id, wherever it has to be looked for; None when there is none."""
        ...


@runtime_checkable
class TrainedSerializer(Serializer, Protocol):
    """A serializer that writes better with a dictionary of the database's own; optional.

    Without one it writes all the same. What was written with any dictionary, or none, is read for
    as long as that is found.
    """

    def bind(self, dictionaries: DictionarySource) -> TrainedSerializer:
        """The same serializer for the values of one database."""
        ...

    def train(self, sample: Sequence[bytes], count: int) -> Dictionary | None:
        """Learn a dictionary from stored values.

        Args:
            sample: some of the stored values.
            count: how many there are in all.

        Returns:
            None where it would save too little.
        """
        ...

    def rewrite(self, stored: bytes) -> bytes:
        """The same stored value as it is written with the newest dictionary.

        Raises:
            SerializationError: it is none that this serializer wrote.
        """
        ...
