"""Shutting out a writer whose lock was taken by force.

In mode cas nothing safe rests on the lock, so a push does not ask the server about it. A writer
that was pushed aside finds out through the head instead: whoever takes the lock by force writes
its token there, and the other's next move of the head meets it.
"""

from __future__ import annotations

from ebooklet.core.advance import amended
from ebooklet.core.head import encode_head
from ebooklet.errors import LockLostError
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease
from ebooklet.services.heads import HeadMoved, HeadStore
from ebooklet.services.snapshot import Snapshot


def check_fence(snapshot: Snapshot, lease: Lease | None, db_key: str) -> None:
    """Raise `LockLostError` if a later holder of the lock has written this head."""
    if lease is not None and snapshot.head.fence > lease.token:
        raise LockLostError(
            "another writer took the lock of this database; nothing was committed, your changes "
            "stay pending. Close this handle and open it again",
            op="push",
            key=db_key,
        )


def raise_fence(
    heads: HeadStore, current: Snapshot, lease: Lease, clock: Clock, db_key: str
) -> Snapshot:
    """Write the lease's token into the head, on top of whatever stands there.

    Returns:
        The head that now stands, with the same commits as before.
    """
    while True:
        fenced = amended(
            current.head,
            write_id=clock.token_bytes(16),
            ms=clock.now_us() // 1000,
            fence=lease.token,
        )
        try:
            return heads.commit(fenced, encode_head(fenced), current, lease)
        except HeadMoved as moved:
            check_fence(moved.current, lease, db_key)
            current = moved.current
