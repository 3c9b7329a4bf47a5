"""What the working copy writes down beside the local file, so that a crash loses nothing.

The log of pending changes, the log of keys stored locally (so that a deletion made with plain
Booklet is noticed), the head this copy was last in step with, and whether some of what is pending
has yet to be compared with that head. And, once the remote was deleted, its last head, which the
next one follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from ebooklet.core.cbor import Malformed
from ebooklet.core.journal import (
    JournalRecord,
    Pending,
    PendingDelete,
    PendingMetadata,
    PendingSet,
    PendingState,
    PushSettled,
    PushStarted,
    Rebase,
    ReplaceIntent,
    Settled,
    encode_records,
    replay,
)
from ebooklet.core.resident import Gone, Reset, Resident, encode_resident, replay_resident
from ebooklet.errors import EBookletError
from ebooklet.ports.local_store import LocalStore
from ebooklet.services.lastplace import LastPlace
from ebooklet.services.pending import Covered, PendingChanges
from ebooklet.services.remembered import decode_base, encode_base
from ebooklet.services.snapshot import Snapshot

PENDING_LOG: Final = "pending"
RESIDENT_LOG: Final = "resident"
HEAD_SLOT: Final = "head"
UNVERIFIED_SLOT: Final = "unverified"
FORMER_SLOT: Final = "former"
_ROUND: Final = 1 << 20  # bytes a log may grow before it is looked at
_BYTES_A_KEY: Final = 64
_MANY_KEYS: Final = 1000
_PIECE: Final = 100_000  # keys in one record


class _Awaited(NamedTuple):
    """What a head write covered that a later read has yet to confirm (mode lock)."""

    sets: Collection[str]
    deletes: Collection[str]
    metadata: bool
    replaced: bool


_NOTHING: Final = _Awaited((), (), metadata=False, replaced=False)


class Journal:
    """Appends to the logs in the order that a crash at any point forgives.

    Attributes:
        place: where this copy was last in step.
        intact: whether all of the log of pending changes could be read. If not, it names some of
            them at best, and stays as it is until somebody who compared all keys rewrites it.
        lost_base: whether a head is remembered that cannot be read.
    """

    def __init__(self, local: LocalStore, place: LastPlace) -> None:
        self._local = local
        self.place = place
        self.intact = True
        self.lost_base = False
        self._pending_bytes = 0
        self._resident_bytes = 0
        self._resident_new: dict[str, None] = {}
        self.in_doubt: dict[bytes, int] = {}  # write_id -> seq of a head write without proof
        self._awaiting: dict[bytes, _Awaited] = {}

    # What is pending

    def load(self, pending: PendingChanges) -> None:
        """Replay what earlier sessions left pending."""
        data = self._local.read_log(PENDING_LOG)
        state, intact, _ = replay(data)
        for key, (op, base, timestamp) in state.keys.items():
            if op == "delete":
                pending.mark_deleted(key, timestamp, base)
            else:
                pending.mark_set(key, base)
                if timestamp:
                    pending.undone[key] = timestamp
        pending.metadata = state.metadata
        pending.replace = state.replace
        self.in_doubt = dict(state.in_doubt)
        self._awaiting.clear()  # what they covered is pending again by what the log says
        self._pending_bytes = len(data)
        self.intact = intact

    def flush(self, pending: PendingChanges) -> None:
        """Append the sets, and the locally stored keys, that the logs do not hold yet."""
        if pending.unwritten:
            unwritten = iter(pending.unwritten)
            while piece := list(islice(unwritten, _PIECE)):
                keys = [key for key in piece if key in pending.sets]
                if keys:
                    self._append(PendingSet(keys, [pending.sets[key] for key in keys]))
            pending.unwritten.clear()
        if self._resident_new:
            self._append_resident(list(self._resident_new))
            self._resident_new.clear()
        if self._pending_bytes > _ROUND:
            live = _BYTES_A_KEY * (len(pending.sets) + len(pending.deletes))
            if self._pending_bytes > 3 * live:
                self.rewrite(pending)
        if self._resident_bytes > _ROUND:
            self._resident_bytes = 0
            size = len(self._local.read_log(RESIDENT_LOG))
            if size > 3 * _BYTES_A_KEY * max(1, self._local.count()):
                keys = list(self._local.keys())
                self._local.replace_log(RESIDENT_LOG, encode_resident([Resident(keys)]))

    def deleted(self, pending: PendingChanges, keys: Collection[str]) -> None:
        """Note deletions at once."""
        times = [pending.delete_times[key] for key in keys]
        self._append(PendingDelete(list(keys), times, [pending.deletes[key] for key in keys]))

    def rebased(self, pending: PendingChanges, keys: Collection[str]) -> None:
        """Note the bases of pending keys that moved."""
        if keys:
            self.flush(pending)
            tables = (pending.sets, pending.deletes)
            bases = [next(table[key] for table in tables if key in table) for key in keys]
            self._append(Rebase(list(keys), bases))

    def settled(self, keys: Collection[str]) -> None:
        """Note that these keys are pending no more."""
        if keys:
            self._append(Settled(list(keys)))

    def metadata(self, pending: bool) -> None:
        """Note that the user's metadata are pending, or no longer."""
        self._append(PendingMetadata(pending))

    def rewrite(self, pending: PendingChanges) -> None:
        """Put the fewest records in the place of the whole log."""
        state = PendingState(
            metadata=self._metadata_due(pending),
            replace=pending.replace,
            in_doubt=dict(self.in_doubt),
        )
        for key, base in pending.sets.items():
            state.keys[key] = Pending("set", base, pending.undone.get(key, 0))
        for key, base in pending.deletes.items():
            state.keys[key] = Pending("delete", base, pending.delete_times[key])
        for sets, deletes, _, _ in self._awaiting.values():
            for key in sets:
                state.keys.setdefault(key, Pending("set", None, 0))
            for key in deletes:
                state.keys.setdefault(key, Pending("delete", None, 0))
        data = state.encode()
        self._local.replace_log(PENDING_LOG, data)
        self.intact = True
        self._pending_bytes = len(data)
        pending.unwritten.clear()

    def cleared(self, pending: PendingChanges) -> None:
        """Note that no key is stored locally, before that is so, and what is pending then.

        Values that a head write in doubt covered are not to come back, should it be lost.
        """
        for write_id, awaited in self._awaiting.items():
            self._awaiting[write_id] = awaited._replace(sets=())
        self.rewrite(pending)
        self.all_gone()

    # Pushes

    def push_started(self, write_id: bytes, seq: int) -> None:
        """Note a head write before it is sent: its answer may be lost, or prove nothing."""
        self.in_doubt[write_id] = seq
        self._append(PushStarted(write_id, seq))

    def committed(
        self,
        pending: PendingChanges,
        covered: Covered,
        snapshot: Snapshot,
        *,
        proven: bool,
        metadata: bool = False,
        replaced: bool = False,
    ) -> None:
        """Note a commit, before which `pending` was brought up to date.

        Args:
            pending: what is left.
            covered: what the commit covered.
            snapshot: the new base.
            proven: False in mode lock, where the entries stay until a later read of the head
                shows the write in history.
            metadata: the commit covered the user's metadata.
            replaced: the commit replaced everything.
        """
        if covered.deletes:
            self._local.append_log(RESIDENT_LOG, encode_resident([Gone(covered.deletes)]))
        self.flush(pending)
        self._append_resident(covered.sets)
        self.write_base(snapshot)
        # Changed again meanwhile: they now stand on the new base, whatever the log said before.
        if pending:
            self.rebased(pending, [key for key in covered if key in pending])
        if proven and len(covered) > _MANY_KEYS:
            self.rewrite(pending)  # shorter than to name all that is settled
        elif proven:
            self.settled([key for key in covered if key not in pending])
        else:
            awaited = _Awaited(covered.sets, frozenset(covered.deletes), metadata, replaced)
            self._awaiting[snapshot.head.write_id] = awaited
        self._append(PendingMetadata(self._metadata_due(pending)), ReplaceIntent(pending.replace))
        write_id = snapshot.head.write_id
        if proven and self.in_doubt.pop(write_id, None) is not None:
            self._append(PushSettled(write_id, confirmed=True))

    def awaits(self, write_id: bytes) -> bool:
        """Whether this session wrote it and has not seen yet that it stands."""
        return write_id in self._awaiting

    def unanswered(self) -> dict[bytes, int]:
        """Head writes, write_id to seq, of which this session does not know whether they landed."""
        return {w: seq for w, seq in self.in_doubt.items() if w not in self._awaiting}

    def awaited(self) -> set[str]:
        """Keys whose values are needed here until a later read shows that their write stands."""
        return {key for awaited in self._awaiting.values() for key in awaited.sets}

    def _metadata_due(self, pending: PendingChanges) -> bool:
        return pending.metadata or any(awaited.metadata for awaited in self._awaiting.values())

    def confirm(self, pending: PendingChanges, landed: Mapping[bytes, bool]) -> list[str]:
        """Settle writes in doubt by what a later read of the head showed of them.

        Returns:
            The keys of lost writes, pending again.
        """
        lost: list[str] = []
        for write_id, arrived in landed.items():
            sets, deletes, metadata, replaced = self._awaiting.pop(write_id, _NOTHING)
            keys = [key for key in (*sets, *deletes) if key not in pending]
            if arrived:
                self.settled(keys)
            else:
                for key in keys:
                    if key in deletes:
                        pending.mark_deleted(key, 0)
                    elif self._local.contains(key):
                        pending.mark_set(key)
                lost += [key for key in keys if key in pending]
                pending.metadata |= metadata
                if replaced:
                    pending.replace = True
                    pending.shape += 1
                    self._append(ReplaceIntent(on=True))
            if metadata:
                self._append(PendingMetadata(self._metadata_due(pending)))
            del self.in_doubt[write_id]
            self._append(PushSettled(write_id, arrived))
        return lost

    # What is stored locally

    def stored(self, keys: Iterable[str]) -> None:
        """Note keys whose values were fetched; written down at the next flush."""
        self._resident_new.update(dict.fromkeys(keys))

    def gone(self, keys: Collection[str]) -> None:
        """Note keys about to leave the local store, before they do."""
        for key in keys:
            self._resident_new.pop(key, None)
        if keys:
            self._local.append_log(RESIDENT_LOG, encode_resident([Gone(list(keys))]))

    def all_gone(self) -> None:
        """Note that no key is stored locally."""
        self._resident_new.clear()
        self._local.replace_log(RESIDENT_LOG, encode_resident([Reset()]))

    def resident(self) -> set[str]:
        """Keys known to be stored locally, as of the last flush."""
        return replay_resident(self._local.read_log(RESIDENT_LOG)).keys

    def set_resident(self, keys: Iterable[str]) -> None:
        """Put a whole new list of locally stored keys in place."""
        self._resident_new.clear()
        self._local.replace_log(RESIDENT_LOG, encode_resident([Resident(list(keys))]))

    # The base

    def write_base(self, snapshot: Snapshot) -> None:
        """Remember the head this copy is in step with."""
        self._local.write_slot(HEAD_SLOT, encode_base(snapshot))
        self.lost_base = False
        self.place.note()

    def read_base(self) -> Snapshot | None:
        """The head this copy was last in step with; None when there is none, or it is damaged."""
        base = self._read_head(HEAD_SLOT)
        self.lost_base = base is None and self._local.read_slot(HEAD_SLOT) is not None
        return base

    def write_former(self, snapshot: Snapshot) -> None:
        """Remember the head of a remote that is about to be deleted, or was.

        It counts once there is no base. Written before the deletion, so that a crash after it does
        not lose how far the numbers of the commits had come.
        """
        self._local.write_slot(FORMER_SLOT, encode_base(snapshot))

    def read_former(self) -> Snapshot | None:
        """The last head of a deleted remote, as far as this copy knows it."""
        former = self._read_head(FORMER_SLOT)
        return former if former is not None and former.head.uuid == self._local.uuid else None

    def forget_base(self) -> None:
        """Remember no head: what is stored here belongs to no commit any more."""
        self._local.write_slot(HEAD_SLOT, None)

    def outlived(self, pending: PendingChanges) -> None:
        """Note that the remote is gone, and that `pending` says all that is stored here.

        In this order: a crash in between leaves everything pending, and a base to forget.
        """
        self.in_doubt.clear()
        self._awaiting.clear()
        self.rewrite(pending)
        self.forget_base()
        self.unverified = False
        if self.place.elsewhere is None:
            self.place.forget()  # it lives nowhere now, and may be created anywhere

    @property
    def unverified(self) -> bool:
        """Whether keys were taken for pending without a look at the base, which nobody had."""
        return self._local.read_slot(UNVERIFIED_SLOT) is not None

    @unverified.setter
    def unverified(self, value: bool) -> None:
        if value != self.unverified:
            self._local.write_slot(UNVERIFIED_SLOT, b"1" if value else None)

    def base_is(self, snapshot: Snapshot) -> bool:
        """Whether `snapshot` is still what is remembered; another process may have moved on."""
        return self._local.read_slot(HEAD_SLOT) == encode_base(snapshot)

    def _read_head(self, slot: str) -> Snapshot | None:
        data = self._local.read_slot(slot)
        if data is None:
            return None
        try:
            return decode_base(data, self._local.location)
        except (EBookletError, Malformed):
            return None

    def _append_resident(self, keys: Sequence[str]) -> None:
        for at in range(0, len(keys), _PIECE):
            data = encode_resident([Resident(list(keys[at : at + _PIECE]))])
            self._local.append_log(RESIDENT_LOG, data)
            self._resident_bytes += len(data)

    def _append(self, *records: JournalRecord) -> None:
        data = encode_records(records)
        if data:
            self._local.append_log(PENDING_LOG, data)
            self._pending_bytes += len(data)
