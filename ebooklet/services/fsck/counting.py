"""What a commit says of its own size and segments, against what its tree comes to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ebooklet.core.advance import LiveBytes
from ebooklet.core.commit import Commit, SegmentRow
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.names import sid_text
from ebooklet.core.params import TreeParams
from ebooklet.core.segment import SegmentKind


def wrong_counters(commit: Commit, params: TreeParams, tally: LiveBytes) -> Iterator[str]:
    """Yield a sentence for each that is wrong.

    The number of keys is not among them: digests bind it, so that a wrong one is damage.

    Args:
        commit: whose counters they are.
        params: of its tree.
        tally: of every node and entry of its tree.
    """
    if commit.value_bytes != tally.value_bytes:
        yield f"it says {commit.value_bytes} bytes of values, and has {tally.value_bytes}"
    if commit.fingerprint != fingerprint(params, commit.root):
        yield "its fingerprint is not that of its content"
    listed = {row.sid: row.live for row in commit.segs}
    for sid in sorted(listed.keys() | tally.rows.keys()):
        said, live = listed.get(sid), tally.rows.get(sid, [0, 0, 0])[1]
        if said is None:
            yield f"it does not list segment {sid_text(sid)}, of which it uses {live} bytes"
        elif said != live:
            yield f"it says that {said} bytes of segment {sid_text(sid)} are in use, and {live} are"


def wrong_rows(before: Iterable[SegmentRow], after: Iterable[SegmentRow]) -> Iterator[str]:
    """Yield a sentence for each length and kind that a table has, and another has not.

    Args:
        before: what a commit says of its segments.
        after: the same, as the segments themselves say it.
    """
    for said, is_so in zip(before, after, strict=True):
        name = sid_text(said.sid)
        if said.length != is_so.length:
            yield (
                f"it says that segment {name} has {said.length} bytes, and it has {is_so.length}"
            )
        if said.kind != is_so.kind:
            yield (
                f"it says that the kind of segment {name} is {_kind(said.kind)}, and it is "
                f"{_kind(is_so.kind)}"
            )


def true_rows(
    rows: Iterable[SegmentRow], lengths: Mapping[bytes, int], kinds: Mapping[bytes, SegmentKind]
) -> tuple[SegmentRow, ...]:
    """A table with the lengths and kinds that were found, where they were."""
    return tuple(
        row._replace(
            length=lengths.get(row.sid, row.length), kind=int(kinds.get(row.sid, row.kind))
        )
        for row in rows
    )


def _kind(number: int) -> str:
    known = {int(kind): kind.name.lower() for kind in SegmentKind}
    return known.get(number, str(number))
