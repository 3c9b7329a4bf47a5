"""What a handle refuses is said with the name of what was asked, and with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet import Encryption, EncryptionError, InvalidKeyError, KeyFile, ReadOnlyError

Database = ebooklet.EBooklet[Any]
URL = "memory://refusals/data/stations"
READ_ONLY = r"cannot {op}: the database 'data/stations' is open for reading only; .*reopen\('w'\)"


@pytest.fixture
def db() -> Database:
    """A database that exists in a remote, open for reading."""
    with ebooklet.open(URL, flag="n", value_serializer="json") as made:
        made["a"] = 1
        made.push()
    return ebooklet.open(URL)


@pytest.mark.parametrize(
    ("op", "key", "write"),
    [
        ("set", "k", lambda db: db.__setitem__("k", 1)),
        ("set", "k", lambda db: db.set("k", 1)),
        ("delete", "a", lambda db: db.__delitem__("a")),
        ("pop", "a", lambda db: db.pop("a")),
        ("setdefault", "k", lambda db: db.setdefault("k", 1)),
        ("set_timestamp", "a", lambda db: db.set_timestamp("a", 1)),
        ("clear", "data/stations", lambda db: db.clear()),
        ("push", "data/stations", lambda db: db.push()),
        ("set_metadata", "data/stations", lambda db: db.set_metadata({})),
    ],
)
def test_a_reader_says_what_was_to_be_written(
    db: Database, op: str, key: str, write: Callable[[Database], object]
) -> None:
    """Which database, which key of it, and how it is opened for writing."""
    with db, pytest.raises(ReadOnlyError, match=READ_ONLY.format(op=op)) as caught:
        write(db)
    assert (caught.value.op, caught.value.key) == (op, key)


def test_what_is_closed_says_its_name(db: Database, tmp_path: Path) -> None:
    """Whether reads, writes or a session: which one, by its key or its file, and to open it again."""
    db.close()
    for use in (lambda: db["a"], lambda: db.push(), lambda: db.set("b", 1), lambda: len(db)):
        with pytest.raises(ValueError, match=r"^the database 'data/stations' is closed: open it"):
            use()
    local = ebooklet.open(None, tmp_path / "x.blt", "c")
    local.close()
    with pytest.raises(ValueError, match=r"^the database '.*x\.blt' is closed: open it again"):
        local["a"] = 1
    session = ebooklet.open_session(URL)
    session.close()
    with pytest.raises(ValueError, match="the session of 'data/stations' is closed: open another"):
        session.get_uuid()


@pytest.mark.parametrize(
    ("db_key", "why"),
    [
        ("a//b", "empty, '.' or '..'"),
        ("../a", "empty, '.' or '..'"),
        ("a.lock", "contain '.lock'"),
        ("a.D/b", "end in '.d'"),
        ("k" * 201, "too long"),
        ("\ud800", "UTF-8"),
    ],
)
def test_a_key_that_no_database_can_have(db_key: str, why: str) -> None:
    """It is one of our errors and a `ValueError`, with the key, the rule and the remedy."""
    connection = ebooklet.S3Connection("id", "secret", db_key, "bucket")
    for use in (ebooklet.open, ebooklet.open_session):
        with pytest.raises(InvalidKeyError, match=f"{why}.*; choose another db_key") as caught:
            use(connection)
        assert isinstance(caught.value, ValueError)
        assert caught.value.key == (db_key if len(db_key) < 80 else db_key[:80] + "…")


def test_keys_that_do_not_fit_name_the_database(db: Database, tmp_path: Path) -> None:
    """No key, a wrong one, one too many, and none that is the current one: of which database."""
    db.close()
    keys = KeyFile.generate(tmp_path / "keys.json")
    wrong = KeyFile.generate(tmp_path / "wrong.json", keys.current)
    sealed = "memory://refusals/sealed"
    with ebooklet.open(sealed, flag="c", value_serializer="json", encryption=keys) as made:
        made["a"] = 1
        made.push()
    nowhere = "memory://refusals/nowhere"
    for url, given, remedy in (
        (sealed, None, "pass encryption="),
        (sealed, wrong, "give the right one"),
        (sealed, Encryption({}), "add it"),
        (URL, keys, "leave encryption out"),
    ):
        with pytest.raises(EncryptionError, match=remedy) as caught:
            ebooklet.open(url, encryption=given)
        assert url.endswith(f"/{caught.value.key}")
    with pytest.raises(EncryptionError, match=r"pass encryption=Encryption\(keys, cur") as caught:
        ebooklet.open(nowhere, flag="c", encryption=keys.key)
    assert caught.value.key == "nowhere"
    with ebooklet.open(URL, flag="w") as plain, pytest.raises(EncryptionError) as caught:
        plain.rotate_keys()
    assert caught.value.key == "data/stations"
