"""CONTRACT §1 and §7, `fsck`: a remote database against the objects that are there."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import ebooklet
from ebooklet.connection import S3Connection
from ebooklet.core.commit import Commit, commit_id, encode_commit
from ebooklet.core.head import Head, PendingBatch, decode_head, encode_head
from ebooklet.core.names import mint_sid, segment_key
from ebooklet.core.refs import CommitRef
from ebooklet.core.segment import BlockType, SegmentKind, SegmentWriter, join_sids
from ebooklet.errors import (
    LockTimeout,
    ReadOnlyError,
    UnsupportedFormatError,
    UnsupportedOperation,
)
from tests.contract.conftest import Place

OLD = mint_sid(1_000_000, b"0123456789")
OLDER = mint_sid(1, b"0123456789")
FUTURE = mint_sid((1 << 48) - 1, b"0123456789")

memory = pytest.mark.parametrize("place", ["memory"], indirect=True)


def fill(place: Place, db_key: str = "db", **options: Any) -> dict[str, Any]:
    """Three commits, with inline, small and large values, and metadata in a block of their own."""
    with place.open(db_key, None, **options) as db:
        db.update({f"k{n:03}": "x" * n for n in range(120)})
        db.push()
        db["large"] = "y" * 300_000
        del db["k003"]
        db.push()
        db.set_metadata("m" * 70_000)
        db["k004"] = "changed"
        db.push()
        return dict(db.items())


def put(place: Place, objects: dict[str, bytes | None], db_key: str = "db") -> None:
    """Store these objects, or delete those that are None."""
    store, _ = place.store(db_key)
    for name, body in objects.items():
        if body is None:
            store.delete([name])
        else:
            store.put(name, body)
    store.close()


def head_of(place: Place) -> Head:
    return decode_head(place.objects()["db"], key="db")


def check(place: Place, db_key: str = "db", **options: Any) -> ebooklet.FsckReport:
    return ebooklet.fsck(place.connect(db_key), **options)


def test_a_sound_database(place: Place) -> None:
    """Nothing is missing, nothing too many; the report changes nothing and takes no lock."""
    name = "a db é" if place.kind == "file" else "a db/é"
    fill(place, name)
    with place.open(name, None, "w", lock_timeout=1) as writer:
        before = place.objects(name)
        for report in (
            check(place, name),
            check(place, name, check_objects=True, lock_timeout=0),
            writer.fsck(),
            writer.fsck(check_objects=True),
        ):
            assert report.ok
            assert report.db_object_exists
            assert (report.seq, report.n_commits) == (3, 3)
            assert report.n_segments == sum(".d/" in key for key in before)
            assert report.orphans == report.claimed_but_missing == report.swept == ()
            assert report.strangers == report.unreadable == ()
            assert report.damaged == {}
            assert name in report.location
        assert place.objects(name) == before
    with place.open(name, None, "r") as reader:
        assert reader.fsck() == check(place, name)


def test_no_database(place: Place) -> None:
    """The report says so; what is left of one counts as orphans, and is not swept without a head."""
    report = check(place)
    assert not report.db_object_exists
    assert report.ok
    assert report.orphans == ()
    fill(place)
    segments = {key: body for key, body in place.objects().items() if ".d/" in key}
    put(place, {"db": None})
    report = check(place, delete_orphans=True, min_age=0)
    assert not report.db_object_exists
    assert report.orphans == tuple(sorted(segments))
    assert report.swept == ()
    assert "first push" in report.not_swept
    assert segments.items() <= place.objects().items()


def test_old_orphans_are_swept(place: Place) -> None:
    """Those that are old enough, and nothing else: no young ones, no strangers, no neighbours."""
    expected = fill(place)
    old = [segment_key("db", OLDER), segment_key("db", OLD)]
    young = [segment_key("db", FUTURE)]
    strangers = ["db.d/notes.txt", "db.d/0000000000000000000000000u"]  # u is no letter of ours
    others = [segment_key("db2", OLD), segment_key("db.bak", OLD), "db.tmp"]
    put(place, dict.fromkeys((*old, *young, *strangers, *others), b"left"))
    before = place.objects()

    report = check(place, min_age=0)
    assert report.ok
    assert report.orphans == (*old, *young)
    assert report.skipped_young == tuple(young)
    assert report.strangers == tuple(sorted(strangers))
    assert report.swept == ()
    assert place.objects() == before

    report = check(place, delete_orphans=True)
    assert report.swept == tuple(old)
    assert report.orphans == (*old, *young)
    assert report.skipped_young == tuple(young)
    assert report.not_swept == ""
    after = place.objects()
    assert before.keys() - after.keys() == set(old)
    assert {*young, *strangers, *others} <= after.keys()
    assert head_of(place).gc.floor >= 1_000_000
    assert head_of(place).branch == decode_head(before["db"], key="db").branch

    assert check(place, delete_orphans=True).swept == ()
    with place.open(file=None, flag="w") as db:
        assert dict(db.items()) == expected
        db["on"] = 1
        assert db.push()
    assert check(place, check_objects=True).ok


@memory
def test_how_old_is_old_enough(place: Place) -> None:
    """`min_age` is a timedelta or seconds, by the server's clock and the segment's own time."""
    fill(place)
    store, _ = place.store()
    now = store.server_time_ms()
    assert now is not None
    names = [segment_key("db", mint_sid(now - h * 3_600_000, bytes(10))) for h in (1, 23, 25, 49)]
    put(place, dict.fromkeys(names, b"left"))
    assert set(check(place).skipped_young) == {names[0], names[1]}
    assert set(check(place, min_age=timedelta(hours=48)).skipped_young) == set(names[:3])
    assert check(place, delete_orphans=True, min_age=48 * 3600).swept == (names[3],)
    assert check(place, delete_orphans=True).swept == (names[2],)
    assert check(place, delete_orphans=True, min_age=timedelta(0)).swept == (names[1], names[0])
    for wrong in (-1, timedelta(seconds=-1), float("nan")):
        with pytest.raises(ValueError, match="min_age"):
            check(place, min_age=wrong)


def test_what_is_missing(place: Place) -> None:
    """Segments that are needed and not there, of any retained commit; nothing is swept then."""
    fill(place)
    put(place, {segment_key("db", OLD): b"left"})
    needed = [key for key in place.objects() if ".d/" in key and key != segment_key("db", OLD)]
    for gone in needed:
        body = place.objects()[gone]
        put(place, {gone: None})
        report = check(place, delete_orphans=True, min_age=0)
        assert not report.ok
        assert gone in report.claimed_but_missing
        assert report.swept == ()
        assert report.not_swept
        put(place, {gone: body})
    assert check(place, delete_orphans=True, min_age=0).swept == (segment_key("db", OLD),)


@memory
def test_what_is_damaged(place: Place) -> None:
    """Any flipped bit of a segment in use is found by reading it; other lengths without."""
    fill(place)
    segments = {key: body for key, body in place.objects().items() if ".d/" in key}
    for key, body in segments.items():
        places = {*range(0, len(body), max(1, len(body) // 25)), len(body) - 1, 63, len(body) - 41}
        for at in places:
            flipped = bytearray(body)
            flipped[at] ^= 1
            put(place, {key: bytes(flipped)})
            report = check(place, check_objects=True)
            assert not report.ok, (key, at)
            assert key in report.damaged or report.unreadable
        for other in (body[:-1], body + b"x", b""):
            put(place, {key: other})
            report = check(place)
            if key not in report.damaged:  # its size stands in no table
                report = check(place, check_objects=True)
            assert key in report.damaged or report.unreadable
        put(place, {key: body})
    assert check(place, check_objects=True).ok


@memory
def test_an_unreadable_commit_stops_the_sweep(place: Place) -> None:
    """What older commits need is not known then: no orphans are named, none is deleted."""
    fill(place)
    head = head_of(place)
    record = head.recent[0].commit.block
    key = segment_key("db", record.sid)
    body = bytearray(place.objects()[key])
    body[record.offset] ^= 1
    put(place, {key: bytes(body), segment_key("db", OLD): b"left"})
    report = check(place, delete_orphans=True, min_age=0)
    assert report.unreadable
    assert not report.ok
    assert report.orphans == report.swept == ()
    assert "not known" in report.not_swept
    assert segment_key("db", OLD) in place.objects()


@memory
def test_a_segment_that_no_table_lists_is_not_swept(place: Place) -> None:
    """A commit whose table leaves out what its tree uses: found by walking the tree, not believed."""
    fill(place)
    head = head_of(place)
    values = max(head.tip.segs, key=lambda row: row.live)
    tip = replace(head.tip, segs=tuple(row for row in head.tip.segs if row != values))
    forged = with_tip(place, head, replace(tip, parents=()))
    put(place, {"db": encode_head(forged)})
    report = check(place)
    assert segment_key("db", values.sid) in report.orphans  # by the tables alone
    report = check(place, delete_orphans=True, min_age=0)
    assert "does not list it" in report.damaged[segment_key("db", values.sid)]
    assert report.swept == ()
    assert segment_key("db", values.sid) in place.objects()


def with_tip(place: Place, head: Head, tip: Commit) -> Head:
    """A head whose only commit is this one, its record in a new segment."""
    data = encode_commit(tip)
    writer = SegmentWriter(head.uuid, mint_sid(2_000_000, bytes(10)), bytes(16), SegmentKind.NODES)
    ref = CommitRef(writer.add_block(BlockType.COMMIT, data), commit_id(data), tip.seq)
    put(place, {segment_key("db", writer.sid): bytes(writer.finish())})
    branch = replace(head.branch, commit=ref, oldest_seq=tip.seq)
    recent = tuple(row._replace(commit=ref) for row in head.recent[-1:])
    return replace(head, tip=tip, branches={"main": branch}, recent=recent, tip_root=None)


@memory
def test_what_gc_has_dropped_is_no_orphan(place: Place) -> None:
    """Segments that wait for their grace to end belong to readers of older commits."""
    fill(place)
    head = head_of(place)
    writer = SegmentWriter(head.uuid, mint_sid(3_000_000, bytes(10)), bytes(16), SegmentKind.NODES)
    block = writer.add_block(BlockType.SIDS, join_sids([OLD]))
    kept = segment_key("db", writer.sid)
    gc = replace(head.gc, pending=(PendingBatch(1, block),))
    put(
        place,
        {
            kept: bytes(writer.finish()),
            segment_key("db", OLD): b"dropped",
            segment_key("db", OLDER): b"orphan",
            "db": encode_head(replace(head, gc=gc)),
        },
    )
    report = check(place, delete_orphans=True, min_age=0, check_objects=True)
    assert report.ok
    assert report.swept == (segment_key("db", OLDER),)
    assert {kept, segment_key("db", OLD)} <= place.objects().keys()
    put(place, {kept: None})
    report = check(place, delete_orphans=True, min_age=0)
    assert report.unreadable
    assert report.swept == ()


@memory
def test_a_damaged_head(place: Place) -> None:
    """It exists, nothing else is known, nothing is deleted."""
    fill(place)
    body = place.objects()["db"]
    put(place, {"db": body[:-1], segment_key("db", OLD): b"left"})
    calls: list[dict[str, Any]] = [{}, {"delete_orphans": True, "min_age": 0}]
    for options in calls:
        report = check(place, **options)
        assert report.db_object_exists
        assert not report.ok
        assert "damaged" in report.unreadable[0]
        assert report.orphans == report.swept == ()
    assert "damaged" in report.not_swept


@memory
def test_what_is_not_ours_is_refused(place: Place) -> None:
    """An object of somebody else's, a place that cannot be listed or written, a wrong argument."""
    put(place, {"db": b"somebody else's"})
    calls: list[dict[str, Any]] = [{}, {"delete_orphans": True}]
    for options in calls:
        with pytest.raises(UnsupportedFormatError):
            check(place, **options)
    with pytest.raises(UnsupportedOperation, match="listed"):
        ebooklet.fsck("http://127.0.0.1:9/bucket/db")
    with pytest.raises(ReadOnlyError, match="credentials"):
        ebooklet.fsck("http://127.0.0.1:9/bucket/db", delete_orphans=True)
    with pytest.raises(TypeError):
        ebooklet.fsck(7)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match=r"\.lock"):
        check(place, "x.lock")
    fill(place, "other")
    store, _ = place.store()
    head = decode_head(store.get("other").body, key="other")
    put(place, {"other": encode_head(replace(head, required_bits=4))})
    assert "bits" in check(place, "other").unreadable[0]
    with pytest.raises(UnsupportedFormatError, match="bits"):
        check(place, "other", delete_orphans=True)


