"""The one exception tree. A class exists only where a caller would act differently.

Every error carries `op` (what was tried) and `key` (the key or object it was tried on), so that
handlers never parse messages. This module imports nothing, so that every layer may import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = [
    "AccessDenied",
    "BucketMissingError",
    "ConcurrentCompactionError",
    "ConflictError",
    "DiskFullError",
    "EBookletError",
    "EncryptionError",
    "Error",
    "ForkedProcessError",
    "GroupTooLargeError",
    "InvalidKeyError",
    "InvalidURLError",
    "LocalFileError",
    "LockLostError",
    "LockTimeout",
    "MigrationIncomplete",
    "NameClashError",
    "ObjectNotFound",
    "OfflineError",
    "OutcomeUnknown",
    "PendingChangesError",
    "PluginError",
    "PreconditionFailed",
    "PushInProgressError",
    "ReadOnlyError",
    "RemoteDeleted",
    "RemoteIntegrityError",
    "RemoteMissingError",
    "RemoteRewound",
    "RemoteUnavailable",
    "ReplaceConflict",
    "SerializationError",
    "SnapshotExpired",
    "StagedExpired",
    "StoreError",
    "UUIDMismatchError",
    "UnknownNameError",
    "UnknownVersionError",
    "UnsupportedFormatError",
    "UnsupportedOperation",
]


class EBookletError(Exception):
    """Root of every error this library raises on purpose.

    Args:
        message: what happened and what to do about it; never a secret.
        op: the operation that failed, for example `"get"` or `"push"`.
        key: the database key or the object name it failed on.
    """

    def __init__(self, message: str, *, op: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.op = op
        self.key = key

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""
        context = ", ".join(
            f"{name} {value!r}" for name, value in (("op", self.op), ("key", self.key)) if value
        )
        return f"{message} [{context}]" if context else message


Error = EBookletError


# What a store reports. `StoreError` itself: refused, and no finer class would help the caller.


class StoreError(EBookletError):
    """A remote store refused or failed in a way no finer class describes."""


class ObjectNotFound(StoreError):
    """The object is not in the store: a fact, not a failure. Never becomes a `KeyError`."""


class BucketMissingError(StoreError):
    """The bucket, container or root folder does not exist: create it or correct its name."""


class PreconditionFailed(StoreError):
    """A conditional write was refused and nothing was written: read again and decide anew."""


class RemoteUnavailable(StoreError, ConnectionError):
    """The store could not be reached or was overloaded, and nothing was written: try again."""


class OutcomeUnknown(StoreError):
    """No answer came to a write, which may or may not have happened: settle it by reading."""


class AccessDenied(StoreError, PermissionError):
    """The store refused the credentials or the permission: correct them."""


class UnsupportedOperation(StoreError):
    """The store or its client library has no such ability (see its `capabilities`)."""


# What the remote database reports.


class RemoteMissingError(EBookletError, ValueError):
    """There is no remote database at this place."""


class RemoteDeleted(EBookletError):
    """The remote database was deleted while this handle was open; local data is untouched."""


class RemoteRewound(EBookletError):
    """The remote head is older than one this local copy has already seen: stale or restored."""


class RemoteIntegrityError(EBookletError):
    """Stored bytes do not match their checksum or digest; nothing of them was returned."""


class UnsupportedFormatError(EBookletError, ValueError):
    """The object is not ours, or a newer version of the format wrote it."""


class EncryptionError(EBookletError, ValueError):
    """The database is encrypted and the right key is not to be had, or it is not and one was given.

    Args:
        message: what to do; never a key.
        key_id: id of the key that is needed; "" where it is not about one.
    """

    def __init__(
        self, message: str, *, key_id: str = "", op: str | None = None, key: str | None = None
    ) -> None:
        super().__init__(message, op=op, key=key)
        self.key_id = key_id


class UUIDMismatchError(EBookletError, ValueError):
    """Two halves belong to different databases; nothing was changed."""


class NameClashError(EBookletError, ValueError):
    """The server cannot keep two names apart, or side by side: choose another db_key.

    Args:
        message: what to do.
        other: the name, or the object, that is in the way.
    """

    def __init__(
        self, message: str, *, other: str = "", op: str | None = None, key: str | None = None
    ) -> None:
        super().__init__(message, op=op, key=key)
        self.other = other


class UnknownVersionError(EBookletError, ValueError):
    """No branch, tag or commit answers to this; the message says what there is."""


class SnapshotExpired(EBookletError):
    """The snapshot in use is no longer retained by the remote: pull, then repeat."""


class StagedExpired(EBookletError):
    """What a staged writer laid into the bucket is not there any more: run its task again.

    Args:
        message: what to do.
        number: of the result among those that were to be merged, counted from 0.
    """

    def __init__(
        self, message: str, *, number: int, op: str | None = None, key: str | None = None
    ) -> None:
        super().__init__(message, op=op, key=key)
        self.number = number


class GroupTooLargeError(EBookletError, ValueError):
    """Named by programs of EBooklet 0.11; never raised, as groups are of any size."""


# What writing reports.


class ReadOnlyError(EBookletError, ValueError):
    """The handle, or the credentials behind it, may only read."""


class ConflictError(EBookletError):
    """Keys changed both here and in the remote; all of them stay pending.

    Args:
        message: what to do.
        keys: the conflicting keys, sorted.
    """

    def __init__(
        self,
        message: str,
        *,
        keys: Sequence[str] = (),
        op: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message, op=op, key=key)
        self.keys = tuple(keys)


class MigrationIncomplete(EBookletError):
    """Part of an old database could not be read, and nothing was pushed: repair it or do without.

    Args:
        message: what to do.
        failures: the keys that could not be read, with the reasons.
        notes: what could not be read or told and belongs to no key.
    """

    def __init__(
        self,
        message: str,
        *,
        failures: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        op: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message, op=op, key=key)
        self.failures = dict(failures or {})
        self.notes = tuple(notes)


class PendingChangesError(EBookletError, ValueError):
    """Something is pending that the operation would mix with: push or discard it first."""


class ReplaceConflict(EBookletError):
    """A replacement of the whole database met a head that moved; repeat it or force it."""


class LockTimeout(EBookletError, TimeoutError):
    """Another holder kept the lock for the whole wait; the message names it.

    Args:
        message: who holds it, and what to do.
        holder: who does, in words; "" where that is not known.
    """

    def __init__(
        self, message: str, *, holder: str = "", op: str | None = None, key: str | None = None
    ) -> None:
        super().__init__(message, op=op, key=key)
        self.holder = holder


class LockLostError(EBookletError):
    """The lock was taken over by another writer; nothing was committed, changes stay pending."""


class PushInProgressError(EBookletError, RuntimeError):
    """The operation cannot run while a push is under way on this handle."""


class ConcurrentCompactionError(EBookletError, RuntimeError):
    """Named by programs of EBooklet 0.11; never raised, as readers outlive a compaction."""


# What the caller, the local half or the installation got wrong.


class InvalidKeyError(EBookletError, ValueError):
    """The key, of a value or of a database, is too long, not UTF-8, or reserved: choose another."""


class InvalidURLError(EBookletError, ValueError, TypeError):
    """It names no remote database, or holds credentials, which would end up in logs."""


class LocalFileError(EBookletError, ValueError, TypeError):
    """The local file is not a Booklet this library can use; it was left as it was."""


class DiskFullError(LocalFileError, OSError):
    """The disk of the local file has no room: make some, then `sync()` keeps all that was set.

    Args:
        message: what to do.
        errno: the system's number of the failure; None where it has none.
        filename: path of the local file.
    """

    def __init__(
        self,
        message: str,
        *,
        errno: int | None = None,
        filename: str | None = None,
        op: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message, op=op, key=key)
        self.errno = errno
        self.filename = filename


class OfflineError(EBookletError):
    """The data are not cached locally and the handle is offline."""


class ForkedProcessError(EBookletError, RuntimeError):
    """The handle was inherited through `fork`: open the database again in the child."""


class SerializationError(EBookletError, ValueError, TypeError):
    """A value cannot be encoded or decoded by the database's serializer."""


class UnknownNameError(EBookletError, ValueError):
    """No installed plugin answers to this scheme or name; the message lists those that do."""


class PluginError(EBookletError):
    """A plugin failed or does not fit, two packages claim one name, or a hook calls what called it."""
