"""Rotation: everything that is current comes to lie under the current key."""

from __future__ import annotations

from ebooklet.core.head import Head
from ebooklet.core.keyring import forget_keys
from ebooklet.errors import EncryptionError
from ebooklet.services.attempts import PushResult, carry_out, nothing_to_do
from ebooklet.services.pull import pull
from ebooklet.services.readiness import check_ready
from ebooklet.services.retained import HistoryReader
from ebooklet.services.rewriting import Rewrite
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy


def rotate(copy: WorkingCopy, *, message: str = "") -> PushResult:
    """Commit the newest snapshot anew, with all its blocks sealed under the current key.

    Content, digests and fingerprint stay. Nothing is committed when all lies under it already.
    Older commits stay as they are, under the keys they were written with, until they expire; the
    head lists these keys.

    Raises:
        EncryptionError: the database is not encrypted, or a key that is needed is missing.
        ReplaceConflict: the next push is to replace the whole database.
        EBookletError: see `push`.
    """
    check_ready(copy, "rotate_keys", message)
    if not copy.sealer.seals:
        raise EncryptionError(
            "this database is not encrypted, so that there is no key to rotate: what is to be "
            "encrypted has to be created so, with encryption=, and filled anew",
            op="rotate_keys",
            key=copy.db_key,
        )
    copy.keyring.renew()
    pull(copy)
    with copy.lock:
        copy.set_base(copy.base)
        base, sealer = copy.base, copy.sealer
    if base is None or sealer.current is None or _is_done(base, sealer.current):
        return nothing_to_do(base)
    return carry_out(copy, lambda: _Rotation(copy, message, "rotate", chosen=lambda _: True))


class _Rotation(Rewrite):
    """A rewrite of everything, after which the head lists only the keys that are still needed."""

    def _following(self, last: Head, head: Head) -> Head:
        history = HistoryReader(self.copy.segments, self.copy.db_key, last)
        needed = {key_id for _, commit in history.commits() for key_id in commit.key_ids}
        # Of what cannot be read nobody knows which keys it needs.
        return head if history.problems else forget_keys(head, needed)


def _is_done(base: Snapshot, current: str) -> bool:
    table = base.head.encryption
    return base.commit.key_ids == (current,) and table is not None and table.key_id == current
