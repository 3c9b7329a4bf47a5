"""Finding out whether a server honours conditional writes, and honours them under a race.

Servers are never judged by their brand: some ignore conditions silently, some answer 501, some
accept them and still let two racers win (FORMAT §6, §11).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ebooklet.adapters.probecache import ProbeCache
from ebooklet.core.names import lock_key
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    EBookletError,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteUnavailable,
    StoreError,
    UnsupportedOperation,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.remote_store import (
    Condition,
    IfAbsent,
    IfMatch,
    ObjectMeta,
    RemoteStore,
    StoredObject,
)

__all__ = ["Verdict", "probe"]

_RACERS: Final = 16
_ROUNDS: Final = 3
_BODY_BYTES: Final = 64 * 1024
_ATTEMPTS: Final = 4
_THROTTLE_S: Final = 1.1  # some servers take one write a second of one key

_Style: TypeAlias = Literal["quoted", "bare"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How heads can be moved on a server."""

    mode: Literal["cas", "lock"]
    etag_style: _Style
    server: str  # where it was found out
    reason: str  # why not "cas"; "" for cas


class _Violation(Exception):
    """The server broke a rule that mode cas rests on."""


def probe(
    store: RemoteStore, db_key: str, clock: Clock, *, cache: ProbeCache | None = None
) -> Verdict:
    """Try conditional writes beside a database that is about to be created.

    Args:
        store: the server and bucket.
        db_key: the database's key; the probe's objects stand where its locks would.
        clock: randomness for names and bodies.
        cache: verdicts of earlier probes, by endpoint.

    Returns:
        "cas" only if every single rule held; whatever was written is removed again.

    Raises:
        AccessDenied, BucketMissingError, RemoteUnavailable: the store cannot be written at all.
    """
    if (known := cache.get(store.endpoint, clock) if cache else None) is not None:
        return Verdict(*known)
    if not store.capabilities.conditional_put:
        verdict = Verdict("lock", "quoted", store.endpoint, "its client cannot send conditions")
    else:
        verdict = _try(store, db_key, clock)
    if cache is not None:
        cache.put(store.endpoint, clock, verdict.mode, verdict.etag_style, verdict.reason)
    return verdict


def _try(store: RemoteStore, db_key: str, clock: Clock) -> Verdict:
    style: _Style = "quoted"
    prefix = f"{lock_key(db_key)}.probe-{clock.token_bytes(8).hex()}-"
    with _names(store, prefix) as name:
        try:
            style = _check_rules(store, name, clock)
            keys = [name() for _ in range(_ROUNDS)]
            # Side by side: some servers make racers for one key wait, and rounds would add up.
            with ThreadPoolExecutor(_ROUNDS) as pool:
                for _ in pool.map(lambda key: _race(store, key, clock, style), keys):
                    pass
        except UnsupportedOperation:
            return Verdict("lock", style, store.endpoint, "it knows no conditional writes")
        except _Violation as found:
            return Verdict("lock", style, store.endpoint, str(found))
        except (AccessDenied, BucketMissingError, RemoteUnavailable):
            raise
        except StoreError as exc:
            store.put(name(), b"probe")  # if it takes no plain one either, that is what to say
            reason = f"it refused a conditional write: {exc.args[0]}"
            return Verdict("lock", style, store.endpoint, reason)
    return Verdict("cas", style, store.endpoint, "")


@contextmanager
def _names(store: RemoteStore, prefix: str) -> Iterator[Callable[[], str]]:
    """Names of probe objects, removed at the end."""
    used: list[str] = []

    def name() -> str:
        used.append(f"{prefix}{len(used)}")
        return used[-1]

    try:
        yield name
    finally:
        with suppress(EBookletError):
            store.delete(used)


