"""CONTRACT §7, `fsck`: what is lost is named, and what the bucket tells is put right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.keyrings import keyring_of
from ebooklet.core.commit import Commit, commit_id, encode_commit
from ebooklet.core.head import Head, encode_head
from ebooklet.core.names import alternate_key, mint_sid, segment_key
from ebooklet.core.notes import seal_notes
from ebooklet.core.refs import CommitRef
from ebooklet.core.segment import BlockType, SegmentKind, SegmentWriter
from ebooklet.errors import ReadOnlyError, RemoteIntegrityError
from tests.contract.conftest import Place
from tests.contract.wrecked import check, content, head_of, put

OLD = mint_sid(1_000_000, b"0123456789")

memory = pytest.mark.parametrize("place", ["memory"], indirect=True)
real = pytest.mark.parametrize("place", ["memory", "seaweedfs"], indirect=True)


def fill(place: Place, n: int = 60) -> dict[str, Any]:
    """Two commits, each with values in a segment of its own."""
    with place.open("db", None) as db:
        db.update({f"a{i:03}": f"{i}" * 100 for i in range(n)})
        db.push()
        db.update({f"b{i:03}": f"{i}" * 100 for i in range(n)})
        db.push()
        return dict(db.items())


def forged(place: Place, **changes: Any) -> None:
    """Have the newest commit say something else of itself, as a bug of a writer would."""
    head = head_of(place)
    tip = replace(head.tip, **changes)
    put(place, {"db": encode_head(with_tip(place, head, tip))})


def with_tip(place: Place, head: Head, tip: Commit) -> Head:
    data = encode_commit(tip)
    writer = SegmentWriter(head.uuid, mint_sid(2_000_000, bytes(10)), bytes(16), SegmentKind.NODES)
    ref = CommitRef(writer.add_block(BlockType.COMMIT, data), commit_id(data), tip.seq)
    put(place, {segment_key("db", writer.sid): bytes(writer.finish())})
    recent = (*head.recent[:-1], head.recent[-1]._replace(commit=ref))
    branch = replace(head.branch, commit=ref)
    return replace(head, tip=tip, branches={"main": branch}, recent=recent)


def fill_apart(place: Place) -> tuple[dict[str, str], str, str]:
    """Values so large that they lie apart from the index; those are k1 to k4, and s is small.

    Returns:
        The content, and the names of the segments of values and of nodes.
    """
    expected = {f"k{i}": f"{i}" * 80_000 for i in range(1, 5)} | {"s": "small"}
    with place.open("db", None) as db:
        db.update(expected)
        db.push()
    rows = {row.kind: segment_key("db", row.sid) for row in head_of(place).tip.segs}
    return expected, rows[SegmentKind.VALUES], rows[SegmentKind.NODES]


@real
def test_keys_whose_values_are_lost_are_named(place: Place) -> None:
    """All that went with an object, and no other; they stay keys, and reading one raises."""
    expected, name, _ = fill_apart(place)
    body = place.objects()[name]
    at = body.index(expected["k3"].encode())
    wrecks = {
        "deleted": (None, {f"k{i}" for i in range(1, 5)}),
        "truncated": (body[:at], {"k3", "k4"}),
        "flipped": (body[:at] + b"!" + body[at + 1 :], {"k3"}),
    }
    for damage, (wreck, lost) in wrecks.items():
        put(place, {name: wreck})
        report = check(place, check_objects=True, repair=True)
        assert not report.ok
        assert report.repaired == ()
        assert "lost" in report.not_repaired
        assert report.lost == tuple(sorted(lost)), damage
        assert (name in report.claimed_but_missing) == (damage == "deleted")
        assert (name in report.damaged) == (damage != "deleted")
        with place.open("db", None, "r") as db:
            assert set(db) == set(expected)
            assert dict(db.get_items(expected.keys() - lost)) == {
                key: value for key, value in expected.items() if key not in lost
            }
            with pytest.raises(RemoteIntegrityError):
                db["k3"]
        put(place, {name: body})
    assert check(place, check_objects=True).ok


@memory
def test_lost_keys_are_set_anew_or_dropped(place: Place) -> None:
    """Deleting one needs its index entry only; once that is pushed, none is lost any more."""
    _, name, _ = fill_apart(place)
    put(place, {name: None})
    report = check(place, repair=True)
    with place.open("db", None, "w") as db:
        for key in report.lost[1:]:
            del db[key]
        db["k1"] = "anew"
        assert db.push()
    assert content(place) == {"k1": "anew", "s": "small"}
    after = check(place, repair=True)
    assert after.lost == ()
    assert after.claimed_but_missing == (name,)  # an older commit, which is retained, needs it


@memory
def test_keys_that_cannot_be_named(place: Place) -> None:
    """Where index nodes are gone, the report says how many keys, and between which."""
    with place.open("db", None) as db:
        db.update({f"k{i:04}": "x" * 65 for i in range(4000)})
        db.push()
        db["k0000"] = "y"  # the root and one leaf lie in another segment now
        db.push()
    head = head_of(place)
    nodes = max((row.live, row.sid) for row in head.tip.segs if row.kind == SegmentKind.NODES)
    put(place, {segment_key("db", nodes[1]): None})
    report = check(place, check_objects=True)
    assert report.lost == ()
    assert sum(each.count for each in report.lost_ranges) > 1000
    keys = [f"k{i:04}" for i in range(4000)]
    for each in report.lost_ranges:
        after, last = each.after or "", each.last or "l"
        assert each.count == sum(after < key <= last for key in keys)
    assert report.counters == ()  # what cannot be counted is not judged
    assert check(place, repair=True).repaired == ()


@real
def test_wrong_counters_are_corrected(place: Place) -> None:
    """A commit of the same content says what its tree comes to; writers go on over it.

    Fails without: the rows that a tree uses being taken from the walk, whatever a table says.
    """
    expected = fill(place)
    with place.open("db", "writer", "w") as db:
        fingerprint = head_of(place).tip.fingerprint
        first, *rest = head_of(place).tip.segs
        forged(place, value_bytes=7, segs=(first._replace(live=3), *rest[1:]))
    report = check(place)
    assert report.ok  # without walking the index, nobody can tell
    report = check(place, check_objects=True)
    assert len(report.counters) == 3
    assert not report.ok

    report = check(place, repair=True)
    assert report.ok
    assert report.counters == ()
    assert len(report.repaired) == 3
    assert (report.seq, report.n_commits) == (3, 3)
    tip = head_of(place).tip
    assert (tip.op, tip.fingerprint) == ("repair", fingerprint)
    assert tip.value_bytes == sum(len(value) + 2 for value in expected.values())
    assert check(place, check_objects=True).ok
    assert content(place) == expected
    again = check(place, repair=True)
    assert (again.repaired, again.seq) == ((), 3)
    with place.open("db", "writer", "w") as db:
        db["more"] = 1
        assert db.push()
    assert check(place, check_objects=True).ok


@memory
def test_wrong_lengths_and_kinds_are_corrected(place: Place) -> None:
    """The segment itself says how long it is and what it holds; collections and copies go on.

    A segment that is cut short, or has a byte too many, does not.

    Fails without: reading the segment whole before a commit is called wrong.
    """
    expected, name, _ = fill_apart(place)
    first, *rest = head_of(place).tip.segs
    forged(place, segs=(first._replace(length=first.length + 1, kind=9), *rest))
    report = check(place)
    assert report.damaged == {}
    assert len(report.counters) == 1  # the length; kinds are read on the walk
    report = check(place, check_objects=True)
    assert len(report.counters) == 2
    assert not report.ok
    report = check(place, repair=True)
    assert report.ok
    assert len(report.repaired) == 2
    assert first in head_of(place).tip.segs
    assert content(place) == expected
    with place.open("db", None, "w", history=1) as db:
        db.copy_remote(place.connect("copied"))  # with the commit that says so still
        assert db.gc()
    body = place.objects()[name]
    for wreck in (body[:-1], body + b"x"):
        put(place, {name: wreck})
        report = check(place, repair=True)
        assert name in report.damaged
        assert (report.counters, report.repaired) == ((), ())


@memory
def test_an_encrypted_database_is_repaired_with_its_key(place: Place) -> None:
    """Without the key nothing is counted, nor changed; with it, the new record is sealed too."""
    encryption = ebooklet.Encryption(lambda _: bytes(range(32)), "k")
    with place.open("db", None, encryption=encryption) as db:
        db["a"] = "x" * 100
        db.push("in confidence")
    head = head_of(place)
    sealer = keyring_of(encryption).sealer_of(head)
    tip = seal_notes(replace(head.tip, value_bytes=7, notes=None), sealer, head.tip.key_ids)
    put(place, {"db": encode_head(with_tip(place, head, tip))})
    report = check(place, repair=True)
    assert report.not_checked
    assert report.counters == report.repaired == ()
    report = check(place, repair=True, encryption=encryption)
    assert report.ok
    assert report.repaired
    assert b"corrected" not in place.objects()["db"]
    assert check(place, check_objects=True, encryption=encryption).ok
    with place.open("db", None, "w", encryption=encryption) as db:
        assert dict(db.items()) == {"a": "x" * 100}
        assert "corrected" in next(iter(db.log())).message


@memory
def test_a_handle_repairs_under_its_own_lock(place: Place) -> None:
    """What is pending stays so, and is pushed over the commit that corrected; readers may not."""
    expected = fill(place)
    forged(place, value_bytes=7)
    with place.open("db", "a", "w", lock_timeout=0) as db:
        db["more"] = 1
        report = db.fsck(repair=True)
        assert report.ok
        assert report.repaired
        assert db.push()
        assert dict(db.items()) == expected | {"more": 1}
        assert db.fsck(check_objects=True).ok
    with place.open("db", "a", "r") as reader, pytest.raises(ReadOnlyError):
        reader.fsck(repair=True)
    with pytest.raises(ReadOnlyError, match="credentials"):
        ebooklet.fsck("http://127.0.0.1:9/bucket/db", repair=True)


@memory
def test_repairing_what_is_sound_changes_nothing(place: Place) -> None:
    """No commit, no object; with `delete_orphans` the sweep follows."""
    fill(place)
    put(place, {segment_key("db", OLD): b"left"})
    before = place.objects()
    report = check(place, repair=True)
    assert report.ok
    assert report.repaired == report.swept == ()
    after = place.objects()
    assert after | {"db.lock": b""} == before | {"db.lock": b""}
    report = check(place, repair=True, delete_orphans=True)
    assert report.swept == (segment_key("db", OLD),)


@memory
def test_a_long_history_is_carried_over(place: Place) -> None:
    """A correcting commit moves rows into the log as any other does."""
    with place.open("db", None) as db:
        for i in range(64):
            db[f"k{i}"] = i
            db.push()
    forged(place, value_bytes=7)
    assert check(place, repair=True).repaired
    head = head_of(place)
    assert len(head.recent) == 33
    assert head.log is not None
    report = check(place, check_objects=True)
    assert report.ok
    assert report.n_commits == 65


@pytest.mark.matrix("behaviour", "boto3", "rclone", representative=False)
def test_two_copies_of_the_head_on_a_server(locked_place: Place) -> None:
    """The damaged one is written anew from the other, under the ticket lock."""
    expected = fill(locked_place)
    whole = locked_place.objects()["db"]
    for name in ("db", alternate_key("db")):
        put(locked_place, {name: whole[:100]})
        assert name in check(locked_place).damaged
        report = check(locked_place, repair=True)
        assert report.ok
        assert name in report.repaired[0]
        assert locked_place.objects()[name] == whole
    assert content(locked_place) == expected
