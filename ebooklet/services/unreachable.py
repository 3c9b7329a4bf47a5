"""A remote that is not to be asked: what stands in where there is none, or when offline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Final, NoReturn

from ebooklet.errors import EBookletError
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Capabilities,
    Condition,
    ObjectMeta,
    Origin,
    StoredObject,
)

_CAPABILITIES: Final = Capabilities(
    conditional_put=False,
    server_side_copy=False,
    max_copy_bytes=0,
    ranges=True,
    writable=False,
    max_put_bytes=0,
    shared=False,
)


class UnreachableRemoteStore:
    """Raises at every call, so that whatever is cached locally can still be served.

    Args:
        location: what messages call it.
        why: makes the error to raise, given the operation and the object.
    """

    def __init__(self, location: str, why: Callable[[str, str], EBookletError]) -> None:
        self._location = location
        self._why = why

    @property
    def location(self) -> str:
        """Where the objects would be."""
        return self._location

    @property
    def endpoint(self) -> str:
        """Where the server would be."""
        return self._location

    @property
    def origin(self) -> Origin | None:
        """None: nothing can be copied from here."""
        return None

    @property
    def capabilities(self) -> Capabilities:
        """None to speak of."""
        return _CAPABILITIES

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """Raise."""
        self._refuse("get", key)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """Yield an error for each range."""
        return iter([self._why("get", wanted.key) for wanted in ranges])

    def head(self, key: str) -> ObjectMeta:
        """Raise."""
        self._refuse("head", key)

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """Raise."""
        self._refuse("put", key)

    def delete(self, keys: Iterable[str]) -> None:
        """Raise."""
        self._refuse("delete", next(iter(keys), ""))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Raise."""
        self._refuse("list", prefix)

    def copies_from(self, origin: Origin | None) -> bool:
        """No."""
        return False

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """Raise."""
        self._refuse("copy", source)

    def server_time_ms(self) -> int | None:
        """Unknown."""
        return None

    def close(self) -> None:
        """Nothing to release."""

    def _refuse(self, op: str, key: str) -> NoReturn:
        raise self._why(op, key)