@pytest.mark.parametrize("place", ["memory", "file", "seaweedfs"], indirect=True)
def test_sweeping_takes_the_lock(place: Place) -> None:
    """A writer that has it is waited for, and left alone; afterwards the lock is free again."""
    fill(place)
    put(place, {segment_key("db", OLD): b"left"})
    with place.open(file=None, flag="w"):
        with pytest.raises(LockTimeout):
            check(place, delete_orphans=True, min_age=0, lock_timeout=0.1)
        assert segment_key("db", OLD) in place.objects()
    assert check(place, delete_orphans=True, min_age=0, lock_timeout=0.1).swept
    with place.open(file=None, flag="w", lock_timeout=0.1) as db:
        assert db.push(force_push=True)


@pytest.mark.parametrize("place", ["memory", "file"], indirect=True)
def test_a_long_history_and_a_group(place: Place) -> None:
    """Commits beyond those in the head count too; groups are databases."""
    with place.open(file=None, remote_conn_group=True) as group:
        for n in range(90):
            group.set_metadata(n)
            assert group.push()
    report = check(place, check_objects=True)
    assert (report.n_commits, report.ok, report.orphans) == (90, True, ())
    key = next(key for key in place.objects() if key == segment_key("db", head_of(place).hsegs[0]))
    body = bytearray(place.objects()[key])
    put(place, {key: None})
    assert check(place).unreadable  # the log is needed to know what is
    put(place, {key: bytes(body)})


