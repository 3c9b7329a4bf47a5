"""Where a head was lost, nobody begins another database beside the segments unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

import ebooklet
from ebooklet.errors import AccessDenied, RemoteDeleted, RemoteMissingError, RemoteUnavailable
from ebooklet.services.request import Flag
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.services.conftest import Opener, kinds, store_of

LOST = pytest.mark.parametrize("n_commits", [1, 2])


def lose_head(opener: Opener, url: str, n_commits: int = 2) -> None:
    """A database of 50 keys, of which file "b" has fetched two, and then its head is lost."""
    with opener("a", "c") as db:
        for number in range(n_commits):
            db.update({f"k{n}": [number, n] for n in range(50)})
            db.push()
    with opener("b", "r") as db:
        assert [db["k1"], db["k2"]]
    store_of(url).delete(["db"])


@pytest.mark.parametrize("flag", ["w", "c"])
@LOST
def test_a_push_waits_for_the_rescue(
    opener: Opener, url: str, tmp_path: Path, flag: Flag, n_commits: int
) -> None:
    """It is refused with the remedy; all can be read and written meanwhile, and is there after it.

    Fails without: `begin_anew`, and the base that stays.
    """
    lose_head(opener, url, n_commits)
    before = list(store_of(url).list("db"))
    with pytest.warns(UserWarning, match="fsck URL --rescue"):
        db = opener("b", flag, value_serializer=None)
    with db:
        db["new"] = 1
        assert (len(db), db["k40"]) == (51, [n_commits - 1, 40])
        with pytest.raises(RemoteMissingError, match="fsck URL --rescue"):
            db.push()
        assert list(store_of(url).list("db")) == before
        assert kinds(db) == {"new": "added"}
    assert ebooklet.fsck(url, rescue=True, value_serializer="json").ok
    with opener("b", "w") as db:
        assert db.push().n_set == 1
    with opener("cold", "r") as db:
        assert len(db) == 51


def test_a_reader_is_told(opener: Opener, url: str) -> None:
    """At the open, and by a pull; what was committed can be read, from the segments too."""
    lose_head(opener, url)
    with pytest.warns(UserWarning, match="its head was lost"):
        db = opener("b", "r")
    with db:
        assert db["k40"] == [1, 40]
        with pytest.raises(RemoteMissingError, match="fsck URL --rescue"):
            db.pull()


def test_a_creation_beside_segments_is_refused(opener: Opener, url: str) -> None:
    """By somebody without a local file, who is told at the open; a push that is forced goes on."""
    lose_head(opener, url)
    with pytest.warns(UserWarning, match="its head was lost"):
        db = opener("other", "c")
    with db:
        db["other"] = 1
        with pytest.raises(RemoteMissingError, match="of the 1 keys stored locally"):
            db.push()
        assert db.push(force_push=True)
    with opener("cold", "r") as db:
        assert dict(db) == {"other": 1}


def test_a_forced_push_creates_it_of_what_is_here(opener: Opener, url: str) -> None:
    """Everything that is stored locally, under the same uuid and the next number."""
    lose_head(opener, url)
    with pytest.warns(UserWarning, match="its head was lost"):
        db = opener("b", "w")
    with db:
        del db["k2"]
        assert db.push(force_push=True).seq == 3
        assert dict(db) == {"k1": [1, 1]}


def test_a_deletion_is_none(opener: Opener, url: str) -> None:
    """By this copy, also where segments were left, or by another: the next push creates it anew."""
    with opener("b", "c") as mine:
        mine["k1"] = 0
        mine.push()
    store = FaultyRemoteStore(store_of(url))
    with ebooklet.open(store, None, "w", lock="optimistic") as db:
        assert db.load_items() == {}
        with opener("b", "w") as mine:
            store.add(StoreRule(StoreFault.REFUSE, op="delete", skip=2))
            with pytest.raises(RemoteUnavailable):
                db.delete_remote()
            mine["k1"] = 1
            with pytest.raises(RemoteDeleted, match="rescue"):
                mine.push()
        assert list(store_of(url).list("db.d/"))
        assert db.push()  # with the uuid, so that the other goes on from it
    with opener("b", "w") as mine:
        mine.delete_remote()
        assert mine.push()
    with opener(None, "r") as db:
        assert dict(db) == {"k1": 1}


def test_founders_are_let_be(opener: Opener, url: str) -> None:
    """Segments of a first push that has no head yet keep nobody from founding, itself included.

    Fails without: first commits that tell nothing while they are young.
    """
    store = FaultyRemoteStore(store_of(url))
    with ebooklet.open(store, None, "c", "json", lock="optimistic") as first:
        first.update({f"k{n}": n for n in range(50)})
        store.add(StoreRule(StoreFault.DENY, op="cas"))
        with pytest.raises(AccessDenied):
            first.push()
        assert list(store_of(url).list("db.d/"))
        with opener(None, "c") as second:
            assert first.push().seq == 1
            second["mine"] = 1
            assert second.push().seq == 2
            assert len(second) == 51


def test_a_database_that_comes_meanwhile_is_joined(url: str) -> None:
    """Founded, and pushed to again, between the look for a head and the list: nobody is warned.

    Fails without: the second look for a head.
    """
    store = FaultyRemoteStore(store_of(url))

    def found() -> None:
        with ebooklet.open(store_of(url), None, "c", "json", lock="optimistic") as db:
            for number in range(2):
                db["theirs"] = number
                db.push()

    rule = StoreRule(StoreFault.DELAY, op="list", key="db.d/", amount=0, then=found)
    store.add(rule)
    with ebooklet.open(store, None, "c", "json", lock="optimistic") as db:
        db["mine"] = 1
        assert rule.struck
        assert db.push().seq == 3
        assert dict(db) == {"mine": 1, "theirs": 1}
