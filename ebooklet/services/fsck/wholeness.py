"""Whether all that a commit needs is there, asked of many commits that share most of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ebooklet.core.descent import FoundCommit
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.index.node import InnerNode
from ebooklet.core.index.walk import Span, children, verify
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef
from ebooklet.errors import ObjectNotFound, RemoteIntegrityError
from ebooklet.services.maintenance.verifying import UsedSegments
from ebooklet.services.nodes import NodeReader, cache_key
from ebooklet.services.place import RemotePlace


class Wholeness:
    """Tells whether commits are whole: every segment in its size, every node what it should be.

    Values are not read; their segments are there. Each node is read once, whatever the number of
    commits that have it.

    Args:
        place: where the segments are.
        listed: sid and bytes of each.
        ended: those whose own two ends say that they have so many bytes.
    """

    def __init__(
        self, place: RemotePlace, listed: Mapping[bytes, int], ended: Collection[bytes]
    ) -> None:
        self._listed = listed
        self._ended = ended
        self._nodes = NodeReader(place.store, place.db_key)
        self._params = TreeParams()
        self._nodes.params = self._params
        self._used = UsedSegments(self._nodes)
        self._known: dict[bytes, bool] = {}  # by the place of a node: whether all below it is whole
        self.reasons: dict[bytes, str] = {}  # commit id -> why it is not whole

    def of(self, found: FoundCommit) -> bool:
        """Whether a commit is whole; `reasons` says why not."""
        why = self.reasons.get(found.ref.id)
        if why is None:
            why = self.reasons[found.ref.id] = self._why_not(found)
        return not why

    def lists_all(self, found: FoundCommit) -> bool:
        """Whether a whole commit lists every segment that it uses.

        The head says that collections need not look at it any more (gc epoch, decision 0039), and
        one that does not would then lose what another commit listed for it.
        """
        listed = {row.sid for row in found.commit.segs}
        return not self._used.unlisted(found.commit.root, listed)

    def may_stay(self, found: FoundCommit) -> bool:
        """Whether a commit can be retained as it is."""
        return self.of(found) and self.lists_all(found)

    def _why_not(self, found: FoundCommit) -> str:
        commit = found.commit
        if commit.fingerprint != fingerprint(self._params, commit.root):
            return "its index has other parameters than this version gives one"
        missing = sum(
            self._listed.get(row.sid) != row.length and row.sid not in self._ended
            for row in commit.segs
        )
        if missing:
            return f"{missing} of its {len(commit.segs)} segments are missing or cut short"
        if commit.root is not None and not self._is_whole(Span(commit.root, None, None)):
            return "its index cannot be read as a whole"
        return ""

    def _is_whole(self, span: Span) -> bool:
        mark = cache_key(span.ref.block)
        known = self._known.get(mark)
        if known is None:
            known = self._known[mark] = self._look(span)
        return known

    def _look(self, span: Span) -> bool:
        if span.ref.block.sid not in self._listed:
            return False
        try:
            node = self._nodes.fetch([span.ref])[span.ref]
            verify(span, node)
            if not isinstance(node, InnerNode):
                return self._listed.keys() >= set(node.sids)
            below = children(span, node)
            self._fetch_ahead([each.ref for each in below])
        except (RemoteIntegrityError, ObjectNotFound):
            return False
        return all(self._is_whole(each) for each in below)

    def _fetch_ahead(self, refs: list[NodeRef]) -> None:
        """The children at once, so that they are at hand one by one."""
        self._nodes.fetch([ref for ref in refs if cache_key(ref.block) not in self._known])
