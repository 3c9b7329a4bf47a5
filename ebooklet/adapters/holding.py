"""What locks kept in a remote store have in common: the record, the handle and its heartbeat."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Literal

from ebooklet.core.cbor import Malformed, blob, body, decode, encode, text, uint
from ebooklet.errors import LockLostError, LockTimeout, StoreError
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import LockInfo

__all__ = [
    "HEARTBEAT_THREAD",
    "MAX_RECORD_BYTES",
    "HeldLease",
    "HolderRecord",
    "Holding",
    "State",
    "decode_record",
    "encode_record",
    "host_name",
    "is_old_enough",
    "lock_timeout",
    "own_record",
]

HEARTBEAT_THREAD: Final = "ebooklet-lock"
MAX_RECORD_BYTES: Final = 4096
MAX_TTL_MS: Final = 600_000  # a record must not be able to block others for longer
_NONCE_BYTES: Final = 16
_U32: Final = (1 << 32) - 1
_EXIT_WAIT_S: Final = 5.0

State = Literal["free", "held", "waiting"]
_STATES: Final[tuple[State, ...]] = ("free", "held", "waiting")

_log = logging.getLogger("ebooklet")


@dataclass(frozen=True, slots=True)
class HolderRecord:
    """What a lock object says of its holder (FORMAT §7)."""

    token: int
    owner: str
    host: str
    pid: int
    purpose: str
    state: State
    ttl_ms: int
    beat: int  # renewals so far
    nonce: bytes  # 16 random bytes, new with every write: tells which write landed

    def info(self, age_s: float | None) -> LockInfo:
        """The record as the port shows it."""
        return LockInfo(
            owner=self.owner,
            host=self.host,
            pid=self.pid,
            purpose=self.purpose,
            token=self.token,
            state="held" if self.state == "held" else "free",
            age_s=age_s,
        )


def own_record(clock: Clock, purpose: str, state: State, *, ttl_s: float) -> HolderRecord:
    """What a lock object of this process says, before it has a token."""
    return HolderRecord(
        token=0,
        owner=clock.token_bytes(16).hex(),
        host=host_name(),
        pid=os.getpid(),
        purpose=purpose[:100],
        state=state,
        ttl_ms=round(ttl_s * 1000),
        beat=0,
        nonce=bytes(_NONCE_BYTES),
    )


def is_old_enough(age_s: float | None, older_than_s: float) -> bool:
    """Whether a lock held for `age_s` may be broken by who breaks older ones; None is not known."""
    return older_than_s <= 0 or (age_s is not None and age_s >= older_than_s)


def encode_record(record: HolderRecord) -> bytes:
    """The body of a lock object."""
    return encode(
        {
            0: record.token,
            1: record.owner,
            2: record.host,
            3: record.pid,
            4: record.purpose,
            5: _STATES.index(record.state),
            6: record.ttl_ms,
            7: record.beat,
            8: record.nonce,
        }
    )


def decode_record(data: bytes) -> HolderRecord | None:
    """Read the body of a lock object; None for anything that is not one, or is too long."""
    if len(data) > MAX_RECORD_BYTES:
        return None
    try:
        fields = body(decode(data))
        return HolderRecord(
            token=uint(fields.get(0), "token"),
            owner=text(fields.get(1), "owner"),
            host=text(fields.get(2), "host", 255),
            pid=uint(fields.get(3), "pid", _U32),
            purpose=text(fields.get(4), "purpose"),
            state=_STATES[uint(fields.get(5), "state", len(_STATES) - 1)],
            ttl_ms=max(1, min(uint(fields.get(6), "ttl"), MAX_TTL_MS)),
            beat=uint(fields.get(7), "beat"),
            nonce=blob(fields.get(8), "nonce", _NONCE_BYTES),
        )
    except Malformed:
        return None


def host_name() -> str:
    """This machine's name, as others will read it."""
    return socket.gethostname()[:63]


def lock_timeout(name: str, info: LockInfo | None, waited_s: float) -> LockTimeout:
    """The error of a wait that ended: names holder, host, age and the way out."""
    if info is None:
        holder = "a holder that left no readable name"
    else:
        age = "an unknown time" if info.age_s is None else f"{info.age_s:.0f} s"
        holder = f"process {info.pid} on {info.host!r} for {age} ({info.purpose!r})"
    return LockTimeout(
        f"locked by {holder}; gave up after {waited_s:.1f} s. Close the database there, raise "
        "lock_timeout, or, if that process is dead, open with force_lock=True",
        holder=holder,
        op="lock",
        key=name,
    )


