"""What a head keeps alive: R(H) of FORMAT §8, worked out from commit records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ebooklet.core.commit import Commit
from ebooklet.core.head import Head
from ebooklet.core.refs import CommitRef

__all__ = ["RetainedCommits", "RetainedSegments", "has_expired"]


def has_expired(head: Head, ref: CommitRef) -> bool:
    """Whether a head surely does not retain a commit: nothing names it, every branch is past it.

    Costs no request. A commit that is newer than the oldest of some branch may yet belong to none.
    """
    if any(named.id == ref.id for named in head.commits()):
        return False
    return all(ref.seq < branch.oldest_seq for branch in head.branches.values())


class RetainedCommits:
    """Decides which commits are retained, when asked about each of a history, newest first.

    A branch retains its commits back to its oldest seq, over every parent; a tag, and a dropped ref
    in the trash, the one commit it names. Seqs fall from child to parent, so whoever asks in falling
    order has always followed the children first.

    Args:
        head: whose history it is.
    """

    def __init__(self, head: Head) -> None:
        # Commit id -> seq down to which the way that led there is retained.
        self._floors: dict[bytes, int] = {}
        for branch in head.branches.values():
            self._want(branch.commit.id, min(branch.oldest_seq, branch.commit.seq))
        for tag in head.tags.values():
            self._want(tag.commit.id, tag.commit.seq)
        for dropped in head.trash:
            self._want(dropped.commit.id, dropped.commit.seq)
        self.lowest_seq = min(self._floors.values())

    def retains(self, ref: CommitRef) -> bool:
        """Whether the commit is retained; if it is, `follow` comes next."""
        floor = self._floors.get(ref.id)
        if floor is None:
            return False
        if ref.seq < floor:
            del self._floors[ref.id]
            return False
        return True

    def follow(self, ref: CommitRef, parents: Iterable[bytes]) -> int:
        """Go on from a retained commit to its parents.

        Returns:
            The seq down to which the way that led there is retained.
        """
        floor = self._floors.pop(ref.id)
        if ref.seq > floor:
            for parent in parents:
                self._want(parent, floor)
        return floor

    @property
    def unmet(self) -> frozenset[bytes]:
        """Ids of commits that were followed to and never asked about: the history has a hole."""
        return frozenset(self._floors)

    def _want(self, commit: bytes, floor: int) -> None:
        self._floors[commit] = min(floor, self._floors.get(commit, floor))


class RetainedSegments:
    """The segments that a head keeps alive: its own, then those of each retained commit.

    A commit's table names what its snapshot needs. Its record lies in a segment too, which nothing
    of the snapshot need keep alive (a commit of metadata alone), so that one is added.

    Args:
        head: whose segments they are.
    """

    def __init__(self, head: Head) -> None:
        self._sizes: dict[bytes, int | None] = dict.fromkeys(head.held())
        self._disputed: dict[bytes, set[int]] = {}

    @property
    def sizes(self) -> Mapping[bytes, int | None]:
        """Sid to bytes of the whole object; None where no commit's table says it, or two differ."""
        return self._sizes

    def stated(self, sid: bytes) -> Collection[int]:
        """What tables say that a segment has of bytes; more than one is somebody's error."""
        size = self._sizes[sid]
        return self._disputed.get(sid, ()) if size is None else (size,)

    def hold(self, sids: Iterable[bytes]) -> None:
        """Add segments of which no table tells the size."""
        for sid in sids:
            self._sizes.setdefault(sid, None)

    def add(self, ref: CommitRef, commit: Commit) -> None:
        """Add what a retained commit needs."""
        self.hold((ref.block.sid,))
        for row in commit.segs:
            disputed = self._disputed.get(row.sid)
            known = self._sizes.get(row.sid)
            if disputed is not None:
                disputed.add(row.length)
            elif known is None or known == row.length:
                self._sizes[row.sid] = row.length
            else:
                self._sizes[row.sid] = None
                self._disputed[row.sid] = {known, row.length}
