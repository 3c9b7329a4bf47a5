"""A remote store with scheduled faults and bad manners, around any other store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import BinaryIO, Final, NamedTuple

from ebooklet.adapters.objects import read_body, read_part
from ebooklet.adapters.place import PlacedStore
from ebooklet.errors import (
    AccessDenied,
    EBookletError,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteUnavailable,
    UnsupportedOperation,
)
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Condition,
    IfAbsent,
    IfMatch,
    ObjectMeta,
    Origin,
    RemoteStore,
    StoredObject,
)

__all__ = ["Call", "FaultyRemoteStore", "Manners", "StoreFault", "StoreRule"]

_RACE_WINDOW_S: Final = 0.05


class StoreFault(Enum):
    """One way in which a call fails."""

    REFUSE = "refuse"  # RemoteUnavailable; nothing happened
    DENY = "deny"  # AccessDenied; nothing happened
    DELAY = "delay"  # `amount` milliseconds pass before the call goes on
    LOSE_ANSWER = "lose answer"  # a write lands, then OutcomeUnknown; a read is RemoteUnavailable
    HOLD = "hold"  # OutcomeUnknown; the put lands at `release_held()`, condition and all
    REJECT = "reject"  # PreconditionFailed, for no reason; nothing happened
    VANISH = "vanish"  # a failing put deletes the object: OutcomeUnknown
    TRUNCATE = "truncate"  # a failing put leaves its first `amount` bytes: OutcomeUnknown
    STALE = "stale"  # a read shows what stood `amount` writes ago
    FLIP = "flip"  # a read has the lowest bit of byte `amount` of the object turned over


_WRITE_ONLY: Final = frozenset(
    (StoreFault.HOLD, StoreFault.REJECT, StoreFault.VANISH, StoreFault.TRUNCATE)
)
_READ_ONLY: Final = frozenset((StoreFault.STALE, StoreFault.FLIP))


@dataclass(slots=True)
class StoreRule:
    """When a fault strikes.

    Args:
        fault: what happens.
        op: the call it happens to: get, head, put, delete, list, copy, or "cas" for puts with a
            condition; any call that the fault can happen to, by default. A list's key is its prefix.
        key: the exact key, or a test of it; any, by default.
        skip: calls that are let through first.
        times: how often it strikes; None for always.
        amount: see the fault.
        then: called each time, before the fault happens: what others do at this moment.
    """

    fault: StoreFault
    op: str | None = None
    key: str | Callable[[str], bool] | None = None
    skip: int = 0
    times: int | None = 1
    amount: int = 1
    then: Callable[[], object] | None = None
    struck: int = field(default=0, init=False)  # how often it did
    _seen: int = field(default=0, init=False, repr=False)

    def _fits(self, call: Call) -> bool:
        if self.fault in (_READ_ONLY if call.writes else _WRITE_ONLY):
            return False
        if self.op is not None and not (
            self.op == call.op or (self.op == "cas" and call.conditional)
        ):
            return False
        if callable(self.key):
            return self.key(call.key)
        return self.key is None or self.key == call.key

    def _strikes(self, call: Call) -> bool:
        if not self._fits(call) or (self.times is not None and self.struck >= self.times):
            return False
        self._seen += 1
        if self._seen <= self.skip:
            return False
        self.struck += 1
        return True


@dataclass(frozen=True, slots=True)
class Manners:
    """How a server treats conditions on writes; the default is as it should be.

    Args:
        ignores_if_absent: `If-None-Match: *` is not looked at.
        ignores_if_match: `If-Match` is not looked at.
        races: conditions are checked, but checking and writing are two steps.
        bare_etags_only: an ETag in quotes matches nothing.
        always_refuses: every condition fails.
        matches_absent: `If-Match` holds where no object stands.
        unsupported: every condition is answered with 501.
    """

    ignores_if_absent: bool = False
    ignores_if_match: bool = False
    races: bool = False
    bare_etags_only: bool = False
    always_refuses: bool = False
    matches_absent: bool = False
    unsupported: bool = False


class Call(NamedTuple):
    """One call of a store."""

    op: str
    key: str
    conditional: bool = False

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.op in ("put", "delete", "copy")


class _Held(NamedTuple):
    key: str
    body: bytes
    condition: Condition | None
    cache_control: str | None


class FaultyRemoteStore(PlacedStore):
    """Passes every call on to `inner`, except where a rule or the manners say otherwise.

    Rules are asked in the order they were added; one strikes a call at most. What `inner` holds
    must be changed through this store only, where stale answers are wanted.

    Args:
        inner: any store.
        manners: how conditions are treated.
        sleep: called for delays, with seconds.

    Example:
        >>> from ebooklet.adapters.remote.memory import MemoryRemoteStore
        >>> store = FaultyRemoteStore(MemoryRemoteStore())
        >>> _ = store.add(StoreRule(StoreFault.LOSE_ANSWER, op="put"))
        >>> store.put("k", b"body")
        Traceback (most recent call last):
        ...
        ebooklet.errors.OutcomeUnknown: the answer was lost [op 'put', key 'k']
        >>> store.get("k").body
        b'body'
    """

    def __init__(
        self,
        inner: RemoteStore,
        *,
        manners: Manners | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(inner)
        self.inner = inner
        self.manners = manners or Manners()
        self.calls: list[Call] = []
        self._sleep = sleep
        self._rules: list[StoreRule] = []
        self._held: list[_Held] = []
        self._history: list[tuple[str, StoredObject | None]] = []  # every change, None: deleted
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"FaultyRemoteStore({self.inner!r})"

    # The schedule.

    def add(self, rule: StoreRule) -> StoreRule:
        """Put a rule behind those there are, and return it."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Drop all rules; what is held stays held."""
        with self._lock:
            self._rules.clear()

    @property
    def n_held(self) -> int:
        """How many puts are held."""
        with self._lock:
            return len(self._held)

    def release_held(self) -> int:
        """Let held puts land, each as its condition says now; how many took effect."""
        with self._lock:
            held, self._held = self._held, []
        landed = 0
        for put in held:
            with suppress(EBookletError):
                self._write(*put)
                landed += 1
        return landed

    # The port.

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """See `RemoteStore.get`."""
        rule = self._met(Call("get", key))
        if rule is not None and rule.fault is StoreFault.STALE:
            return _cut(self._as_of(key, rule.amount, "get"), start, stop)
        found = self.inner.get(key, start=start, stop=stop)
        if rule is not None and rule.fault is StoreFault.FLIP:
            return _flipped(found, rule.amount - start)
        return found

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """See `RemoteStore.get_ranges`; each part is a `get` to the rules."""
        return (read_part(self, part) for part in ranges)

    def head(self, key: str) -> ObjectMeta:
        """See `RemoteStore.head`."""
        rule = self._met(Call("head", key))
        if rule is not None and rule.fault is StoreFault.STALE:
            return self._as_of(key, rule.amount, "head").meta
        return self.inner.head(key)

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """See `RemoteStore.put`."""
        rule = self._met(Call("put", key, condition is not None))
        fault = None if rule is None else rule.fault
        whole = read_body(body)
        if fault is StoreFault.HOLD:
            with self._lock:
                self._held.append(_Held(key, whole, condition, cache_control))
        elif fault is StoreFault.VANISH:
            self._remove([key])
        elif fault is StoreFault.TRUNCATE:
            self._write(key, whole[: rule.amount if rule else 0], None, cache_control)
        elif fault is StoreFault.LOSE_ANSWER:
            with suppress(EBookletError):
                self._write(key, whole, condition, cache_control)
        else:
            return self._write(key, whole, condition, cache_control)
        raise OutcomeUnknown("the answer was lost", op="put", key=key)

    def delete(self, keys: Iterable[str]) -> None:
        """See `RemoteStore.delete`; each key is a call to the rules."""
        for key in keys:
            rule = self._met(Call("delete", key))
            self._remove([key])
            if rule is not None and rule.fault is StoreFault.LOSE_ANSWER:
                raise OutcomeUnknown("the answer was lost", op="delete", key=key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See `RemoteStore.list`."""
        rule = self._met(Call("list", prefix))
        if rule is None or rule.fault is not StoreFault.STALE:
            return self.inner.list(prefix, after=after)
        past: dict[str, ObjectMeta] = {}
        with self._lock:
            for key, found in self._history[: max(0, len(self._history) - rule.amount)]:
                past.pop(key, None)
                if found is not None and key.startswith(prefix) and key > after:
                    past[key] = found.meta
        return iter(past.values())

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """See `RemoteStore.copy`; the target is the key to the rules."""
        rule = self._met(Call("copy", target))
        meta = self.inner.copy(source, target, origin=origin)
        with self._lock:
            self._history.append((target, StoredObject(self.inner.get(target).body, meta)))
        if rule is not None and rule.fault is StoreFault.LOSE_ANSWER:
            raise OutcomeUnknown("the answer was lost", op="copy", key=target)
        return meta

    def server_time_ms(self) -> int | None:
        """The inner store's."""
        return self.inner.server_time_ms()

    def close(self) -> None:
        """Close the inner store."""
        self.inner.close()

    # How faults happen.

    def _met(self, call: Call) -> StoreRule | None:
        """Note a call and find the rule that strikes it; simple refusals are raised at once."""
        with self._lock:
            self.calls.append(call)
            rule = next((rule for rule in self._rules if rule._strikes(call)), None)  # noqa: SLF001 - rules are ours
        if rule is None:
            return None
        if rule.then is not None:
            rule.then()
        fault = rule.fault
        if fault is StoreFault.REFUSE or (fault is StoreFault.LOSE_ANSWER and not call.writes):
            raise RemoteUnavailable("the store refused, as scheduled", op=call.op, key=call.key)
        if fault is StoreFault.DENY:
            raise AccessDenied("the store denied, as scheduled", op=call.op, key=call.key)
        if fault is StoreFault.REJECT:
            raise PreconditionFailed("rejected, as scheduled", op=call.op, key=call.key)
        if fault is StoreFault.DELAY:
            self._sleep(rule.amount / 1000)
        return rule

    def _write(
        self, key: str, body: bytes, condition: Condition | None, cache_control: str | None
    ) -> ObjectMeta:
        condition = self._treated(key, condition)
        meta = self.inner.put(key, body, condition=condition, cache_control=cache_control)
        with self._lock:
            self._history.append((key, StoredObject(body, meta)))
        return meta

    def _treated(self, key: str, condition: Condition | None) -> Condition | None:
        """What this server makes of a condition."""
        manners = self.manners
        if condition is None:
            return None
        if manners.unsupported:
            raise UnsupportedOperation("501", op="put", key=key)
        refusal = PreconditionFailed("refused by the server's manners", op="put", key=key)
        if manners.always_refuses:
            raise refusal
        if isinstance(condition, IfAbsent) and manners.ignores_if_absent:
            return None
        if isinstance(condition, IfMatch):
            if manners.ignores_if_match:
                return None
            if manners.bare_etags_only and '"' in condition.etag:
                raise refusal
        if manners.matches_absent or manners.races:
            return self._looked_at(key, condition, refusal)
        return condition

    def _looked_at(
        self, key: str, condition: Condition, refusal: PreconditionFailed
    ) -> Condition | None:
        try:
            etag = self.inner.head(key).etag
        except ObjectNotFound:
            if isinstance(condition, IfMatch):
                if self.manners.matches_absent:
                    return None
                raise refusal from None
        else:
            if isinstance(condition, IfAbsent) or condition.etag.strip('"') != etag.strip('"'):
                raise refusal
        if self.manners.races:
            time.sleep(_RACE_WINDOW_S)  # others look meanwhile, and find what this one found
            return None
        return condition

    def _remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.inner.delete([key])
            with self._lock:
                self._history.append((key, None))

    def _as_of(self, key: str, back: int, op: str) -> StoredObject:
        with self._lock:
            versions = [found for name, found in self._history if name == key]
        past = versions[-1 - back] if len(versions) > back else None
        if past is None:
            raise ObjectNotFound("not there yet, as scheduled", op=op, key=key)
        return past


def _cut(found: StoredObject, start: int, stop: int | None) -> StoredObject:
    return StoredObject(found.body[start:stop], found.meta)


def _flipped(found: StoredObject, at: int) -> StoredObject:
    if not 0 <= at < len(found.body):
        return found
    body = bytearray(found.body)
    body[at] ^= 1
    return StoredObject(bytes(body), found.meta)
