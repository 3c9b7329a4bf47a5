"""Programs written for earlier versions run unchanged, on every server (CONTRACT §14).

Each test is one program as its author would have written it, calls by position where the README
had them so, followed by what must hold.
"""

from __future__ import annotations

from pathlib import Path

import booklet
import pytest

import ebooklet
from ebooklet.testing.servers import S3Server

VALUE = ["value 1", 2, {"three": (4, None)}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The local file."""
    return tmp_path / "file.blt"


@pytest.fixture
def db_url(public_url: str) -> str:
    """Where everybody can read the database."""
    return f"{public_url}/data/old"


@pytest.fixture
def conn(s3_server: S3Server, bucket: str, db_url: str) -> ebooklet.S3Connection:
    """Program 1, its first half: a connection with the first four parameters by position."""
    return ebooklet.S3Connection(
        s3_server.access_key_id,
        s3_server.access_key,
        "data/old",
        bucket,
        endpoint_url=s3_server.endpoint_url,
        db_url=db_url,
    )


def test_1_create(conn: ebooklet.S3Connection, path: Path, bucket: str) -> None:
    """Program 1: flag c with a serializer makes an empty database, and nothing remote before a push."""
    db = ebooklet.open(conn, path, flag="c", value_serializer="pickle")
    assert isinstance(db, ebooklet.EVariableLengthValue)
    assert not isinstance(db, ebooklet.RemoteConnGroup)
    assert (len(db), db.writable) == (0, True)
    db.close()
    with pytest.raises(ebooklet.RemoteMissingError):
        ebooklet.open(conn, path.with_name("elsewhere.blt"))
    assert not path.with_name("elsewhere.blt").exists()


def test_2_read_by_url(conn: ebooklet.S3Connection, path: Path, db_url: str) -> None:
    """Program 2: a plain URL is enough to read."""
    with ebooklet.open(conn, path, flag="c", value_serializer="json") as db:
        db["key1"] = ["value 1", 2]
        db["a/ü b?#%20"] = "x" * 5000
        db.set_metadata({"about": "everybody may read"})
        assert db.changes().push()
    db = ebooklet.open(db_url, path.with_name("public.blt"), flag="r")
    assert dict(db.items()) == {"key1": ["value 1", 2], "a/ü b?#%20": "x" * 5000}
    assert db.get_metadata() == {"about": "everybody may read"}
    assert not db.writable
    db.close()


def test_2_read_pickles_by_url(conn: ebooklet.S3Connection, path: Path, db_url: str) -> None:
    """Program 2, the one deviation: pickles of an anonymous remote are read by those who say so."""
    with ebooklet.open(conn, path, flag="c", value_serializer="pickle") as db:
        db["key1"] = VALUE
        assert db.changes().push()
    with pytest.raises(ebooklet.SerializationError, match="allow_pickle"):
        ebooklet.open(db_url, path.with_name("public.blt"), flag="r")
    with ebooklet.open(db_url, path.with_name("public.blt"), flag="r", allow_pickle=True) as db:
        assert db["key1"] == VALUE


def test_3_read_back_without_pushing(conn: ebooklet.S3Connection, path: Path) -> None:
    """Program 3: what was written is there after close, the serializer unnamed, nothing pushed."""
    db = ebooklet.open(conn, path, flag="c", value_serializer="pickle")
    db["key1"] = VALUE
    assert db["key1"] == VALUE
    db.close()
    with ebooklet.open(conn, path) as db:
        assert db["key1"] == VALUE
        assert not db.writable


def test_4_changes_and_push(
    conn: ebooklet.S3Connection, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Program 4: a later session prints what is pending and pushes it."""
    with ebooklet.open(conn, path, flag="c", value_serializer="pickle") as db:
        db["key1"] = VALUE
    with ebooklet.open(conn, path, "w") as db:
        ch = db.changes()
        [print(c) for c in ch.iter_changes()]
        assert ch.push()
        assert not ch.push()
    assert "'key1'" in capsys.readouterr().out
    with ebooklet.open(conn, path.with_name("elsewhere.blt")) as db:
        assert dict(db.items()) == {"key1": VALUE}


def test_5_group(
    conn: ebooklet.S3Connection,
    s3_server: S3Server,
    bucket: str,
    path: Path,
    public_url: str,
) -> None:
    """Programs 5 and 7: a group keeps connections, and its URL opens as a group."""
    with ebooklet.open(conn, path, flag="c", value_serializer="json") as db:
        db["key1"] = 1
        db.set_metadata({"about": "a member"})
        assert db.changes().push()
        member = db.uuid
    conn_g = ebooklet.S3Connection(
        s3_server.access_key_id,
        s3_server.access_key,
        "data/group",
        bucket,
        endpoint_url=s3_server.endpoint_url,
        db_url=f"{public_url}/data/group",
    )
    path_g = path.with_name("group.blt")
    with ebooklet.open(conn_g, path_g, "n", remote_conn_group=True) as g:
        g.add(conn)
        assert g.changes().push()

    with ebooklet.open(f"{public_url}/data/group", path.with_name("public.blt")) as g:
        assert isinstance(g, ebooklet.RemoteConnGroup)
        assert list(g) == [member.hex]
        entry = g[member.hex]
    assert entry["remote_conn"] == conn.to_dict()
    assert entry["remote_meta"] == {"about": "a member"}
    assert s3_server.access_key not in str(entry)
    with ebooklet.open(entry, path.with_name("member.blt")) as db:
        assert dict(db) == {"key1": 1}


def test_6_plain_booklet_in_between(conn: ebooklet.S3Connection, path: Path) -> None:
    """Program 6: keys set, changed and deleted with plain Booklet are found and pushed."""
    with ebooklet.open(conn, path, flag="c", value_serializer="pickle") as db:
        db.update({f"key{n}": n for n in range(20)})
        assert db.changes().push()
    with booklet.open(path, "w") as file:
        file["new"] = VALUE
        file["key3"] = "changed"
        del file["key7"]
    with ebooklet.open(conn, path, "w") as db:
        kinds = {c["key"]: c["kind"] for c in db.changes().iter_changes()}
        assert kinds == {"new": "added", "key3": "modified", "key7": "deleted"}
        assert db.changes().push()
    expected = {f"key{n}": n for n in range(20)} | {"new": VALUE, "key3": "changed"}
    del expected["key7"]
    with ebooklet.open(conn, path.with_name("elsewhere.blt")) as db:
        assert dict(db) == expected


def test_6_a_file_made_by_booklet(conn: ebooklet.S3Connection, path: Path) -> None:
    """Program 6, begun with plain Booklet: a file that it made becomes a remote database."""
    with booklet.open(path, "n", key_serializer="str", value_serializer="pickle") as file:
        file["key1"] = VALUE
    with ebooklet.open(conn, path, "w") as db:
        assert [c["key"] for c in db.changes().iter_changes()] == ["key1"]
        assert db.changes().push()
    with ebooklet.open(conn, path.with_name("elsewhere.blt")) as db:
        assert db["key1"] == VALUE


def test_8_copy_and_delete(
    conn: ebooklet.S3Connection, s3_server: S3Server, bucket: str, path: Path
) -> None:
    """Program 8: a session copies the remote whole, deletes it, and tells its uuid."""
    with ebooklet.open(conn, path, flag="c", value_serializer="pickle") as db:
        db["key1"] = VALUE
        assert db.changes().push()
        uuid = db.uuid
        db["pending"] = 1
    conn2 = ebooklet.S3Connection(
        s3_server.access_key_id,
        s3_server.access_key,
        "data/copy",
        bucket,
        endpoint_url=s3_server.endpoint_url,
    )
    with conn2.open() as s:
        assert s.uuid is None
    with conn.open("w") as s:
        assert s.copy_remote(conn2) is None
    with conn.open("w") as s:
        s.delete_remote()
    with conn.open() as s:
        assert s.uuid is None
    with conn2.open() as s:
        assert s.uuid == uuid
    with ebooklet.open(conn2, path.with_name("copy.blt")) as db:
        assert dict(db.items()) == {"key1": VALUE}
    with pytest.raises(ebooklet.RemoteMissingError):
        ebooklet.open(conn, path.with_name("elsewhere.blt"))


def test_9_older_spellings(conn: ebooklet.S3Connection, path: Path) -> None:
    """Program 9: parameters and methods of the first version are still there."""
    db = ebooklet.open(conn, path, flag="c", value_serializer="pickle")
    db["key1"] = VALUE
    assert db.prune(reindex=True) == 0
    db.changes().update()
    assert db.changes().push(True)
    db.reopen("r")
    with pytest.raises(ebooklet.ReadOnlyError):
        db["key2"] = 2
    db.reopen("w")
    db["key2"] = 2
    db.sync(force_shutdown=True)
    db.close(force_shutdown=True)
    with ebooklet.open(conn, path) as db:
        assert (db["key1"], db["key2"]) == (VALUE, 2)
        assert [change["key"] for change in db.changes().iter_changes()] == ["key2"]
