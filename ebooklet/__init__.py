"""A key-value database in one local file, kept in step with any S3-compatible bucket.

Names are resolved when first used, so that `import ebooklet` stays cheap and loads no client
library. `open` is where to start.

(PYTEST_DONT_REWRITE: programs that import this before they run pytest are not warned of it.)
"""

from __future__ import annotations

from importlib import import_module

# Type checkers read it as True; importing `typing` for it would double the cost of the import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ebooklet import errors, remote
    from ebooklet.adapters.encryption.keyfile import KeyFile
    from ebooklet.bootstrap import (
        fsck,
        migrate,
        open,  # noqa: A004  the dbm name
        open_ebooklet,
        open_rcg,
        open_session,
    )
    from ebooklet.connection import S3Connection
    from ebooklet.core.encryption import Encryption
    from ebooklet.core.merge import ABSENT, UNKNOWN
    from ebooklet.database import EBooklet
    from ebooklet.database import EBooklet as EVariableLengthValue
    from ebooklet.embedding import Database, LocalHalf
    from ebooklet.errors import (
        AccessDenied,
        BucketMissingError,
        ConcurrentCompactionError,
        ConflictError,
        DiskFullError,
        EBookletError,
        EncryptionError,
        Error,
        ForkedProcessError,
        GroupTooLargeError,
        InvalidKeyError,
        InvalidURLError,
        LocalFileError,
        LockLostError,
        LockTimeout,
        MigrationIncomplete,
        NameClashError,
        ObjectNotFound,
        OfflineError,
        OutcomeUnknown,
        PendingChangesError,
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
        StagedExpired,
        StoreError,
        UnknownNameError,
        UnknownVersionError,
        UnsupportedFormatError,
        UnsupportedOperation,
        UUIDMismatchError,
    )
    from ebooklet.group import RemoteConnGroup
    from ebooklet.services.attempts import PushResult
    from ebooklet.services.branches import BranchInfo
    from ebooklet.services.differences import Difference
    from ebooklet.services.fsck.report import FsckReport
    from ebooklet.services.history import CommitInfo
    from ebooklet.services.maintenance.report import CompactionReport, GcReport
    from ebooklet.services.merging import MergeResult
    from ebooklet.services.migration.report import MigrationReport
    from ebooklet.services.packing import DEFAULT_GROUP_BYTES
    from ebooklet.services.pull import PullResult
    from ebooklet.services.staging.result import Staged
    from ebooklet.services.staging.writer import StagedWriter
    from ebooklet.services.tags import TagInfo
    from ebooklet.services.trash import DroppedRef
    from ebooklet.session import RemoteLock, RemoteSession

__version__ = "1.0.0.dev0"

__all__ = [
    "ABSENT",
    "DEFAULT_GROUP_BYTES",
    "UNKNOWN",
    "AccessDenied",
    "BranchInfo",
    "BucketMissingError",
    "CommitInfo",
    "CompactionReport",
    "ConcurrentCompactionError",
    "ConflictError",
    "Database",
    "Difference",
    "DiskFullError",
    "DroppedRef",
    "EBooklet",
    "EBookletError",
    "EVariableLengthValue",
    "Encryption",
    "EncryptionError",
    "Error",
    "ForkedProcessError",
    "FsckReport",
    "GcReport",
    "GroupTooLargeError",
    "InvalidKeyError",
    "InvalidURLError",
    "KeyFile",
    "LocalFileError",
    "LocalHalf",
    "LockLostError",
    "LockTimeout",
    "MergeResult",
    "MigrationIncomplete",
    "MigrationReport",
    "NameClashError",
    "ObjectNotFound",
    "OfflineError",
    "OutcomeUnknown",
    "PendingChangesError",
    "PluginError",
    "PreconditionFailed",
    "PullResult",
    "PushInProgressError",
    "PushResult",
    "ReadOnlyError",
    "RemoteConnGroup",
    "RemoteDeleted",
    "RemoteIntegrityError",
    "RemoteLock",
    "RemoteMissingError",
    "RemoteRewound",
    "RemoteSession",
    "RemoteUnavailable",
    "ReplaceConflict",
    "S3Connection",
    "SerializationError",
    "SnapshotExpired",
    "Staged",
    "StagedExpired",
    "StagedWriter",
    "StoreError",
    "TagInfo",
    "UUIDMismatchError",
    "UnknownNameError",
    "UnknownVersionError",
    "UnsupportedFormatError",
    "UnsupportedOperation",
    "__version__",
    "errors",
    "fsck",
    "migrate",
    "open",
    "open_ebooklet",
    "open_rcg",
    "open_session",
    "remote",
]

# Every public name that is not an error: the module it lives in, and its name there if another.
_HOMES = {
    "BranchInfo": "ebooklet.services.branches",
    "CommitInfo": "ebooklet.services.history",
    "ABSENT": "ebooklet.core.merge",
    "DEFAULT_GROUP_BYTES": "ebooklet.services.packing",
    "Database": "ebooklet.embedding",
    "Difference": "ebooklet.services.differences",
    "DroppedRef": "ebooklet.services.trash",
    "EBooklet": "ebooklet.database",
    "EVariableLengthValue": "ebooklet.database:EBooklet",
    "Encryption": "ebooklet.core.encryption",
    "FsckReport": "ebooklet.services.fsck.report",
    "CompactionReport": "ebooklet.services.maintenance.report",
    "GcReport": "ebooklet.services.maintenance.report",
    "KeyFile": "ebooklet.adapters.encryption.keyfile",
    "LocalHalf": "ebooklet.embedding",
    "MergeResult": "ebooklet.services.merging",
    "MigrationReport": "ebooklet.services.migration.report",
    "PullResult": "ebooklet.services.pull",
    "PushResult": "ebooklet.services.attempts",
    "RemoteConnGroup": "ebooklet.group",
    "RemoteLock": "ebooklet.session",
    "RemoteSession": "ebooklet.session",
    "S3Connection": "ebooklet.connection",
    "UNKNOWN": "ebooklet.core.merge",
    "TagInfo": "ebooklet.services.tags",
    "Staged": "ebooklet.services.staging.result",
    "StagedWriter": "ebooklet.services.staging.writer",
    "fsck": "ebooklet.bootstrap",
    "migrate": "ebooklet.bootstrap",
    "open": "ebooklet.bootstrap",
    "open_ebooklet": "ebooklet.bootstrap",
    "open_rcg": "ebooklet.bootstrap",
    "open_session": "ebooklet.bootstrap",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'ebooklet' has no attribute {name!r}")
    if name in ("errors", "remote"):
        return import_module(f"ebooklet.{name}")
    module, _, original = _HOMES.get(name, "ebooklet.errors").partition(":")
    value: object = getattr(import_module(module), original or name)
    globals()[name] = value  # the next use finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
