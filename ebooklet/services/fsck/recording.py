"""A commit that fsck makes: a record of what is there already, and the head that then names it."""

from __future__ import annotations

from collections.abc import Sequence

from ebooklet.core.advance import next_head
from ebooklet.core.commit import Commit, commit_id, encode_commit
from ebooklet.core.head import Head, Recent, spill
from ebooklet.core.index.update import update
from ebooklet.core.minting import SidMinter
from ebooklet.core.notes import seal_notes
from ebooklet.core.refs import BlockRef, CommitRef
from ebooklet.core.sealing import DatabaseSealer
from ebooklet.core.segment import BlockType
from ebooklet.ports.lock_service import Lease
from ebooklet.services.log import log_entries, log_params, log_segments
from ebooklet.services.nodes import NodeReader
from ebooklet.services.place import RemotePlace
from ebooklet.services.upload import SegmentUploader


def minted(place: RemotePlace, floor_ms: int) -> bytes:
    """A new segment id above the gc floor."""
    now_ms = place.store.server_time_ms() or place.clock.now_us() // 1000
    return SidMinter(floor_ms).mint(now_ms, place.clock.token_bytes(10))


def record(
    place: RemotePlace,
    last: Head,
    commit: Commit,
    history: Sequence[Recent],
    sealer: DatabaseSealer,
    lease: Lease | None,
) -> Head:
    """Lay down a commit of the default branch, and return the head that names it.

    Nobody sees it until that head is committed.

    Args:
        place: of the database.
        last: the head that it is to follow.
        commit: its record, with a table of segments that are all there.
        history: the rows before it that are not in the log of `last`, oldest first.
        sealer: of the database.
        lease: the write lock, where there is one.
    """
    uploader = SegmentUploader(
        place.store,
        place.db_key,
        uuid=last.uuid,
        write_id=commit.write_id,
        mint=lambda: minted(place, last.gc.floor),
    )
    fresh: dict[BlockRef, bytes] = {}

    def place_node(data: bytes) -> BlockRef:
        block = uploader.add_node(data)
        fresh[block] = data
        return block

    try:
        kept, spilled = spill(history, coming=1)
        log, held = last.log, set(last.hsegs)
        if spilled:
            nodes = NodeReader(place.store, place.db_key)
            nodes.params = log_params(last.params)
            log = nodes.run(update(log, log_entries(spilled), nodes.params, place_node)).root
            held = log_segments(nodes, log, fresh)
        held.update(row.block.sid for row in last.dictionaries)
        if last.metadata_ref is not None:
            held.add(last.metadata_ref.sid)
        sealed = seal_notes(commit, sealer, last.tip.key_ids)
        data = encode_commit(sealed)
        block = uploader.commit_writer().add_block(BlockType.COMMIT, data)
        uploader.finish()
    finally:
        uploader.close()
    ref = CommitRef(block, commit_id(data), commit.seq)
    row = Recent(commit.write_id, commit.seq, commit.ms, last.default_branch, ref)
    head = next_head(
        last,
        tip_ref=ref,
        branch=last.default_branch,
        recent=(*kept, row),
        log=log,
        log_sids=held,
        seq=commit.seq,
        write_id=commit.write_id,
        fence=max(last.fence, lease.token if lease is not None else 0),
        tip=sealed,
        ms=commit.ms,
    )
    return sealer.protect(head)