def test_under_the_ticket_lock(locked_place: Place) -> None:
    """In mode lock both heads are looked at, and the sweep moves them under the lock."""
    expected = fill(locked_place)
    put(locked_place, {segment_key("db", OLD): b"left"})
    assert check(locked_place, check_objects=True).ok
    report = check(locked_place, delete_orphans=True, min_age=3600)
    assert report.swept == (segment_key("db", OLD),)
    objects = locked_place.objects()
    assert objects["db"] == objects["db.alt"]
    assert decode_head(objects["db"], key="db").gc.floor >= 1_000_000
    put(locked_place, {"db": objects["db"][:100]})
    report = check(locked_place)
    assert list(report.damaged) == ["db"]
    put(locked_place, {"db": objects["db"], "db.alt": None})
    assert check(locked_place).claimed_but_missing == ("db.alt",)
    with locked_place.open(file=None, flag="r") as db:
        assert dict(db.items()) == expected


@pytest.mark.parametrize("place", ["moto"], indirect=True)
def test_every_way_to_name_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection, a dict of its parameters, a URL."""
    fill(place)
    connection = place.connect("db")
    assert isinstance(connection, S3Connection)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", connection.access_key_id or "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", connection.access_key or "")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    keys = {"access_key_id": connection.access_key_id, "access_key": connection.access_key}
    url = f"s3://{connection.bucket}/db?endpoint_url={connection.endpoint_url}"
    reports = [ebooklet.fsck(one) for one in (connection, {**connection.to_dict(), **keys}, url)]
    assert all(a == b for a, b in itertools.pairwise(reports))
    assert reports[0].ok
