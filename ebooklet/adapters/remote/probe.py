"""Finding out whether a server honours conditional writes, and honours them under a race.

Servers are never judged by their brand: some ignore conditions silently, some answer 501, some
accept them and still let two racers win (FORMAT §6, §11).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal

from ebooklet.adapters.probecache import ProbeCache
from ebooklet.core.names import lock_key
from ebooklet.errors import (
    EBookletError,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteUnavailable,
    UnsupportedOperation,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.remote_store import Condition, IfAbsent, IfMatch, ObjectMeta, RemoteStore

__all__ = ["Verdict", "probe"]

_RACERS: Final = 16
_ROUNDS: Final = 3
_BODY_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """How heads can be moved on a server."""

    mode: Literal["cas", "lock"]
    etag_style: Literal["quoted", "bare"]
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
    style: Literal["quoted", "bare"] = "quoted"
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


def _check_rules(
    store: RemoteStore, name: Callable[[], str], clock: Clock
) -> Literal["quoted", "bare"]:
    """What must hold without a race; returns how the server wants its ETags."""
    key = name()
    first, second = clock.token_bytes(_BODY_BYTES), clock.token_bytes(_BODY_BYTES)
    created = store.put(key, first, condition=IfAbsent())
    _must_refuse(store, key, second, IfAbsent(), "it overwrote an object in spite of If-None-Match")
    if store.get(key).body != first:
        raise _Violation("a refused write changed the object")
    style, replaced = _replace(store, key, second, created.etag)
    _must_refuse(store, key, first, _match(created, style), "it accepted a stale ETag in If-Match")
    if store.get(key).body != second:
        raise _Violation("a refused write changed the object")
    absent = name()
    _must_refuse(
        store, absent, first, _match(replaced, style), "it accepted If-Match on an absent object"
    )
    return style


def _replace(
    store: RemoteStore, key: str, body: bytes, etag: str
) -> tuple[Literal["quoted", "bare"], ObjectMeta]:
    styles: tuple[Literal["quoted", "bare"], ...] = ("quoted", "bare")
    for style in styles:
        wanted = etag.strip('"')
        with suppress(PreconditionFailed):
            wanted = wanted if style == "bare" else etag
            return style, store.put(key, body, condition=IfMatch(wanted))
    raise _Violation("it refused If-Match with the ETag it had just given")


def _match(version: ObjectMeta, style: str) -> IfMatch:
    return IfMatch(version.etag.strip('"') if style == "bare" else version.etag)


def _must_refuse(store: RemoteStore, key: str, body: bytes, condition: Condition, why: str) -> None:
    try:
        store.put(key, body, condition=condition)
    except PreconditionFailed:
        return
    except (OutcomeUnknown, RemoteUnavailable) as exc:
        raise _Violation(f"it failed on a condition: {exc}") from exc
    raise _Violation(why)


def _race(store: RemoteStore, key: str, clock: Clock, style: str) -> None:
    """Create, then replace, with all racers at once: exactly one may win each time."""
    created = _one_winner(store, key, clock, IfAbsent())
    _one_winner(store, key, clock, _match(created, style))


def _one_winner(store: RemoteStore, key: str, clock: Clock, condition: Condition) -> ObjectMeta:
    gate = threading.Barrier(_RACERS)

    def run(body: bytes) -> bool | None:
        gate.wait()
        try:
            store.put(key, body, condition=condition)
        except PreconditionFailed:
            return False
        except (OutcomeUnknown, RemoteUnavailable):
            return None  # what became of it, the object tells
        return True

    bodies = [clock.token_bytes(_BODY_BYTES) for _ in range(_RACERS)]
    with ThreadPoolExecutor(_RACERS) as pool:
        results = list(pool.map(run, bodies))
    winners = [body for body, won in zip(bodies, results, strict=True) if won]
    stored = store.get(key)
    unsure = [body for body, won in zip(bodies, results, strict=True) if won is None]
    if not winners and stored.body in unsure:
        winners = [stored.body]
    if winners != [stored.body]:
        raise _Violation(f"{len(winners)} of {_RACERS} racing conditional writes succeeded")
    return stored.meta
