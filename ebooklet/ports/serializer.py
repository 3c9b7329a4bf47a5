"""The Serializer port: values to bytes and back."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


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
