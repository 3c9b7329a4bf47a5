"""CONTRACT §3, "R no, L yes": a local file opened with a key at which its database never was."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import booklet
import pytest

import ebooklet
from ebooklet.database import EBooklet
from tests.contract.conftest import Place

LONG = "never fetched" * 1000
WITHOUT_SERVER = pytest.mark.parametrize("place", ["memory"], indirect=True)


def fill(place: Place) -> None:
    """A database at `db` of three keys, of which local file `a` stores one."""
    with place.open(file="b") as db:
        db.update({"a": 1, "b": LONG, "c": 3})
        db.push()
    with place.open(flag="r") as db:
        assert db["a"] == 1


def misplaced(place: Place, flag: Any, key: str = "bd") -> EBooklet[Any]:
    """Local file `a` opened with another key, as the warning says that names both."""
    with pytest.warns(UserWarning, match="last in step") as said:
        db = place.open(key, flag=flag)
    (text,) = [str(warning.message) for warning in said]
    asked, known = (place.connect(name) for name in (key, "db"))
    if isinstance(asked, str) and isinstance(known, str):
        assert f"no database at {asked};" in text
        assert f"in step with {known}." in text
    assert "/bd;" in text
    assert "/db." in text
    assert ("push" in text) is (flag != "r")
    assert warned_here(said)
    return db


def remembered(place: Place) -> bytes:
    """What lies beside local file `a`."""
    return b"".join(p.read_bytes() for p in place.folder.glob("a.blt.ebk/**/*") if p.is_file())


def secrets(place: Place) -> list[bytes]:
    """What a connection has that nobody is to find."""
    connection = place.connect("db")
    if isinstance(connection, str):
        return []
    return [(connection.access_key or "").encode(), (connection.access_key_id or "").encode()]


def warned_here(said: pytest.WarningsRecorder) -> bool:
    """Whether it names a line of the caller's."""
    return all(Path(warning.filename).name == "conftest.py" for warning in said)


def test_a_mistyped_key_is_said_and_changes_nothing(place: Place) -> None:
    """Both places are named; local data are served, a push is refused, and the right key goes on."""
    fill(place)
    with misplaced(place, "r") as db:
        assert db["a"] == 1
        with pytest.raises(ebooklet.RemoteMissingError, match=r"last seen at .*/db"):
            db["b"]
        with pytest.raises(ebooklet.RemoteMissingError, match=r"in step with .*/db"):
            db.pull()
    for flag in ("w", "c"):
        with misplaced(place, flag) as db:
            db[flag] = 4
            with pytest.raises(ebooklet.RemoteMissingError, match=r"step with .*/db.*copy_remote"):
                db.push()
            db.delete_remote()  # there is none: nothing happens, here either
            assert db[flag] == 4
    assert {key for key in place.objects("bd") if ".lock" not in key} == set()
    assert not any(secret in remembered(place) for secret in secrets(place))
    with place.open(flag="w") as db:
        assert {change["key"] for change in db.changes()} == {"w", "c"}
        assert db.push().n_set == 2
        assert dict(db) == {"a": 1, "b": LONG, "c": 4, "w": 4}


def test_force_creates_the_database_there(place: Place) -> None:
    """What is stored here is pushed, under the same uuid; the new place is then remembered."""
    fill(place)
    with misplaced(place, "w") as db:
        uuid = db.uuid
        db["d"] = 4
        assert db.push(force_push=True).n_set == 2
        assert dict(db) == {"a": 1, "d": 4}
    with place.open("bd", flag="w") as db:
        db["e"] = 5
        assert db.push().n_set == 1
        assert db.uuid == uuid
    with place.open("bd", file="cold", flag="r") as db:
        assert dict(db) == {"a": 1, "d": 4, "e": 5}
    with place.open(file="cold too", flag="r") as db:
        assert dict(db) == {"a": 1, "b": LONG, "c": 3}


@WITHOUT_SERVER
def test_a_moved_database_is_followed(place: Place) -> None:
    """After `copy_remote`, an open at the new place remembers it, by reading alone."""
    fill(place)
    with place.open(flag="w") as db:
        db.copy_remote(place.connect("moved"))
        db.delete_remote()
        assert db.push()  # one's own deletion is followed by no question
    for flag in ("r", "w"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heads of two histories of one uuid
            place.open("moved", file="b", flag=flag).close()
    with (
        pytest.warns(UserWarning, match=r"in step with .*/moved\."),
        place.open("elsewhere", file="b", flag="r"),
    ):
        pass


@WITHOUT_SERVER
def test_a_file_of_no_place_goes_anywhere_in_silence(place: Place) -> None:
    """Never in step with a remote, begun anew, or its remote deleted: no warning, no refusal."""
    place.open("first").close()
    with place.open("second", flag="w") as db:
        db["a"] = 1
        assert db.push()
        db.delete_remote()
    with place.open("third", flag="w") as db:
        assert db.push()
    with place.open("fourth", flag="n") as db:
        db["b"] = 2
        assert db.push()


@WITHOUT_SERVER
def test_edits_made_beside_wait_for_the_right_place(place: Place) -> None:
    """A file that plain Booklet has written to opens, and what was written is pending."""
    fill(place)
    path = place.path("a")
    assert path is not None
    with booklet.open(path, "w") as plain:
        plain["beside"] = 7
    with misplaced(place, "w") as db:
        assert db["beside"] == 7
    with place.open(flag="w") as db:
        assert [change["key"] for change in db.changes()] == ["beside"]
        assert len(db) == 4