class Holding(ABC):
    """A lock that this process has in a remote store: when it was last known to be ours.

    Args:
        name: the database's key.
        record: what was written when it was acquired.
        clock: measures how long renewals have been missing.
        valid_s: seconds after the last acknowledged renewal when others may take it.
        acked: `clock.monotonic()` just before the last acknowledged write was sent.
    """

    def __init__(
        self, name: str, record: HolderRecord, clock: Clock, *, valid_s: float, acked: float
    ) -> None:
        self.name = name
        self.record = record
        self.clock = clock
        self.mutex = threading.RLock()
        self._valid_s = valid_s
        self._acked = acked
        self._since = acked
        self._pid = os.getpid()
        self._lost_because: str | None = None

    def info(self) -> LockInfo:
        """This holder, as others see it."""
        return self.record.info(max(0.0, self.clock.monotonic() - self._since))

    def acknowledge(self, sent_at: float) -> None:
        """A write sent at `sent_at` is known to have landed."""
        self._acked = max(self._acked, sent_at)

    def lose(self, because: str) -> None:
        """Remember for good that the lock is gone."""
        if self._lost_because is None:
            self._lost_because = because

    def lost_because(self) -> str | None:
        """Why the lock must be taken as lost; None while it is ours. Makes no request."""
        if self._lost_because is None:
            if os.getpid() != self._pid:
                # The child's own view only: its parent's object is another copy.
                self.lose("it belongs to the process this one was forked from")
            elif self.clock.monotonic() - self._acked > self._valid_s:
                self.lose("it could not be renewed in time, so another may have taken it")
        return self._lost_because

    def check(self) -> None:
        """Raise `LockLostError` if the lock must be taken as lost."""
        if (because := self.lost_because()) is not None:
            raise LockLostError(
                f"the lock is lost: {because}. Nothing more was committed; changes stay pending: "
                "open the database again and push",
                op="lock",
                key=self.name,
            )

    def foreign_process(self) -> bool:
        """Whether this object came here through `fork` and must touch nothing."""
        return os.getpid() != self._pid

    @abstractmethod
    def renew(self) -> bool:
        """Renew; whether it was acknowledged. Loses the lock where it is no longer ours."""

    @abstractmethod
    def verify(self) -> None:
        """Ask the store; lose the lock where it is no longer ours. May raise `StoreError`."""

    @abstractmethod
    def free(self) -> None:
        """Give the lock back, if it is still ours. May raise `StoreError`."""


class _Heart:
    """The thread that renews one holding. It does not keep the handle alive."""

    def __init__(self, holding: Holding, every_s: float) -> None:
        self._holding = holding
        self._every_s = every_s
        self._stop = threading.Event()
        self._free_at_end = False
        self._thread = threading.Thread(target=self._run, name=HEARTBEAT_THREAD, daemon=True)
        try:
            self._thread.start()
        except BaseException:  # Ctrl-C while it starts: nobody would have a handle to end it by
            self.abandon()
            raise
        _hearts.add(self)

    def stop(self) -> None:
        """End the thread; it touches nothing more after the request under way."""
        self._stop.set()

    def abandon(self) -> None:
        """The handle is gone: let the thread free the lock and end.

        The garbage collector may call this anywhere, also in code of the client library that
        holds its own locks, so no request is made here.
        """
        if self._stop.is_set():
            return  # it was released, and freeing it again would get in the next holder's way
        self._free_at_end = True
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s = self._every_s
        while not self._stop.wait(wait_s):
            if self._holding.lost_because() is not None:
                return
            renewed = self._holding.renew()
            wait_s = self._every_s if renewed else self._every_s / 4
        if self._free_at_end:
            _free_quietly(self._holding)


_hearts: weakref.WeakSet[_Heart] = weakref.WeakSet()


def _free_all_at_exit() -> None:
    """Free what the program forgot, so that the next writer need not wait for its expiry."""
    hearts = [heart for heart in _hearts if not heart._holding.foreign_process()]  # noqa: SLF001  # our own class
    for heart in hearts:
        heart.abandon()
    for heart in hearts:
        heart.join(_EXIT_WAIT_S)


atexit.register(_free_all_at_exit)


def _free_quietly(holding: Holding) -> None:
    try:
        holding.free()
    except StoreError as exc:
        _log.warning(
            "the lock of %r could not be given back, it will expire: %s", holding.name, exc
        )


class HeldLease:
    """The handle of a lock kept in a remote store; see `ebooklet.ports.lock_service.Lease`.

    Dropped without `release`, it is freed in the background, also at the interpreter's exit.

    Args:
        holding: the lock.
        renew_every_s: seconds between renewals in the background; None for none, where the
            caller calls `renew` itself.
        waited: whether another may have held it since it was asked for.
    """

    def __init__(self, holding: Holding, renew_every_s: float | None, *, waited: bool) -> None:
        self.waited = waited
        self._holding = holding
        self._released = False
        self._heart: _Heart | None = None
        if renew_every_s is not None:
            self._heart = _Heart(holding, renew_every_s)
            weakref.finalize(self, self._heart.abandon).atexit = False

    @property
    def token(self) -> int:
        """Fencing token: greater than that of every earlier holder."""
        return self._holding.record.token

    @property
    def info(self) -> LockInfo:
        """Who holds it: this process."""
        return self._holding.info()

    @property
    def lost(self) -> bool:
        """Whether another may hold the lock by now."""
        return self._holding.lost_because() is not None

    def check(self) -> None:
        """Raise `LockLostError` if `lost`; makes no request."""
        self._holding.check()

    def verify(self) -> None:
        """Ask the store whether the lock is still ours; one request."""
        self._holding.check()
        self._holding.verify()
        self._holding.check()

    def renew(self) -> bool:
        """Renew now; whether that was acknowledged. The background thread does this by itself."""
        return self._holding.lost_because() is None and self._holding.renew()

    def release(self) -> None:
        """Give the lock back; idempotent. If the store cannot be reached, it expires."""
        if self._released:
            return
        self._released = True
        if self._heart is not None:
            self._heart.stop()
        if self._holding.foreign_process():
            return
        self._holding.lose("it was released")  # from the moment when another may enter
        _free_quietly(self._holding)
