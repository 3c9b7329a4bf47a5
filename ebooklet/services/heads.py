"""Reading and moving the head, the one mutable object a reader needs (FORMAT §2, §5, §6)."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from ebooklet.core.commit import Commit
from ebooklet.core.head import Head
from ebooklet.core.names import alternate_key
from ebooklet.core.refs import CommitRef
from ebooklet.errors import (
    EBookletError,
    LockLostError,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteDeleted,
    RemoteIntegrityError,
    RemoteUnavailable,
    SnapshotExpired,
    UUIDMismatchError,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease
from ebooklet.ports.remote_store import Condition, IfAbsent, IfMatch, RemoteStore
from ebooklet.services.backoff import pause_after_failure
from ebooklet.services.clashes import check_below
from ebooklet.services.commits import read_record
from ebooklet.services.headcopies import HEAD_CACHE_CONTROL, SAME_BYTES_ATTEMPTS, HeadCopies
from ebooklet.services.refs import find_branch
from ebooklet.services.snapshot import Snapshot


class HeadMoved(Exception):
    """Another commit landed first; `current` is the head that now stands."""

    def __init__(self, current: Snapshot) -> None:
        super().__init__("the head moved")
        self.current = current


def deleted_meanwhile(db_key: str) -> RemoteDeleted:
    """The error of whoever finds no head where its database was."""
    return RemoteDeleted(
        "the remote database was deleted meanwhile; local data are kept. Open it with flag 'c' to "
        "create it anew. If nobody deleted it, its head was lost, and fsck makes a new one (rescue)",
        op="push",
        key=db_key,
    )


def _is_anothers(head: Head, new: Head) -> bool:
    """Whether the write of this id is somebody else's, who has merged the same staged results."""
    found, ours = head.find_write(new.write_id), new.find_write(new.write_id)
    return found is not None and ours is not None and found.commit != ours.commit


