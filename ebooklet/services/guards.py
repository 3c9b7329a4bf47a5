"""What a handle is asked for and cannot do, or not any more: said before anything is done."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ebooklet.errors import (
    ForkedProcessError,
    LocalFileError,
    OfflineError,
    PushInProgressError,
    ReadOnlyError,
    RemoteMissingError,
    ReplaceConflict,
)
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.journal import Journal
from ebooklet.services.settings import Settings
from ebooklet.services.snapshot import Snapshot


def forked() -> ForkedProcessError:
    """What a handle says in a process that inherited it."""
    return ForkedProcessError(
        "the database was opened before this process was forked: open it again here"
    )


def being_pushed(op: str) -> PushInProgressError:
    """What is said to a thread that comes while another pushes, or does what excludes a push."""
    return PushInProgressError(f"cannot {op} while a push is under way", op=op)


def nothing_pushed(op: str, location: str, key: str) -> RemoteMissingError:
    """What is said to whoever needs a database where there is none yet."""
    return RemoteMissingError(
        f"cannot {op}: there is no database at {location}; push() creates it", op=op, key=key
    )


def to_be_replaced(op: str, key: str) -> ReplaceConflict:
    """What is said of work on a content that the next push does away with."""
    return ReplaceConflict(
        f"cannot {op}: the next push replaces the whole database; push or discard() first",
        op=op,
        key=key,
    )


class Guards(ABC):
    """The checks that come first in whatever a working copy does.

    Attributes:
        closed: the handle was closed.
        forked: this process was forked from the one that opened it.
    """

    local: LocalStore
    remote: RemoteStore | None
    db_key: str
    settings: Settings
    journal: Journal
    base: Snapshot | None

    def __init__(self) -> None:
        self.closed = False
        self.forked = False
        self._behind = False  # of what another process left in the local store

    @abstractmethod
    def reload(self) -> None:
        """Take over what is written down, by another process too."""

    @property
    def _name(self) -> str:
        """What it is called where its store may be closed, and is not to be asked for its place."""
        return repr(self.local.location if self.remote is None else self.db_key)

    def require_open(self) -> None:
        """Raise `ValueError` once the handle is closed; let a reader notice its neighbours."""
        if self.forked:
            raise forked()
        if self.closed:
            raise self.shut()
        if not self.local.writable and (self.local.changed_elsewhere or self._behind):
            # Another process pulled or wrote: what is stored now belongs to its base, not to ours.
            # Until that can be taken over, and a key for it may be missing, nothing is served.
            self._behind = True
            self.local.acknowledge()
            self.reload()
            self._require_version(self.base)
            self._behind = False

    def check_place(self) -> None:
        """Refuse what another process has brought to another branch, or from the version shown.

        The guard of a reader's store: a warm read looks at nothing else, and would return it.

        Raises:
            LocalFileError: it was brought there.
        """
        if self.local.writable or self.closed:
            return
        found = self.base
        if found is None or not self.journal.base_is(found):  # which costs less than to read it
            found = self.journal.read_base()
        self._require_branch(found)
        self._require_version(found)

    def _require_branch(self, found: Snapshot | None) -> None:
        base = self.base
        if found is not None and base is not None and found.branch != base.branch:
            raise LocalFileError(
                f"another process has brought {self.local.location} from branch "
                f"{base.branch!r} to {found.branch!r}: open the database again, with one "
                "local file for each branch to read both at once"
            )

    def _require_version(self, found: Snapshot | None) -> None:
        shown = self.settings.stays_at
        if shown is not None and (found is None or found.ref.id != shown):
            raise LocalFileError(
                f"another process has moved {self.local.location} to another commit than the "
                "version that is shown here: open the version again, with a file of its own",
                op="read",
                key=self.db_key,
            )

    def require_following(self, op: str) -> None:
        """Raise `ReadOnlyError` on a handle that stays at one commit."""
        if self.settings.stays_at is not None:
            raise ReadOnlyError(
                f"cannot {op}: the database {self._name} was opened at a version, which stays what "
                "it is; open it without version=",
                op=op,
                key=self.db_key,
            )

    def shut(self) -> ValueError:
        """What a closed handle says."""
        return ValueError(f"the database {self._name} is closed: open it again")

    def notice(self) -> None:
        """As a reader, take in what other processes did by now, so that it does not turn up later.

        Never waits for a writer that is at work.

        Raises:
            ValueError: the handle is closed.
        """
        self.require_open()
        if not self.local.writable:
            self.local.freshen()
            self.require_open()

    def require_writable(self, op: str, key: str | None = None) -> None:
        """Raise `ReadOnlyError` on a read-only handle; `key` is what was to be written."""
        self.require_open()
        if not self.settings.writable:
            reason = "is open for reading only; open it with flag 'w', or call reopen('w')"
            if self.settings.stays_at is not None:
                reason = (
                    "was opened at a version, which stays what it is. Opened without version= and "
                    "with flag 'w', revert() commits anew what the version held, and branch() "
                    "begins a branch there, for open(branch=...) to write to"
                )
            raise ReadOnlyError(
                f"cannot {op}: the database {self._name} {reason}",
                op=op,
                key=key if key is not None else self.db_key,
            )

    def require_online(self, op: str) -> None:
        """Raise `OfflineError` on a handle that makes no requests."""
        self.require_open()
        if self.settings.offline:
            raise OfflineError(
                f"cannot {op}: the database was opened offline. What is pending stays pending; "
                "open it again once the remote can be reached",
                op=op,
                key=self.db_key,
            )
