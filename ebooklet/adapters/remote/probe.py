"""Finding out whether a server honours conditional writes, and honours them under a race.

Servers are never judged by their brand: some ignore conditions silently, some answer 501, some
accept them and still let two racers win (FORMAT §6, §11).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ebooklet.adapters.probecache import ProbeCache
from ebooklet.core.head import Proto
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

__all__ = ["Verdict", "probe", "prober"]

_RACERS: Final = 16
_ROUNDS: Final = 3
_BODY_BYTES: Final = 64 * 1024
_ATTEMPTS: Final = 4
_TRIALS: Final = 3
_CALM_S: Final = 5.0  # after a trial that was disturbed
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
    """The server did what mode cas forbids: proof, whatever else went wrong."""


class _Refusal(_Violation):
    """It did not do what it must: proof only if nothing was disturbed meanwhile."""


def probe(
    store: RemoteStore, db_key: str, clock: Clock, *, cache: ProbeCache | None = None
) -> Verdict:
    """Try conditional writes beside a database that is about to be created.

    A trial in which requests failed on the way is no ground for mode lock, unless the server was
    seen to break a rule: it is repeated. Only verdicts that nothing disturbed are remembered.

    Args:
        store: the server and bucket.
        db_key: the database's key; the probe's objects stand where its locks would.
        clock: randomness for names and bodies.
        cache: verdicts of earlier probes, by endpoint.

    Returns:
        "cas" only if every single rule held; whatever was written is removed again.

    Raises:
        AccessDenied, BucketMissingError, RemoteUnavailable: the store cannot be written at all, or
            was so disturbed that nothing could be found out.
    """
    if not store.capabilities.conditional_put:
        # Of this client, not of the server, so it is no matter for the cache.
        return Verdict("lock", "quoted", store.endpoint, "its client cannot send conditions")
    if (known := cache.get(store.endpoint, clock) if cache else None) is not None:
        return Verdict(*known)
    for left in range(_TRIALS - 1, -1, -1):
        trial = _Trial(store, db_key, clock)
        verdict = trial.run(last=not left)
        if verdict is not None:
            break
        clock.sleep(_CALM_S)
    else:
        raise AssertionError("unreachable: the last trial returns a verdict or raises")
    if cache is not None and not trial.disturbed:
        cache.put(store.endpoint, clock, verdict.mode, verdict.etag_style, verdict.reason)
    return verdict


def prober(
    store: RemoteStore, db_key: str, clock: Clock, *, cache: ProbeCache | None = None
) -> Callable[[], Proto]:
    """How a new database finds out in which way its head can be moved; asks nothing before."""

    def find_out() -> Proto:
        verdict = probe(store, db_key, clock, cache=cache)
        return Proto(verdict.mode, verdict.etag_style, clock.now_us() // 1000, verdict.server)

    return find_out


class _Trial:
    """One go through all the rules, on objects of its own.

    Attributes:
        disturbed: whether a request failed on the way, so that what followed may be due to that.
    """

    def __init__(self, store: RemoteStore, db_key: str, clock: Clock) -> None:
        self.disturbed = False
        self._store = store
        self._clock = clock
        self._prefix = f"{lock_key(db_key)}.probe-{clock.token_bytes(8).hex()}-"
        self._used: list[str] = []
        self._style: _Style = "quoted"

    def run(self, *, last: bool) -> Verdict | None:
        """The verdict; None where a disturbance may have been the reason, and it is not the last.

        Raises:
            AccessDenied, BucketMissingError, RemoteUnavailable: see `probe`.
        """
        try:
            return self._judged(last=last)
        finally:
            with suppress(EBookletError):
                self._store.delete(self._used)

    def _judged(self, *, last: bool) -> Verdict | None:
        try:
            self._check_rules()
            keys = [self._name() for _ in range(_ROUNDS)]
            # Side by side: some servers make racers for one key wait, and rounds would add up.
            with ThreadPoolExecutor(_ROUNDS) as pool:
                for _ in pool.map(self._race, keys):
                    pass
        except UnsupportedOperation:
            return self._lock("it knows no conditional writes")
        except _Refusal as found:
            if not self.disturbed:
                return self._lock(str(found))
            if not last:
                return None
            raise RemoteUnavailable(
                f"{self._store.endpoint} fails too often to find out whether it honours "
                f"conditional writes ({found}): try again later",
                op="probe",
            ) from found
        except _Violation as found:
            return self._lock(str(found))
        except (AccessDenied, BucketMissingError, RemoteUnavailable):
            raise
        except StoreError as exc:
            self.disturbed = True
            # If it takes no plain one either, that is what to say.
            self._store.put(self._name(), b"probe")
            if not last:
                return None
            if isinstance(exc, OutcomeUnknown):
                return self._lock("it never answers conditional writes")
            return self._lock(f"it refused a conditional write: {exc.args[0]}")
        return Verdict("cas", self._style, self._store.endpoint, "")

    def _lock(self, reason: str) -> Verdict:
        return Verdict("lock", self._style, self._store.endpoint, reason)

    def _name(self) -> str:
        self._used.append(f"{self._prefix}{len(self._used)}")
        return self._used[-1]

    def _check_rules(self) -> None:
        """What must hold without a race; finds out how the server wants its ETags."""
        key = self._name()
        first, second, third = (self._clock.token_bytes(_BODY_BYTES) for _ in range(3))
        try:
            created = self._put(key, first, IfAbsent())
        except PreconditionFailed as exc:
            raise _Refusal("it refused to create an object that did not exist") from exc
        self._must_refuse(
            key, second, IfAbsent(), "it overwrote an object in spite of If-None-Match"
        )
        if self._read(key).body != first:
            raise _Violation("a refused write changed the object")
        self._style = self._replace(key, second, created)
        self._must_refuse(key, first, self._match(created), "it accepted a stale ETag in If-Match")
        found = self._read(key)
        if found.body != second:
            raise _Violation("a refused write changed the object")
        # Heads are replaced by the ETag of a get as well, which some servers make weak.
        if self._replace(key, third, found.meta) != self._style:
            raise _Refusal("it wants the ETags of get and put in different forms")
        self._must_refuse(
            self._name(),
            first,
            self._match(found.meta),
            "it accepted If-Match on an absent object",
        )

    def _replace(self, key: str, body: bytes, version: ObjectMeta) -> _Style:
        styles: tuple[_Style, ...] = ("quoted", "bare")
        for style in styles:
            with suppress(PreconditionFailed):
                self._put(key, body, _match(version, style))
                return style
        raise _Refusal("it refused If-Match with the ETag it had just given")

    def _match(self, version: ObjectMeta) -> IfMatch:
        return _match(version, self._style)

    def _read(self, key: str) -> StoredObject:
        try:
            return self._store.get(key)
        except ObjectNotFound as exc:
            raise _Refusal("an object just written is not there") from exc

    def _put(self, key: str, body: bytes, condition: Condition) -> ObjectMeta:
        """A conditional put whose outcome is settled, for servers that throttle or drop answers."""
        for left in range(_ATTEMPTS - 1, -1, -1):
            try:
                return self._store.put(key, body, condition=condition)
            except OutcomeUnknown:
                self.disturbed = True
                with suppress(ObjectNotFound):
                    found = self._store.get(key)
                    if found.body == body:
                        return found.meta
                if not left:
                    raise
            except RemoteUnavailable:
                self.disturbed = True
                if not left:
                    raise
            self._clock.sleep(_THROTTLE_S)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _must_refuse(self, key: str, body: bytes, condition: Condition, why: str) -> None:
        try:
            self._put(key, body, condition)
        except PreconditionFailed:
            return
        raise _Violation(why)

    def _race(self, key: str) -> None:
        """Create, then replace, with all racers at once: exactly one may win each time."""
        created = self._one_winner(key, IfAbsent())
        self._one_winner(key, self._match(created))

    def _one_winner(self, key: str, condition: Condition) -> ObjectMeta:
        bodies = [self._clock.token_bytes(_BODY_BYTES) for _ in range(_RACERS)]
        for _ in range(_ATTEMPTS):
            results = _start(self._store, key, bodies, condition)
            winners = [body for body, won in zip(bodies, results, strict=True) if won]
            unsure = [body for body, won in zip(bodies, results, strict=True) if won is None]
            self.disturbed |= bool(unsure)
            try:
                stored = self._store.get(key)
            except ObjectNotFound:
                stored = None
            if stored is not None and not winners and stored.body in unsure:
                winners = [stored.body]
            if stored is not None and winners == [stored.body]:
                return stored.meta
            if len(winners) == 1:
                raise _Violation("a racing conditional write that succeeded was overwritten")
            if winners:
                raise _Violation(f"{len(winners)} of {_RACERS} racing conditional writes succeeded")
            if len(unsure) < _RACERS:
                raise _Refusal(f"none of {_RACERS} racing conditional writes succeeded")
            self._clock.sleep(_THROTTLE_S)  # nobody was let in at all
        raise RemoteUnavailable(
            f"{self._store.endpoint} let none of {_RACERS} racing writes in: try again later",
            op="probe",
        )


def _match(version: ObjectMeta, style: _Style) -> IfMatch:
    if not version.etag:
        raise _Violation("it gives no ETags")
    return IfMatch(version.etag.strip('"') if style == "bare" else version.etag)


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
