"""Opening a version: a read-only working copy that stays at one commit."""

from __future__ import annotations

from dataclasses import replace

from ebooklet.core.advance import as_of
from ebooklet.core.head import Head, Recent, encode_head
from ebooklet.core.notes import check_record
from ebooklet.core.refs import CommitRef
from ebooklet.errors import (
    LocalFileError,
    ObjectNotFound,
    RemoteIntegrityError,
    RemoteMissingError,
    SnapshotExpired,
)
from ebooklet.services.commits import CommitReader, RecordRead
from ebooklet.services.log import log_params
from ebooklet.services.nodes import NodeReader
from ebooklet.services.request import Request
from ebooklet.services.retained import is_retained
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.versions import VersionLike, check_version, find_commit
from ebooklet.services.working_copy import WorkingCopy


def check_version_goes(version: object, *, flag: str, offline: object) -> None:
    """Refuse what does not go with `version=`, before anything is opened.

    Raises:
        ValueError: a flag but "r", or `offline`.
        TypeError: it can name no commit.
    """
    if version is None:
        return
    check_version(version)
    if flag != "r":
        raise ValueError(
            f"version= goes with flag 'r' only, not {flag!r}: a version stays what it is; "
            "revert(version) makes a commit that restores it"
        )
    if offline is not False:
        raise ValueError(
            "version= needs to ask the remote which commit that is; leave offline out, or version"
        )


def at_version(request: Request, current: Snapshot | None) -> tuple[Request, Snapshot]:
    """The snapshot that the request names, as a head that has come no further would show it.

    Costs one request, two or three for a commit older than the last 64.

    Args:
        request: with a version.
        current: the head that stands.

    Returns:
        The request of a copy that stays there, and the snapshot.

    Raises:
        RemoteMissingError: there is no database.
        UnknownVersionError, SnapshotExpired: see `find_commit`.
    """
    remote, version = request.remote, request.version
    if remote is None or current is None or version is None:
        raise RemoteMissingError(
            "there is no database here, and so no versions of it", op="open", key=request.db_key
        )
    segments = remote if request.mirror is None else request.mirror.segments
    head = current.head
    log_nodes = NodeReader(segments, request.db_key)
    log_nodes.params = log_params(head.params)
    ref = find_commit(log_nodes, head, version)
    by = version if isinstance(version, str) and version in head.branches else None
    stays = replace(request, settings=replace(request.settings, stays_at=ref.id, stays_by=by))
    if ref.id == current.head.branch.commit.id:
        return stays, current
    try:
        read = CommitReader(segments, request.db_key).read_around(ref)
    except ObjectNotFound as exc:
        if not is_retained(segments, request.db_key, head, ref):
            raise SnapshotExpired(
                f"commit {ref.seq} is no longer retained", op="open", key=request.db_key
            ) from exc
        raise RemoteIntegrityError(
            f"the record of commit {ref.seq} is gone, although the head retains it; run fsck",
            op="open",
            key=request.db_key,
        ) from exc
    check_record(read.commit, request.keyring.sealer_of(head))
    then = _as_of(head, ref, read)
    return stays, Snapshot(then, encode_head(then), "")


def _as_of(head: Head, ref: CommitRef, read: RecordRead) -> Head:
    commit = read.commit
    row = Recent(commit.write_id, commit.seq, commit.ms, head.default_branch, ref)
    then = as_of(head, row, commit)
    return replace(then, tip_root=read.root_node())


def settle_half(copy: WorkingCopy, snapshot: Snapshot, version: VersionLike | None) -> Snapshot:
    """The snapshot to attach a local half to, which may be one that shows the same commit already.

    Raises:
        LocalFileError: the half is in step with another commit, which it is not to be moved from.
    """
    if copy.local.condition == "new":
        return snapshot
    base = copy.journal.read_base()
    if base is None or base.ref.id != snapshot.ref.id:
        raise LocalFileError(
            f"{copy.local.location} is in step with another commit than version {version!r}, and "
            "is not moved back: leave file_path out, or name a file for this version alone",
            op="open",
            key=copy.db_key,
        )
    return base


def check_unchanged(copy: WorkingCopy) -> None:
    """Refuse a half that holds changes, which are no part of any version.

    Raises:
        LocalFileError: something is pending in it.
    """
    copy.pending.absorb()
    if copy.pending:
        raise LocalFileError(
            f"{copy.local.location} holds changes that were not pushed, which a version does not "
            "show: open it without version=, or name another file",
            op="open",
            key=copy.db_key,
        )