class HeadStore:
    """Reads the head, and replaces it in one atomic step.

    Args:
        remote: where it lies.
        db_key: its object key.
        clock: for the waits between attempts.
        in_log: whether a (seq, write_id) stands in the older log of a head; asked only when a
            lost answer was followed by more than 64 other commits.
        branch: that its snapshots are of; None takes each head's default one.

    Attributes:
        branch: see above; may be changed.
        copies: the objects that the head stands in.
    """

    def __init__(
        self,
        remote: RemoteStore,
        db_key: str,
        clock: Clock,
        in_log: Callable[[Head, int, bytes], bool],
        branch: str | None = None,
    ) -> None:
        self._remote = remote
        self._key = db_key
        self._clock = clock
        self.copies = HeadCopies(remote, db_key, clock)
        self._in_log = in_log
        self.branch = branch
        self._record: tuple[bytes, Commit] | None = None  # the last that was read or written

    def know(self, ref: CommitRef, record: Commit) -> None:
        """Take in the record of a commit just laid down, so that it need not be read."""
        self._record = ref.id, record

    def of_branch(self, snapshot: Snapshot) -> Snapshot:
        """The same head, seen from the branch of this store's snapshots.

        Costs a request if the branch is another than the head's default one, and has moved.

        Raises:
            UnknownVersionError: the branch is not there, or no longer.
            SnapshotExpired: its tip was collected since the head was read.
            EBookletError: the record of its tip cannot be read.
        """
        head, name = snapshot.head, self.branch
        if name is None or name == head.default_branch:
            return Snapshot(head, snapshot.data, snapshot.etag)
        ref = find_branch(head, name, self._key).commit
        if ref.id == head.branch.commit.id:
            record = head.tip
        elif self._record is not None and self._record[0] == ref.id:
            record = self._record[1]
        else:
            record = self._read_record(head, name, ref)
            self.know(ref, record)
        return Snapshot(head, snapshot.data, snapshot.etag, name, record)

    def _read_record(self, head: Head, branch: str, ref: CommitRef) -> Commit:
        try:
            return read_record(self._remote, self._key, ref)
        except ObjectNotFound as exc:
            now = self.copies.read().best
            if now is None or now.head.write_id != head.write_id:
                raise SnapshotExpired(
                    f"branch {branch!r} was moved or deleted just now, and its former tip, commit "
                    f"{ref.seq}, is gone; repeat it",
                    op="read",
                    key=self._key,
                ) from exc
            raise RemoteIntegrityError(
                f"the record of commit {ref.seq}, the tip of branch {branch!r}, is gone; run fsck",
                op="read",
                key=self._key,
            ) from exc

    def read(self, *, at_once: bool = False) -> Snapshot | None:
        """Return the head that stands now, or None when there is no database.

        In mode lock a failed write may have damaged one of the two copies (some servers delete or
        truncate a key on a failed PUT), so the newer valid one of both counts.

        Args:
            at_once: ask for both side by side, as where no database is expected.

        Raises:
            UnsupportedFormatError: the object is not ours, or of a newer format.
            RemoteIntegrityError: it is damaged and there is no second copy.
            NameClashError: it is another database's, which the server takes for this one.
            UnknownVersionError: the branch is not there, or no longer.
        """
        best = self.copies.read(at_once=at_once).best
        return None if best is None else self.of_branch(best)

    def commit(
        self, new: Head, data: bytes, expected: Snapshot | None, lease: Lease | None
    ) -> Snapshot:
        """Put `new` in the place of `expected`, exactly once.

        Returns:
            The new snapshot; its etag is "" when later commits already stand on top of it.

        Raises:
            HeadMoved: another commit replaced `expected`, or another database was created first;
                nothing of ours is visible.
            LockLostError: the lock is another's by now; nothing was written.
            RemoteDeleted, UUIDMismatchError: no head, or another database's, stands there.
            RemoteUnavailable: nothing was committed.
            OutcomeUnknown: the commit may have landed; reading the head tells.
        """
        if new.proto.mode == "lock":
            return self._commit_locked(new, data, expected, lease)
        condition = self._condition(new, expected)
        refusal: PreconditionFailed | None = None
        trouble: EBookletError | None = None
        for attempt in range(SAME_BYTES_ATTEMPTS):
            pause_after_failure(self._clock, attempt)
            if lease is not None:
                lease.check()
            try:
                meta = self._remote.put(
                    self._key, data, condition=condition, cache_control=HEAD_CACHE_CONTROL
                )
            except RemoteUnavailable as exc:
                trouble = trouble or exc
                continue
            except PreconditionFailed as exc:
                refusal = exc
            except OutcomeUnknown as exc:
                trouble = exc  # whatever the others say: this one may yet arrive
            else:
                return self.of_branch(Snapshot(new, data, meta.etag))
            current = self._settle(new, data, expected)
            if current is not None:
                return current
        raise trouble or RemoteUnavailable(
            "the server refuses to replace the head, although nobody has changed it; nothing was "
            "committed: push again later",
            op="push",
            key=self._key,
        ) from refusal

    def _condition(self, new: Head, expected: Snapshot | None) -> Condition:
        return IfAbsent() if expected is None else self._matching(new, expected.etag)

    def _matching(self, new: Head, etag: str) -> Condition:
        return IfMatch(etag.strip('"') if new.proto.etag_style == "bare" else etag)

    def _settle(self, new: Head, data: bytes, expected: Snapshot | None) -> Snapshot | None:
        """Find out what became of a put: landed (a snapshot), not yet (None), or lost (raises)."""
        current = self.copies.read().best
        if current is None:
            if expected is None:
                return None
            raise deleted_meanwhile(self._key)
        if expected is None and current.head.uuid != new.uuid:
            raise HeadMoved(self.of_branch(current))  # somebody else was the first to create one
        self.check_same(current, new.uuid)
        landed = self.landed(current.head, new.seq, new.write_id)
        if landed and not _is_anothers(current.head, new):
            stands = current.head.write_id == new.write_id
            return self.of_branch(Snapshot(new, data, current.etag if stands else ""))
        # The seq alone does not tell: after a deletion another copy may have counted on to it.
        if expected is not None and current.head.write_id == expected.head.write_id:
            return None
        raise HeadMoved(self.of_branch(current))

    def landed(self, head: Head, seq: int, write_id: bytes) -> bool:
        """Whether a logical write is part of the history that `head` tells."""
        if head.write_id == write_id or head.find_write(write_id) is not None:
            return True
        return head.log is not None and head.seq > seq and self._in_log(head, seq, write_id)

    def check_same(self, current: Snapshot, uuid: UUID) -> None:
        """Refuse a head that belongs to another database under the same key.

        Raises:
            UUIDMismatchError: it does.
        """
        if current.head.uuid != uuid:
            raise UUIDMismatchError(
                f"the remote now holds another database (uuid {current.head.uuid}, ours is "
                f"{uuid}); nothing was changed. Use another db_key, or another file_path",
                op="push",
                key=self._key,
            )

    def _commit_locked(
        self, new: Head, data: bytes, expected: Snapshot | None, lease: Lease | None
    ) -> Snapshot:
        """Mode lock: second copy first, each write read back, the lock verified before each."""
        if lease is None:
            raise LockLostError(
                "this server ignores conditional writes, so that a commit needs the lock, and it is "
                "not held: open the database again and push; changes stay pending",
                op="push",
                key=self._key,
            )
        lease.verify()
        first, current = self.copies.read()
        if current is not None and expected is not None:
            self.check_same(current, new.uuid)
        if (current.head.write_id if current else None) != (
            expected.head.write_id if expected else None
        ):
            if current is None:
                raise deleted_meanwhile(self._key)
            raise HeadMoved(self.of_branch(current))
        if current is not None and (first is None or first.data != current.data):
            # Only the second copy has it, and that is the one which the next write may damage.
            self.copies.put([self._key], current.data, lease)
        keys = [alternate_key(self._key), self._key]
        if current is None:
            check_below(self._remote, self._key, self._clock)
            keys.reverse()  # nothing to keep yet, and a server that takes no such head leaves none
        etags = self.copies.put(keys, data, lease)
        return self.of_branch(Snapshot(new, data, etags[self._key]))

    def put_back(self, lost: Snapshot, current: Snapshot, lease: Lease) -> Snapshot:
        """In mode lock, write a head again that came after `current` and stands in no copy.

        Returns:
            What stands then: another one than `lost` where `current` was only shown.

        Raises:
            LockLostError, RemoteUnavailable, OutcomeUnknown.
        """
        lease.verify()
        first, found = self.copies.read()
        if found is None or found.head.write_id != current.head.write_id:
            return current if found is None else self.of_branch(found)
        keys = [alternate_key(self._key), self._key]
        if first is None or first.data != found.data:
            keys.reverse()  # the second copy alone holds it
        self.copies.put(keys, lost.data, lease)
        return self.read() or current

    def replace_damaged(self, new: Head, data: bytes, lease: Lease | None) -> Snapshot:
        """Put `new` in the place of a head that cannot be read; never over one that can.

        Raises:
            HeadMoved: a whole head stands there, or came meanwhile.
            UnsupportedFormatError: what stands there is not ours, or of a newer format.
            LockLostError: the lock is another's by now; nothing was written.
            RemoteUnavailable, OutcomeUnknown: it may have landed; reading the head tells.
        """
        trouble: EBookletError | None = None
        for attempt in range(SAME_BYTES_ATTEMPTS):
            pause_after_failure(self._clock, attempt)
            if lease is not None:
                lease.verify()
            condition: Condition = IfAbsent()
            try:
                current = self.read()
            except RemoteIntegrityError:
                stored = self.copies.get(self._key)
                if stored is None:
                    continue
                condition = self._matching(new, stored.meta.etag)
            else:
                if current is not None and not self.landed(current.head, new.seq, new.write_id):
                    raise HeadMoved(current)
                if current is not None:
                    return current
            if new.proto.mode == "lock":
                if lease is None:
                    raise LockLostError(
                        "this server ignores conditional writes, so that a head is written under "
                        "the lock only, and it is not held",
                        op="fsck",
                        key=self._key,
                    )
                etags = self.copies.put([self._key, alternate_key(self._key)], data, lease)
                return Snapshot(new, data, etags[self._key])
            try:
                meta = self._remote.put(
                    self._key, data, condition=condition, cache_control=HEAD_CACHE_CONTROL
                )
            except (PreconditionFailed, RemoteUnavailable, OutcomeUnknown) as exc:
                trouble = exc
            else:
                return Snapshot(new, data, meta.etag)
        raise trouble or RemoteUnavailable(
            "the damaged head comes and goes; nothing was written: try again later",
            op="fsck",
            key=self._key,
        )
