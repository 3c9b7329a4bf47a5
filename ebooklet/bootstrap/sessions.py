"""Opening a remote database as a whole."""

from __future__ import annotations

from contextlib import ExitStack

from ebooklet.adapters.clock import SystemClock
from ebooklet.bootstrap.arguments import Lock
from ebooklet.bootstrap.installed import INSTALLED
from ebooklet.bootstrap.locking import check_lock, lock_elsewhere
from ebooklet.bootstrap.places import place_opener
from ebooklet.core.encryption import EncryptionLike
from ebooklet.core.numbers import check_seconds
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S
from ebooklet.services.place import RemoteLike
from ebooklet.services.request import FLAGS, Flag, check_flag
from ebooklet.session import RemoteSession


def open_session(
    remote_conn: RemoteLike,
    flag: Flag = "r",
    *,
    lock: Lock = "exclusive",
    encryption: EncryptionLike | None = None,
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S,
    clock: Clock | None = None,
    registry: Registry | None = None,
) -> RemoteSession:
    """Open a remote database as a whole, without a local file: to look, delete, copy or lock.

    Args:
        remote_conn: which one, named as for `open`.
        flag: "r" to look only; "w", "c" or "n" (all the same here) also to delete, copy and lock.
        lock: the write lock, as for `open`, if writers name one; "optimistic" is none.
        encryption: the key of an encrypted database, as for `open`; only its user metadata need
            one.
        lock_timeout: seconds to wait for the write lock where one is needed.
        clock: time and randomness, for tests and embedding.
        registry: where names and schemes are looked up.

    Raises:
        ReadOnlyError: another flag than "r" for a remote that can only be read.
        ValueError, TypeError: an argument is wrong.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open_session("memory://nothing-there") as session:
        ...     session.initialized, session.uuid
        (False, None)
    """
    check_flag(flag, FLAGS)
    check_seconds("lock_timeout", lock_timeout)
    clock, registry = clock or SystemClock(), registry or INSTALLED
    check_lock(lock, registry, held=True)
    open_place = place_opener(clock, registry, lock_elsewhere(lock))
    with ExitStack() as undo:
        place = undo.enter_context(place_opener(clock, registry, lock, encryption)(remote_conn))
        session = RemoteSession(place, open_place, writable=flag != "r", lock_timeout=lock_timeout)
        undo.pop_all()
    return session
