"""What a commit, or another change of the remote, takes: checked before anything is done."""

from __future__ import annotations

from ebooklet.core.commit import MAX_MESSAGE_BYTES
from ebooklet.errors import PendingChangesError, ReadOnlyError, RemoteMissingError
from ebooklet.services.hooking import check_reentry
from ebooklet.services.policy import ConflictPolicy, check_policy
from ebooklet.services.working_copy import WorkingCopy


def check_ready(
    copy: WorkingCopy, op: str, message: object, conflict: ConflictPolicy | None = None
) -> None:
    """Refuse a commit that this handle cannot make, or that is not asked for as it should be.

    Raises:
        ReadOnlyError, OfflineError, RemoteMissingError: the handle, or its remote, allows none.
        TypeError, ValueError: the message, or the policy, cannot be one.
        PluginError: a hook of a commit that is under way asks for it.
    """
    check_may_change(copy, op)
    if conflict is not None:
        check_policy(conflict)
    _check_message(message)
    check_reentry(copy, "push")


def check_may_change(copy: WorkingCopy, op: str) -> None:
    """Refuse to change a remote that this handle cannot.

    Raises:
        ReadOnlyError: the handle, or its remote, can only be read.
        OfflineError: the handle makes no requests.
        RemoteMissingError: it has no remote.
    """
    copy.require_writable(op)
    copy.require_online(op)
    if copy.remote is None:
        raise RemoteMissingError(
            f"cannot {op}: this database was opened without a remote; open it with one", op=op
        )
    if not copy.remote.capabilities.writable:
        raise ReadOnlyError(
            f"cannot {op}: {copy.location} can only be read: open it by an S3Connection with "
            "credentials",
            op=op,
            key=copy.db_key,
        )


def check_nothing_pending(copy: WorkingCopy, op: str) -> None:
    """Raise `PendingChangesError` if anything is."""
    with copy.lock:
        copy.pending.absorb()
        pending = bool(copy.pending)
    if pending:
        raise PendingChangesError(
            f"cannot {op} while something is pending: push() or discard() it first",
            op=op,
            key=copy.db_key,
        )


def _check_message(message: object) -> None:
    if not isinstance(message, str):
        raise TypeError(f"a commit message is a str, not {type(message).__name__}")
    if len(message.encode()) > MAX_MESSAGE_BYTES:
        raise ValueError("a commit message may have 4 KiB of UTF-8 at most")
