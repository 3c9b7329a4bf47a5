"""The mapping that a database is to its users: thin, each method calls a service on the copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any, Final, Generic, Never, TypeVar, overload

from ebooklet.core.keys import RESERVED_KEYS, checked_key
from ebooklet.core.timestamps import Timestamp, to_microseconds
from ebooklet.errors import SerializationError
from ebooklet.ports.serializer import Serializer
from ebooklet.services import iterating, metadata, reading, writing
from ebooklet.services.dictionaries import bind
from ebooklet.services.forks import in_forked_child
from ebooklet.services.guards import forked
from ebooklet.services.marking import marked, unmark_unwritten
from ebooklet.services.streaming import stream
from ebooklet.services.working_copy import WorkingCopy
from ebooklet.views import KeyRange, RangeItems, RangeKeys, RangeValues

V = TypeVar("V")
D = TypeVar("D")
_NO_DEFAULT: Final = object()


class MappedCopy(MutableMapping[str, V], Generic[V]):
    """A working copy as a `MutableMapping[str, V]`, with the timestamps and metadata of its own.

    Args:
        copy: the working copy.
        serializer: of the values.
    """

    def __init__(self, copy: WorkingCopy, serializer: Serializer) -> None:
        self._copy = copy
        serializer = bind(copy, serializer)
        self._serializer = copy.serializer = serializer
        # The hot path, bound once: a warm read or write is to cost little more than Booklet's.
        self._loads: Callable[[bytes], V] = serializer.loads
        self._dumps: Callable[[V], bytes] = serializer.dumps
        self._local_get: Callable[[str], bytes | None] = copy.local.get
        self._local_set: Callable[[str, bytes, int], None] = copy.local.set
        self._now_us = copy.clock.now_us
        self._lock = copy.lock
        # `with` on a lock takes twice as long.
        self._acquire: Callable[[], object] = copy.lock.acquire
        self._release = copy.lock.release
        self._touched = copy.pending.touched
        self._refuse_writes = not copy.settings.writable
        in_forked_child(self._abandon_in_child)

    # One key

    def __getitem__(self, key: str) -> V:
        try:
            raw = None if key in RESERVED_KEYS else self._local_get(key)
        except (TypeError, AttributeError, UnicodeEncodeError):
            raw = None  # no key at all; `_read_missing` knows
        if raw is None:
            raw = self._read_missing(key)
            if raw is None:
                raise KeyError(key)
        try:
            return self._loads(raw)
        except SerializationError as exc:
            exc.key = key
            raise

    def __setitem__(self, key: str, value: V) -> None:
        if self._refuse_writes:
            self._copy.require_writable("set", key)
        # Most keys pass without a call: whether others are keys, `checked_key` knows.
        if type(key) is not str or not key.isascii() or len(key) > 1000 or key in RESERVED_KEYS:
            key = checked_key(key)
        try:
            raw = self._dumps(value)
        except SerializationError as exc:
            exc.key = key
            raise
        self._acquire()
        try:
            if self._refuse_writes:  # again, as another thread may have reopened it meanwhile
                self._copy.require_writable("set", key)
            # Marked first: an interrupt between the two leaves a mark too many, not one too few.
            self._touched[key] = None
            try:
                self._local_set(key, raw, self._now_us())
            except BaseException:
                unmark_unwritten(self._copy, (key,))
                raise
        finally:
            self._release()

    def __delitem__(self, key: str) -> None:
        self._copy.require_writable("delete", key)
        if not writing.delete(self._copy, key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return reading.contains(self._copy, key)

    @overload
    def get(self, key: str, /) -> V | None: ...
    @overload
    def get(self, key: str, /, default: V | D) -> V | D: ...
    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default` when it is absent.

        Raises:
            EBookletError: a fetch failed; that is no absent key.
        """
        try:
            return self[key]
        except KeyError:
            return default

    def set(
        self,
        key: str,
        value: Any,
        timestamp: Timestamp = None,
        encode_value: bool = True,
    ) -> None:
        """Write one value locally, with a timestamp of your own if wanted.

        Args:
            key: at most 65,535 bytes of UTF-8.
            value: what the serializer takes, or raw bytes with `encode_value=False`.
            timestamp: µs since the epoch, an ISO 8601 text with zone, or an aware datetime.
            encode_value: whether to serialise.

        Raises:
            ReadOnlyError: the database was opened with flag "r".
            InvalidKeyError, TypeError: not a key.
            SerializationError: the serializer cannot hold the value.
            TypeError: with `encode_value=False` the value is not bytes.
            ValueError: the timestamp says no moment, or the handle is closed.
        """
        self._copy.require_writable("set", key)
        key = checked_key(key)
        if encode_value:
            raw = self._written(key, value)
        elif isinstance(value, bytes):
            raw = value
        else:
            raise TypeError("with encode_value=False the value must be bytes")
        moment = to_microseconds(timestamp, self._now_us())
        with self._lock:
            self._copy.require_writable("set", key)
            with marked(self._copy, (key,)):
                self._local_set(key, raw, moment)

    # Many keys

    def __iter__(self) -> Iterator[str]:
        return iterating.iterate(self._copy)

    def __len__(self) -> int:
        return iterating.length(self._copy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and dict(self.items()) == dict(other.items())

    __hash__ = None  # type: ignore[assignment]  # mutable, as every dict
    __reversed__ = None

    def keys(
        self, prefix: str | None = None, *, start: str | None = None, stop: str | None = None
    ) -> RangeKeys:
        """Keys in order, all of them or a range; reads index nodes in the range only.

        Args:
            prefix: only keys that begin with it.
            start: first key of the range, inclusive.
            stop: end of the range, exclusive.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://ranges", flag="c", value_serializer="json") as db:
            ...     db.update({"a/1": 1, "a/2": 2, "b/1": 3})
            ...     list(db.keys("a/")), list(db.items(start="a/2"))
            (['a/1', 'a/2'], [('a/2', 2), ('b/1', 3)])
        """
        keys = KeyRange.of(prefix, start, stop)
        return RangeKeys(self, self._copy, self._loads, keys)

    def values(
        self, prefix: str | None = None, *, start: str | None = None, stop: str | None = None
    ) -> RangeValues[V]:
        """Values in key order; see `keys`. Missing ones are fetched many at a time."""
        keys = KeyRange.of(prefix, start, stop)
        return RangeValues(self, self._copy, self._loads, keys)

    def items(
        self, prefix: str | None = None, *, start: str | None = None, stop: str | None = None
    ) -> RangeItems[V]:
        """(key, value) pairs in key order; see `keys`. Missing ones are fetched many at a time."""
        keys = KeyRange.of(prefix, start, stop)
        return RangeItems(self, self._copy, self._loads, keys)

    def get_items(self, keys: Iterable[str], default: Any = None) -> Iterator[tuple[str, Any]]:
        """Yield (key, value) for the given keys in the given order, fetching in parallel.

        Raises:
            EBookletError: a fetch failed.
        """
        found = stream(self._copy, keys)
        return ((key, default if one is None else self._read(key, one.value)) for key, one in found)

    def update(self, other: Any = (), /, **kwargs: V) -> None:
        """Set many keys, from a mapping, pairs or keywords.

        An error half way, as of a key or a value that cannot be stored, undoes nothing: what came
        before that item is set, and pending.

        A dict, a list or a tuple is written thousands of items at a time, at less than half the
        cost of as many single sets. Anything else is set item by item, as it may look at what it
        has just given.
        """
        self._copy.require_writable("update")
        if type(self).__setitem__ is not MappedCopy.__setitem__:
            super().update(other, **kwargs)  # a group's entries are made from connections
            return
        if type(other) is dict:
            self._set_all(other.items())
        elif type(other) is list or type(other) is tuple:
            self._set_all(other)
        else:
            super().update(other)
        if kwargs:
            self._set_all(kwargs.items())

    def clear(self) -> None:
        """Delete every key; user metadata stay. The remote follows at the next push, at once."""
        self._copy.require_writable("clear")
        writing.clear(self._copy)

    # In one step, whatever other threads do

    @overload
    def pop(self, key: str, /) -> V: ...
    @overload
    def pop(self, key: str, /, default: V | D) -> V | D: ...
    def pop(self, key: str, /, default: Any = _NO_DEFAULT) -> Any:
        """Delete `key` and return its value; of many threads that try, one gets it.

        Raises:
            KeyError: it is absent, and no default was given.
        """
        self._copy.require_writable("pop", key)
        taken = writing.take(self._copy, key, partial(self._read, key))
        if taken is not None:
            return taken[0]
        if default is _NO_DEFAULT:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, V]:
        """Delete some key and return it with its value.

        Raises:
            KeyError: there is none.
        """
        self._copy.require_writable("popitem")
        taken = writing.take_any(self._copy, self._loads)
        if taken is None:
            raise KeyError("the database is empty")
        return taken

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of `key`, after setting it to `default` if it is absent."""
        self._copy.require_writable("setdefault", key)
        key = checked_key(key)
        try:
            return self[key]
        except KeyError:
            raw = self._written(key, default)
        found = writing.set_if_absent(self._copy, key, raw, self._now_us())
        return default if found is raw else self._read(key, found)

    # Timestamps and metadata

    def timestamps(self, include_value: bool = False) -> Iterator[tuple[Any, ...]]:
        """Yield (key, timestamp) or (key, timestamp, value) for every key; timestamps in µs."""
        found = iterating.iter_timestamps(self._copy, values=include_value)
        if include_value:
            return ((key, timestamp, self._read(key, raw or b"")) for key, timestamp, raw in found)
        return ((key, timestamp) for key, timestamp, _ in found)

    def get_timestamp(
        self,
        key: str,
        include_value: bool = False,
        decode_value: bool = True,
        default: Any = None,
    ) -> Any:
        """When `key` was written, in µs; with its value (raw unless decoded) on request."""
        if not include_value:
            moment = reading.timestamp_of(self._copy, key)
            return default if moment is None else moment
        found = reading.read(self._copy, key)
        if found is None:
            return default
        return found.timestamp, self._read(key, found.value) if decode_value else found.value

    def set_timestamp(self, key: str, timestamp: Timestamp) -> None:
        """Change when `key` was written; this counts as a change. `KeyError` if it is absent."""
        self._copy.require_writable("set_timestamp", key)
        moment = to_microseconds(timestamp, self._now_us())
        if not writing.restamp(self._copy, key, moment):
            raise KeyError(key)

    def set_metadata(self, data: Any, timestamp: Timestamp = None) -> None:
        """Replace the user's metadata, anything JSON can hold; pushed with the next push."""
        self._copy.require_writable("set_metadata")
        metadata.set_metadata(self._copy, data, to_microseconds(timestamp, self._now_us()))

    def get_metadata(self, include_timestamp: bool = False) -> Any:
        """The user's metadata, or (metadata, timestamp in µs), or None if never set."""
        return metadata.get_metadata(self._copy, include_timestamp=include_timestamp)

    # Inside

    def _read(self, key: str, raw: bytes) -> V:
        try:
            return self._loads(raw)
        except SerializationError as exc:
            exc.key = key
            raise

    def _written(self, key: str, value: Any) -> bytes:
        try:
            return self._dumps(value)
        except SerializationError as exc:
            exc.key = key
            raise

    def _set_all(self, pairs: Iterable[tuple[str, V]]) -> None:
        writing.set_many(self._copy, self._encoded(pairs))

    def _encoded(self, pairs: Iterable[tuple[str, V]]) -> Iterator[tuple[str, bytes]]:
        for given, value in pairs:
            key = checked_key(given)
            yield key, self._written(key, value)

    def _abandon_in_child(self) -> None:
        self._local_get = self._local_set = self._acquire = _inherited
        self._copy.abandon_in_child()

    def _shut(self) -> None:
        self._local_get = self._local_set = partial(_closed, self._copy)

    def _read_missing(self, key: object) -> bytes | None:
        self._copy.require_open()
        found = reading.read_missing(self._copy, key)
        return None if found is None else found.value


def _closed(copy: WorkingCopy, *_: object) -> Never:
    raise copy.shut()


def _inherited(*_: object) -> Never:
    raise forked()
