"""What a commit says of its own size and segments, against what its tree comes to."""

from __future__ import annotations

from collections.abc import Iterator

from ebooklet.core.advance import LiveBytes
from ebooklet.core.commit import Commit
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.names import sid_text
from ebooklet.core.params import TreeParams


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
