"""A lease on one object, moved by compare-and-swap (FORMAT §7, mode cas).

The object is created once and never deleted, so that its tokens only grow. No clocks of two
machines are compared: a waiter takes over when it has seen the same ETag for 1.25 ttl of its own
clock, while the holder, who changes the ETag every ttl/4, gives up half a ttl after the last
renewal it knows of. Between the two lies 0.75 ttl for slow requests and drifting clocks.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from ebooklet.adapters.holding import (
    MAX_RECORD_BYTES,
    HeldLease,
    HolderRecord,
    Holding,
    decode_record,
    encode_record,
    is_old_enough,
    lock_timeout,
    own_record,
)
from ebooklet.core.builtparts import check_built
from ebooklet.core.names import lock_key
from ebooklet.errors import (
    EBookletError,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteUnavailable,
    StoreError,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease, LockInfo
from ebooklet.ports.remote_store import Condition, IfAbsent, IfMatch, RemoteStore

__all__ = ["LeaseLockService", "LeaseTiming", "open_service"]

_TAKEOVER: Final = 1.25  # ttl of unchanged ETag before a takeover
_WRITE_TRIES: Final = 5
_LOOK_HOLDS_S: Final = 2.0  # a look ahead may be so old: it only spares a request


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """How a lease breathes; everything in seconds.

    A waiter polls more often than every ttl/4, so that a lock given back is noticed soon; how
    often it looks has no part in the safety argument.
    """

    ttl_s: float = 60.0
    poll_first_s: float = 0.25
    poll_max_s: float = 5.0
    background: bool = True  # renew in a thread; otherwise the caller calls `renew`

    @property
    def renew_every_s(self) -> float:
        """Seconds between renewals."""
        return self.ttl_s / 4

    @property
    def valid_s(self) -> float:
        """Seconds after the last acknowledged renewal when the holder gives up."""
        return self.ttl_s / 2


class _Found(NamedTuple):
    """The lock object as it stands."""

    record: HolderRecord | None  # None: it is not a lease of ours
    etag: str
    modified_ms: int


class _Look(NamedTuple):
    """What `look_ahead` found, and when it asked."""

    found: _Found | None
    asked_at: float


class LeaseLockService:
    """Locks in objects `<name>.lock` of a store whose conditional writes are atomic.

    An uncontended `acquire` costs two requests, `verify` one and `release` one; the first of the
    two can be made before, by `look_ahead`.

    Args:
        remote: where the objects are.
        clock: this machine's; see the Clock port for why it must count suspend.
        timing: shorter in tests.
    """

    kind: Final = "lease"

    def __init__(
        self, remote: RemoteStore, clock: Clock, timing: LeaseTiming | None = None
    ) -> None:
        check_built(
            f"{type(self).__name__}(remote, clock)",
            remote=(remote, (RemoteStore,)),
            clock=(clock, (Clock,)),
        )
        self._remote = remote
        self._clock = clock
        self._timing = timing or LeaseTiming()
        self._owners: set[str] = set()
        self._looks: dict[str, _Look] = {}  # by the lock's key

    @property
    def takeover_s(self) -> float:
        """Longest time in seconds that a dead holder blocks the next."""
        return _TAKEOVER * self._timing.ttl_s + min(
            self._timing.poll_max_s, self._timing.renew_every_s
        )

    def acquire(
        self,
        name: str,
        *,
        timeout: float,
        purpose: str = "write",
        fence: int = 0,
        force: bool = False,
    ) -> Lease:
        """See `LockService.acquire`."""
        clock, key = self._clock, lock_key(name)
        began = clock.monotonic()
        mine = own_record(clock, purpose, "held", ttl_s=self._timing.ttl_s)
        sent: dict[bytes, tuple[HolderRecord, float]] = {}  # writes that may have landed
        watched, watched_since = "", 0.0
        poll_s = self._timing.poll_first_s
        tries = unavailable = 0
        waited = False
        look = self._last_look(key)
        while True:
            found = self._read(key) if look is None else look.found
            now = clock.monotonic()
            if found is not None and found.record is not None and found.record.nonce in sent:
                record, sent_at = sent[found.record.nonce]
                return self._hold(name, record, found.etag, sent_at, waited=waited)
            # A write that was refused, or not answered: another may have come and gone.
            waited |= tries > 0 or not (found is None or self._is_free(found))
            late = now - began >= timeout
            if found is not None and not (
                force or self._may_take(found, watched, now - watched_since)
            ):
                if late:
                    raise lock_timeout(name, self._info(found), now - began)
                if found.etag != watched:
                    watched, watched_since = found.etag, now
                due_s = watched_since + _TAKEOVER * self._ttl_s(found) - now
                clock.sleep(min(self._jittered(poll_s), began + timeout - now, max(due_s, 0.001)))
                poll_s = min(1.6 * poll_s, self._timing.poll_max_s, self._timing.renew_every_s)
                continue
            if late and tries >= (_WRITE_TRIES if force else 1):
                raise lock_timeout(name, self._info(found) if found else None, now - began)
            tries += 1
            seen = found.record.token if found is not None and found.record is not None else 0
            record = replace(mine, token=max(seen, fence) + 1, nonce=clock.token_bytes(16))
            condition: Condition = IfAbsent() if found is None else IfMatch(found.etag)
            sent_at = clock.monotonic()
            sent[record.nonce] = record, sent_at
            try:
                meta = self._remote.put(key, encode_record(record), condition=condition)
            except (PreconditionFailed, OutcomeUnknown):
                unavailable = 0
                if look is not None:  # it was old, and is no reason to give up early
                    tries, waited, look = 0, True, None
                continue  # the next read shows whose write stands there
            except RemoteUnavailable:  # overloaded, or two conditional writes met
                unavailable += 1
                if unavailable >= _WRITE_TRIES:
                    raise
                clock.sleep(self._jittered(self._timing.poll_first_s))
                look = None
                continue
            return self._hold(name, record, meta.etag, sent_at, waited=waited)

    def look_ahead(self, name: str) -> None:
        """See `ForesightedLockService.look_ahead`; one request."""
        key, asked_at = lock_key(name), self._clock.monotonic()
        with suppress(EBookletError):  # `acquire` meets it again
            self._looks[key] = _Look(self._read(key), asked_at)

    def _last_look(self, key: str) -> _Look | None:
        """What was seen of a lock a moment ago, told once, and only where it could be taken."""
        look = self._looks.pop(key, None)
        if look is None or self._clock.monotonic() - look.asked_at > _LOOK_HOLDS_S:
            return None
        return look if look.found is None or self._is_free(look.found) else None

    def inspect(self, name: str) -> LockInfo | None:
        """See `LockService.inspect`; one request."""
        found = self._read(lock_key(name))
        return None if found is None else self._info(found)

    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        """See `LockService.break_lock`; the token stays, so that the next is greater."""
        key = lock_key(name)
        for _ in range(_WRITE_TRIES):
            found = self._read(key)
            if found is None or found.record is None or found.record.state != "held":
                return []
            info = self._info(found)
            if found.record.owner in self._owners or info is None:
                return []
            if not is_old_enough(info.age_s, older_than_s):
                return []
            freed = replace(found.record, state="free", nonce=self._clock.token_bytes(16))
            try:
                self._remote.put(key, encode_record(freed), condition=IfMatch(found.etag))
            except PreconditionFailed:
                continue  # it was renewed or released meanwhile: judge anew
            return [info]
        return []

    def _read(self, key: str) -> _Found | None:
        return _read(self._remote, key)

    def _may_take(self, found: _Found, watched: str, unchanged_s: float) -> bool:
        """Whether the lock is free, or its holder dead."""
        dead = found.etag == watched and unchanged_s >= _TAKEOVER * self._ttl_s(found)
        return dead or self._is_free(found)

    def _is_free(self, found: _Found) -> bool:
        return found.record is not None and found.record.state == "free"

    def _ttl_s(self, found: _Found) -> float:
        """The holder's own ttl; ours for an object that cannot be read."""
        return self._timing.ttl_s if found.record is None else found.record.ttl_ms / 1000

    def _info(self, found: _Found) -> LockInfo | None:
        """The holder; its age is told by its renewals and by the server's clock alone."""
        record = found.record
        if record is None:
            return None
        age_s: float | None = None
        server_ms = self._remote.server_time_ms()
        if record.state == "held" and server_ms is not None and found.modified_ms:
            since_beat_s = max(0, server_ms - found.modified_ms) / 1000
            age_s = record.beat * record.ttl_ms / 4000 + since_beat_s
        return record.info(age_s)

    def _hold(
        self, name: str, record: HolderRecord, etag: str, sent_at: float, *, waited: bool
    ) -> Lease:
        self._owners.add(record.owner)
        holding = _LeaseHolding(
            name, record, self._clock, self._remote, etag, self._timing.valid_s, sent_at
        )
        every_s = self._timing.renew_every_s if self._timing.background else None
        return HeldLease(holding, every_s, waited=waited)

    def _jittered(self, seconds: float) -> float:
        """Between 0.75 and 1.25 of it, so that waiters do not march in step."""
        return seconds * (0.75 + self._clock.token_bytes(1)[0] / 512)


