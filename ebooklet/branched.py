"""Names for commits, as users hold them: thin, each method calls a service on the copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from ebooklet.core.advance import FIRST_BRANCH
from ebooklet.mapping import MappedCopy
from ebooklet.services import branches, tags, trash
from ebooklet.services.branches import BranchInfo
from ebooklet.services.tags import TagInfo
from ebooklet.services.trash import DroppedRef
from ebooklet.services.versions import VersionLike

V = TypeVar("V")


class BranchedCopy(MappedCopy[V], Generic[V]):
    """A working copy of a database whose commits have names: branches that grow, tags that stay.

    They are in the remote, for everybody, and each is made or dropped in one atomic step. What is
    pending here is no part of them, and stays pending.
    """

    @property
    def on_branch(self) -> str | None:
        """The branch that this handle reads, and pushes to.

        Of a handle that stays at a version, the branch that it was named by; None where it was
        named by anything else, as a commit may be part of many branches.
        """
        copy = self._copy
        if copy.settings.stays_at is not None:
            return copy.settings.stays_by
        return FIRST_BRANCH if copy.base is None else copy.base.branch

    def tag(
        self, name: str, version: VersionLike | None = None, message: str | None = None
    ) -> TagInfo:
        """Keep a commit under a name that never moves.

        Args:
            name: 1 to 100 bytes of UTF-8, printable, without a colon.
            version: which, named as for `open`; None for the one that this handle stands on.
            message: why, at most 2 KiB of UTF-8.

        Raises:
            ValueError: the name cannot be one, or is another tag's or a branch's.
            UnknownVersionError: there is no such version.
            SnapshotExpired: the commit is no longer retained.
            EBookletError: repeat it.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://tags", flag="c", value_serializer="json") as db:
            ...     db["a"] = 1
            ...     _ = db.push()
            ...     _ = db.tag("v1", message="as published")
            ...     [(name, tag.seq, tag.message) for name, tag in db.tags().items()]
            [('v1', 1, 'as published')]
        """
        return tags.tag(self._copy, name, version, message or "")

    def tags(self) -> Mapping[str, TagInfo]:
        """All tags by name, sorted, as the remote has them now; offline, as it had them last."""
        return tags.tags(self._copy)

    def delete_tag(self, name: str) -> None:
        """Drop a tag; `undelete` brings it back until the grace ends.

        Raises:
            UnknownVersionError: there is none of that name.
            EBookletError: repeat it.
        """
        tags.delete_tag(self._copy, name)

    def branch(self, name: str, version: VersionLike | None = None) -> BranchInfo:
        """Begin a branch at a commit.

        The handle stays on its own branch; `open(..., branch=name)` opens the new one.

        Args:
            name: 1 to 100 bytes of UTF-8, printable, without a colon.
            version: where it begins, named as for `open`; None for the commit that this handle
                stands on.

        Raises:
            ValueError: the name cannot be one, or is another branch's or a tag's.
            UnknownVersionError: there is no such version.
            SnapshotExpired: the commit is no longer retained.
            EBookletError: repeat it.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://branches", flag="c", value_serializer="json") as db:
            ...     db["a"] = 1
            ...     _ = db.push()
            ...     _ = db.branch("trial")
            ...     [(name, branch.seq, branch.default) for name, branch in db.branches().items()]
            [('main', 1, True), ('trial', 1, False)]
        """
        return branches.branch(self._copy, name, version)

    def branches(self) -> Mapping[str, BranchInfo]:
        """All branches by name, sorted, as the remote has them now; offline, as it had them last."""
        return branches.branches(self._copy)

    def delete_branch(self, name: str) -> None:
        """Drop a branch; `undelete` brings its tip back until the grace ends.

        Commits before the tip that only this branch has are no longer retained from now on: `tag`
        those that are to stay.

        Raises:
            ValueError: it is the default branch, or the one that is open here.
            UnknownVersionError: there is none of that name.
            EBookletError: repeat it.
        """
        branches.delete_branch(self._copy, name)

    def trash(self) -> tuple[DroppedRef, ...]:
        """What was dropped and can be had again, newest first.

        Beside deleted branches and tags, the tips of branches whose whole content was replaced, by
        `clear()` or flag "n".
        """
        return trash.trash(self._copy)

    def undelete(self, name: str, new_name: str | None = None) -> DroppedRef:
        """Bring back the branch or tag of that name that was dropped last.

        A branch comes back with the commit at its tip, and with those before it that something else
        retains: `oldest_seq` of what is returned says how far. A tag comes without its message.

        Args:
            name: that it had.
            new_name: that it is to have; None: the same.

        Raises:
            UnknownVersionError: nothing of that name is in the trash, or not any more.
            ValueError: the new name cannot be one, or is in use.
            EBookletError: repeat it.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://trash", flag="c", value_serializer="json") as db:
            ...     db["a"] = 1
            ...     _ = db.push()
            ...     db.clear()  # by mistake
            ...     _ = db.push()
            ...     _ = db.undelete("main", "before")
            ...     sorted(db.branches())
            ['before', 'main']
        """
        return trash.undelete(self._copy, name, new_name)
