"""The RemoteStore port: whole objects under flat keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, TypeAlias, runtime_checkable

from ebooklet.errors import EBookletError

Body: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """One version of one object."""

    key: str
    size: int  # bytes of the whole object
    etag: str  # opaque, exactly as the store gave it; never a checksum to us
    modified_ms: int  # Unix ms by the store's clock; 0 when the store did not say
    # What earlier programs wrote beside a body, names in lower case, of `get` and `head` on stores
    # that have such a thing. Ours write none: some servers change or drop the names.
    user_metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A body and the version it came from; of a range, `meta.size` is still the whole size."""

    body: bytes
    meta: ObjectMeta


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [start, stop) of the object `key`."""

    key: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class IfAbsent:
    """Write only where no object stands (HTTP `If-None-Match: *`)."""


@dataclass(frozen=True, slots=True)
class IfMatch:
    """Write only over the version with this ETag (HTTP `If-Match`)."""

    etag: str


Condition: TypeAlias = IfAbsent | IfMatch


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the adapter can ask for; whether the server obeys is for the probe to find out."""

    conditional_put: bool  # can send IfAbsent and IfMatch
    server_side_copy: bool  # `copy` moves no bytes through the client
    max_copy_bytes: int  # largest object that one `copy` takes
    ranges: bool  # a range costs its own bytes, not the whole object's
    writable: bool
    max_put_bytes: int  # largest body of one atomic put
    shared: bool  # other machines can reach the same objects, so that an answer takes its time
    parallel: int = 1  # requests that `get_ranges` has under way at once


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a store's objects are, as its server knows them: what another store copies from.

    Plain data, so that it passes through whatever wraps the store.
    """

    realm: tuple[str, ...] = field(repr=False)  # server and identity; compared, never shown
    container: str  # the bucket or folder there


@runtime_checkable
class RemoteStore(Protocol):
    """Whole objects under flat keys, usable from many threads at once.

    Promises, each checked by `ebooklet.testing.RemoteStoreContract`:

    1. `put` is atomic: a reader sees the old body or the new one, never a mix, and a refused
       or failed `put` leaves the old one.
    2. A `get`, `head` or `list` that starts after `put` returned sees that body or a later one.
    3. With a condition, `put` is sent exactly once and never repeated by the client library.
       Three outcomes: it returns (done), raises `PreconditionFailed` (refused), or raises
       `OutcomeUnknown` (no answer). `RemoteUnavailable` and the other errors mean: not written.
    4. Reads and unconditional writes may be repeated by the adapter on transport errors and on
       429, 500, 502, 503 and 504.
    5. Only `ebooklet.errors.EBookletError` comes out; the library's own error is `__cause__`.
    6. Keys are opaque: any UTF-8 of 1 to 1024 bytes that has no empty, `.` or `..` component
       names exactly one object, and neighbours (`a`, `a2`, `a/b`, `A`) are never touched.
    7. Bodies that come back are as long as was asked for: a short or oversized answer raises.
    8. Messages, logs and `repr` hold no secret.
    9. `copy` is atomic as `put` is, and works from every origin that `copies_from` accepts: the
       store itself, if it copies at all, and stores of the same server and identity. Any other
       origin is `UnsupportedOperation`, and nothing is written.
    """

    @property
    def location(self) -> str:
        """Where the objects are (endpoint and bucket, no secret), for messages."""
        ...

    @property
    def endpoint(self) -> str:
        """The server, whatever bucket: what the probe found out of one holds for all on it."""
        ...

    @property
    def origin(self) -> Origin | None:
        """Where the objects are, for stores that copy from here; None where none can."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this adapter can be asked for."""
        ...

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """Read an object, or the part [start, stop) of it.

        A `stop` beyond the end gives what there is; a `start` at or beyond the end gives `b""`.

        Raises:
            ObjectNotFound: no such object.
            RemoteUnavailable, AccessDenied, BucketMissingError, StoreError: see promise 5.
        """
        ...

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """Read many parts of many objects, in parallel, and yield them in the order asked.

        The caller has already joined neighbours (`core.plan.coalesce`). At most as many bodies
        as there are transfer threads are held at once, and fewer where they are large. A part
        that fails yields its error in place of its body, and the others still come. A part that
        reaches past the object's end is a failure (`RemoteIntegrityError`): these ranges come
        from an index.

        The objects are such as never change, and their readers check what they get: a store may
        answer from a mirror of them. Who finds the bytes wrong asks again by `get`, which answers
        with what was written.
        """
        ...

    def head(self, key: str) -> ObjectMeta:
        """Describe an object without its body. Raises `ObjectNotFound`."""
        ...

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """Store `body` whole or not at all, and return the version just written.

        Args:
            key: object name, see promise 6.
            body: bytes, or a seekable binary file read from its current position to its end.
                Bodies above `capabilities.max_put_bytes` go in parts, without a condition.
            condition: None overwrites whatever is there.
            cache_control: value of the HTTP header, where the store keeps headers.

        Raises:
            PreconditionFailed: the condition does not hold; nothing was written. `IfMatch` on a
                missing key is this too.
            OutcomeUnknown: no answer came; the write may have happened.
            RemoteUnavailable: nothing was written; the same call may be repeated.
            UnsupportedOperation: the store answered that it knows no conditions (501).

        Source: RFC 9110 §13.1 (preconditions).
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove exactly these objects; those already absent are no error."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Yield every object whose key starts with `prefix` and is greater than `after`.

        The order is the store's own and not to be relied on; each object comes once.
        """
        ...

    def copies_from(self, origin: Origin | None) -> bool:
        """Whether `copy` can take objects from there; makes no request."""
        ...

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """Copy one object by the server, without its bytes passing through here.

        Args:
            source: key of the object, of at most `capabilities.max_copy_bytes`.
            target: key in this store; what stands there is replaced.
            origin: the `origin` of the store that has the object; None is this one.

        Raises:
            ObjectNotFound: no such object.
            UnsupportedOperation: `copies_from(origin)` is False, or the server cannot copy.
            OutcomeUnknown: no answer came; the write may have happened.
            RemoteUnavailable: nothing was written; the same call may be repeated.
        """
        ...

    def server_time_ms(self) -> int | None:
        """Unix ms of the store's last `Date` answer, carried forward; None before any answer."""
        ...

    def close(self) -> None:
        """Release what this adapter opened; idempotent."""
        ...