class _LeaseHolding(Holding):
    """A lease that is ours as long as its object changes from our ETags only."""

    def __init__(
        self,
        name: str,
        record: HolderRecord,
        clock: Clock,
        remote: RemoteStore,
        etag: str,
        valid_s: float,
        acked: float,
    ) -> None:
        super().__init__(name, record, clock, valid_s=valid_s, acked=acked)
        self._key = lock_key(name)
        self._remote = remote
        self._etag = etag
        self._sent: dict[bytes, tuple[HolderRecord, float]] = {}

    def renew(self) -> bool:
        with self.mutex:
            if self.lost_because() is not None:
                return False
            for _ in range(2):
                try:
                    self._write(replace(self.record, beat=self.record.beat + 1))
                except PreconditionFailed:
                    # An earlier write whose answer was lost may have landed: then go on from it.
                    if not self._settle_quietly():
                        return False
                except OutcomeUnknown:
                    return self._settle_quietly() and not self._sent
                except StoreError:
                    return False
                else:
                    return True
            return False

    def verify(self) -> None:
        with self.mutex:
            self._settle()

    def free(self) -> None:
        with self.mutex:
            for attempt in range(_WRITE_TRIES):
                try:
                    self._write(replace(self.record, state="free"))
                except (PreconditionFailed, OutcomeUnknown):
                    if not self._settle() or self.record.state == "free":
                        return
                except RemoteUnavailable:
                    if attempt + 1 == _WRITE_TRIES:
                        raise
                else:
                    return

    def _write(self, record: HolderRecord) -> None:
        record = replace(record, nonce=self.clock.token_bytes(16))
        sent_at = self.clock.monotonic()
        self._sent[record.nonce] = record, sent_at
        meta = self._remote.put(self._key, encode_record(record), condition=IfMatch(self._etag))
        self._adopt(record, meta.etag, sent_at)

    def _adopt(self, record: HolderRecord, etag: str, sent_at: float) -> None:
        self.record, self._etag = record, etag
        self._sent.clear()
        self.acknowledge(sent_at)

    def _settle(self) -> bool:
        """Read the object: whether one of our writes stands there. Adopts it, or loses the lock."""
        found = _read(self._remote, self._key)
        if found is None:
            self.lose("its lock object was deleted")
            return False
        if found.record is None:
            self.lose("its lock object was overwritten by something else")
            return False
        if found.record.nonce in self._sent:
            record, sent_at = self._sent[found.record.nonce]
            self._adopt(record, found.etag, sent_at)
            return True
        if found.record.nonce == self.record.nonce:
            self._etag = found.etag
            return True
        by = found.record
        self.lose(
            f"process {by.pid} on {by.host!r} took it over ({by.purpose!r})"
            if by.state == "held" and by.owner != self.record.owner
            else "another process broke it"
        )
        return False

    def _settle_quietly(self) -> bool:
        try:
            return self._settle()
        except StoreError:
            return False


def _read(remote: RemoteStore, key: str) -> _Found | None:
    try:
        stored = remote.get(key, stop=MAX_RECORD_BYTES + 1)
    except ObjectNotFound:
        return None
    return _Found(decode_record(stored.body), stored.meta.etag, stored.meta.modified_ms)


def open_service(
    remote: RemoteStore, clock: Clock, *, folder: Path | None = None
) -> LeaseLockService:
    """Open the service for a remote whose conditional writes the probe found atomic.

    Args:
        remote: holds the lock objects.
        clock: this machine's.
        folder: not needed here; other services keep files in it.
    """
    return LeaseLockService(remote, clock)
