"""What a handle refuses is said with the name of what was asked, and with what to do."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet import (
    Encryption,
    EncryptionError,
    InvalidKeyError,
    InvalidURLError,
    KeyFile,
    ReadOnlyError,
    SerializationError,
    UnsupportedOperation,
)

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


def test_a_version_says_how_to_write_what_it_held(db: Database) -> None:
    """Reopening it is no way: it stays what it is."""
    told = r"cannot set: .*'data/stations' was opened at a version, .* revert\(\) .* branch\(\)"
    with db, ebooklet.open(URL, version=1) as then, pytest.raises(ReadOnlyError, match=told):
        then["a"] = 2


def test_what_goes_to_other_processes(db: Database) -> None:
    """An open database does not; the error names what does."""
    with db:
        for send in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"fork\(\) gives a writer"):
                send(db)


@pytest.mark.parametrize("name", ["bytes", "str", "json", "orjson", "cbor", "msgpack"])
def test_what_stands_for_no_value_is_none(name: str) -> None:
    """It is refused by name, wherever it stands; orjson stores members of an Enum unasked."""
    told = "ebooklet.ABSENT is no value, and can be no part of one"
    with ebooklet.open(None, flag="c", value_serializer=name) as made:
        for value in (ebooklet.ABSENT, [{"a": (1, ebooklet.ABSENT)}]):
            with pytest.raises(SerializationError, match=told):
                made["k"] = value
        assert "k" not in made
    assert f"{ebooklet.ABSENT} {ebooklet.UNKNOWN!r}" == "ebooklet.ABSENT ebooklet.UNKNOWN"


def test_what_cannot_be_merged(db: Database) -> None:
    """Neither a branch nor a result: which one is meant is asked before anything is done."""
    with db:
        for wrong in (2, None, ["a"]):
            with pytest.raises(TypeError, match=r"takes the name of a branch, or results of"):
                db.merge(wrong)  # type: ignore[call-overload]


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
        (URL, keys, "leave encryption= out"),
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


FULL = {"access_key_id": "id", "access_key": "s3cr3t", "db_key": "k", "bucket": "b"}
opening = partial(ebooklet.open, URL)


def connection(**given: Any) -> ebooklet.S3Connection:
    """A whole connection, but for what is given."""
    return ebooklet.S3Connection(**{**FULL, **given})


@pytest.mark.parametrize(
    ("function", "name", "given", "says"),
    [
        *((connection, name, "8", "whole number, not str") for name in ("threads", "retries")),
        *((connection, name, 2.5, "whole number, not float") for name in ("threads", "retries")),
        (connection, "threads", True, "whole number, not bool"),
        (connection, "read_timeout", "60", "number, not str"),
        *((connection, name, b"s3cr3t", "string, not bytes") for name in (*FULL, "region")),
        (opening, "lock_timeout", "5", "number of seconds, not str"),
        (opening, "lock_timeout", None, "number of seconds, not NoneType"),
        (opening, "n_buckets", "5", "whole number, not str"),
        *((opening, name, "no", "must be True") for name in ("force_lock", "allow_pickle")),
        (opening, "plugins", Encryption({}), r"plugins=\[Audit\(\)\], not Encryption"),
        (opening, "encryption", "s3cr3t", r"not str; .* KeyFile\(path\)"),
        (opening, "encryption", b"s3cr3t", r"not bytes; .* Encryption\(\{id: key\}"),
        (partial(ebooklet.open_session, URL, "w"), "lock_timeout", "5", "number of seconds"),
        (partial(ebooklet.migrate, URL, URL), "lock_timeout", "5", "number of seconds"),
        *(
            (partial(ebooklet.fsck, URL), name, "5", "number of seconds")
            for name in ("lock_timeout", "min_age")
        ),
    ],
)
def test_arguments_of_another_type(
    function: Callable[..., object], name: str, given: object, says: str
) -> None:
    """A `TypeError` that names the argument, and repeats nothing that may be a secret."""
    with pytest.raises(TypeError, match=f"^{name} .*{says}") as caught:
        function(**{name: given})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "s3://b/k?regoin=s3cr3t",
            r"s3://b/k: .*\['regoin'\]; known: endpoint_url, region, unsigned",
        ),
        ("s3://b/k?region=a&region=b", "region is given more than once"),
        ("minio://h/b/k?regoin=s3cr3t", "known: region, secure, unsigned"),
        ("memory://m/k?region=s3cr3t", r"\['region'\]; known: none, as memory:// .* written %3F"),
        ("file:///tmp/k?region=s3cr3t", r"\['region'\]; known: none, as file:// .* written %3F"),
        ("https://127.0.0.1/k?region=s3cr3t", "must end with the path"),
    ],
)
def test_options_that_a_url_does_not_have(url: str, says: str) -> None:
    """Which there are is said, and no option is left out without a word."""
    with pytest.raises(InvalidURLError, match=says) as caught:
        ebooklet.open(url)
    assert "s3cr3t" not in str(caught.value)


def test_keys_without_the_package_that_encrypts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key file can be made anywhere; the open that needs the package says how to get it."""
    for module in ("cryptography", "ebooklet.adapters.encryption.aesgcm"):
        monkeypatch.setitem(sys.modules, module, None)
    keys = KeyFile.generate(tmp_path / "keys.json")
    with pytest.raises(UnsupportedOperation, match=r"pip install 'ebooklet\[crypto\]'"):
        ebooklet.open("memory://refusals/no-package", flag="c", encryption=keys)
