"""A key-value database in one local file, kept in step with any S3-compatible bucket.

Names are resolved when first used, so that `import ebooklet` stays cheap and loads no client
library. `open` is where to start.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers read it as True; `typing` alone would double the import's cost
if TYPE_CHECKING:
    from ebooklet import errors
    from ebooklet.connection import S3Connection
    from ebooklet.errors import (
        AccessDenied,
        BucketMissingError,
        ConcurrentCompactionError,
        ConflictError,
        EBookletError,
        Error,
        ForkedProcessError,
        GroupTooLargeError,
        InvalidKeyError,
        LocalFileError,
        LockLostError,
        LockTimeout,
        ObjectNotFound,
        OfflineError,
        OutcomeUnknown,
        PluginError,
        PreconditionFailed,
        PushInProgressError,
        ReadOnlyError,
        RemoteDeleted,
        RemoteIntegrityError,
        RemoteMissingError,
        RemoteRewound,
        RemoteUnavailable,
        ReplaceConflict,
        SerializationError,
        SnapshotExpired,
        StoreError,
        UnknownNameError,
        UnsupportedFormatError,
        UnsupportedOperation,
        UUIDMismatchError,
    )

__version__ = "1.0.0.dev0"

__all__ = [
    "AccessDenied",
    "BucketMissingError",
    "ConcurrentCompactionError",
    "ConflictError",
    "EBookletError",
    "Error",
    "ForkedProcessError",
    "GroupTooLargeError",
    "InvalidKeyError",
    "LocalFileError",
    "LockLostError",
    "LockTimeout",
    "ObjectNotFound",
    "OfflineError",
    "OutcomeUnknown",
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
    "S3Connection",
    "SerializationError",
    "SnapshotExpired",
    "StoreError",
    "UUIDMismatchError",
    "UnknownNameError",
    "UnsupportedFormatError",
    "UnsupportedOperation",
    "__version__",
    "errors",
]

# Every public name that is not an error, and the module it lives in.
_HOMES = {
    "S3Connection": "ebooklet.connection",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("ebooklet.errors")
    if name not in __all__:
        raise AttributeError(f"module 'ebooklet' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES.get(name, "ebooklet.errors")), name)
    globals()[name] = value  # the next use finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