def _check_rules(store: RemoteStore, name: Callable[[], str], clock: Clock) -> _Style:
    """What must hold without a race; returns how the server wants its ETags."""
    key = name()
    first, second, third = (clock.token_bytes(_BODY_BYTES) for _ in range(3))
    try:
        created = _put(store, clock, key, first, IfAbsent())
    except PreconditionFailed as exc:
        raise _Violation("it refused to create an object that did not exist") from exc
    _must_refuse(
        store, clock, key, second, IfAbsent(), "it overwrote an object in spite of If-None-Match"
    )
    if _read(store, key).body != first:
        raise _Violation("a refused write changed the object")
    style = _replace(store, clock, key, second, created)
    stale = _match(created, style)
    _must_refuse(store, clock, key, first, stale, "it accepted a stale ETag in If-Match")
    found = _read(store, key)
    if found.body != second:
        raise _Violation("a refused write changed the object")
    # Heads are replaced by the ETag of a get as well, which some servers make weak.
    if _replace(store, clock, key, third, found.meta) != style:
        raise _Violation("it wants the ETags of get and put in different forms")
    absent, any_version = name(), _match(found.meta, style)
    _must_refuse(
        store, clock, absent, first, any_version, "it accepted If-Match on an absent object"
    )
    return style


def _replace(
    store: RemoteStore, clock: Clock, key: str, body: bytes, version: ObjectMeta
) -> _Style:
    styles: tuple[_Style, ...] = ("quoted", "bare")
    for style in styles:
        with suppress(PreconditionFailed):
            _put(store, clock, key, body, _match(version, style))
            return style
    raise _Violation("it refused If-Match with the ETag it had just given")


def _match(version: ObjectMeta, style: _Style) -> IfMatch:
    if not version.etag:
        raise _Violation("it gives no ETags")
    return IfMatch(version.etag.strip('"') if style == "bare" else version.etag)


def _read(store: RemoteStore, key: str) -> StoredObject:
    try:
        return store.get(key)
    except ObjectNotFound as exc:
        raise _Violation("an object just written is not there") from exc


def _put(
    store: RemoteStore, clock: Clock, key: str, body: bytes, condition: Condition
) -> ObjectMeta:
    """A conditional put whose outcome is settled, for servers that throttle or drop answers."""
    for left in range(_ATTEMPTS - 1, -1, -1):
        try:
            return store.put(key, body, condition=condition)
        except OutcomeUnknown as exc:
            with suppress(ObjectNotFound):
                found = store.get(key)
                if found.body == body:
                    return found.meta
            if not left:
                raise _Violation("it never answers conditional writes") from exc
        except RemoteUnavailable:
            if not left:
                raise
        clock.sleep(_THROTTLE_S)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _must_refuse(
    store: RemoteStore, clock: Clock, key: str, body: bytes, condition: Condition, why: str
) -> None:
    try:
        _put(store, clock, key, body, condition)
    except PreconditionFailed:
        return
    raise _Violation(why)


def _race(store: RemoteStore, key: str, clock: Clock, style: _Style) -> None:
    """Create, then replace, with all racers at once: exactly one may win each time."""
    created = _one_winner(store, key, clock, IfAbsent())
    _one_winner(store, key, clock, _match(created, style))


def _one_winner(store: RemoteStore, key: str, clock: Clock, condition: Condition) -> ObjectMeta:
    bodies = [clock.token_bytes(_BODY_BYTES) for _ in range(_RACERS)]
    for _ in range(_ATTEMPTS):
        results = _start(store, key, bodies, condition)
        winners = [body for body, won in zip(bodies, results, strict=True) if won]
        unsure = [body for body, won in zip(bodies, results, strict=True) if won is None]
        try:
            stored = store.get(key)
        except ObjectNotFound:
            stored = None
        if stored is not None and not winners and stored.body in unsure:
            winners = [stored.body]
        if stored is not None and winners == [stored.body]:
            return stored.meta
        if len(unsure) < _RACERS or winners:
            raise _Violation(f"{len(winners)} of {_RACERS} racing conditional writes succeeded")
        clock.sleep(_THROTTLE_S)  # nobody was let in at all
    raise RemoteUnavailable(
        f"{store.endpoint} let none of {_RACERS} racing writes in: try again later", op="probe"
    )


def _start(
    store: RemoteStore, key: str, bodies: Sequence[bytes], condition: Condition
) -> Sequence[bool | None]:
    gate = threading.Barrier(len(bodies))

    def run(body: bytes) -> bool | None:
        gate.wait()
        try:
            store.put(key, body, condition=condition)
        except PreconditionFailed:
            return False
        except (OutcomeUnknown, RemoteUnavailable):
            return None  # what became of it, the object tells
        return True

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(run, bodies))
