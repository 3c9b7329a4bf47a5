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
    heads: HeadStore,
    current: Snapshot,
    token: int,
    clock: Clock,
    db_key: str,
    lease: Lease | None = None,
) -> Snapshot:
    """Write a token into the head, on top of whatever stands there, unless a greater one is there.

    Args:
        heads: where the head is.
        current: the head as it was read last.
        token: holders of smaller ones are shut out.
        clock: for times and randomness.
        db_key: the database's key, for messages.
        lease: whose token it is, if it is somebody's who goes on to write.

    Returns:
        The head that now stands, with the same commits as before.

    Raises:
        LockLostError: a later holder than `lease` has written the head.
    """
    while current.head.fence < token:
        fenced = amended(
            current.head,
            write_id=clock.token_bytes(16),
            ms=clock.now_us() // 1000,
            fence=token,
        )
        try:
            return heads.commit(fenced, encode_head(fenced), current, lease)
        except HeadMoved as moved:
            check_fence(moved.current, lease, db_key)
            current = moved.current
    return current
