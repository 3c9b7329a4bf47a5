"""Branches and tags on real servers: what they promise does not depend on how heads are moved."""

from __future__ import annotations

import pytest

import ebooklet
from tests.contract.conftest import Place


def tour(place: Place) -> None:
    """Name, branch, part, merge, drop and take out again, with a local file that changes branches."""
    conn, path = place.connect("named"), place.folder / "named.blt"
    with ebooklet.open(conn, path, "c", "json") as db:
        db.update({f"k{n}": "v" * 200 for n in range(20)})
        first = db.push()
        db["pending"] = 1
        assert db.tag("v1", message="why").commit == first.commit
        db.branch("dev")
        assert {change["key"] for change in db.changes()} == {"pending"}
        db.push()
    with ebooklet.open(conn, path, "w", branch="dev") as db:
        assert "pending" not in db
        db["k3"] = "dev"
        del db["k4"]
        db.push()
    with ebooklet.open(conn, path, "w", branch="main") as db:
        assert (db["k3"], db["pending"]) == ("v" * 200, 1)
        result = db.merge("dev")
        assert (result.n_set, result.n_deleted, result.fast_forward) == (1, 1, False)
        assert (db["k3"], "k4" in db, db["pending"], len(db)) == ("dev", False, 1, 20)
        db.delete_tag("v1")
        db.delete_branch("dev")
    with ebooklet.open(conn) as db:
        assert (list(db.tags()), list(db.branches())) == ([], ["main"])
        assert [row.name for row in db.trash()] == ["dev", "v1"]
        assert (db["k3"], len(db), next(commit.op for commit in db.log())) == ("dev", 20, "merge")
    with ebooklet.open(conn, path, "w") as db:
        assert db.undelete("v1").commit == first.commit
    with ebooklet.open(conn, version="v1") as db:
        assert (db["k3"], "k4" in db, "pending" in db) == ("v" * 200, True, False)
    report = ebooklet.fsck(conn, check_objects=True)
    assert not (report.damaged)
    assert not (report.claimed_but_missing)
    assert not (report.unreadable)


@pytest.mark.parametrize("place", ["file", "seaweedfs"], indirect=True)
def test_names_and_merges_anywhere(place: Place) -> None:
    """In a folder, and on a server that decides races."""
    tour(place)


def test_names_and_merges_under_the_lock(locked_place: Place) -> None:
    """On a server that ignores conditions each head is written under the lock, names as commits."""
    tour(locked_place)
