"""Encrypted databases: nothing in the bucket says what they hold, and only the key opens them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet import Encryption, EncryptionError, KeyFile, RemoteIntegrityError, RemoteRewound
from ebooklet.core.head import Head, decode_head, encode_head
from ebooklet.testing.servers import S3Server, start_http_server
from tests.contract.conftest import Place
from tests.contract.metered import Cost, Metered

KEYS = {"a": bytes(range(32)), "b": bytes(range(1, 33))}
BY_A = Encryption(KEYS, current="a")
BY_B = Encryption(KEYS, current="b")
WRONG = Encryption({"a": b"w" * 32}, current="a")
CONTENT = {"inline-key": "inline-value", "placed-key": "placed-value " * 20}
SECRETS = [
    *(b"inline-key", b"placed-key", b"inline-value", b"placed-value", b"meta-value"),
    *(b"message-words", *KEYS.values()),
]

memory = pytest.mark.parametrize("place", ["memory"], indirect=True)


def fill(place: Place, db_key: str = "db", **options: Any) -> None:
    """Commit `CONTENT`, metadata and a message."""
    with place.open(db_key, None, **options) as db:
        db.update(CONTENT)
        db.set_metadata({"about": "meta-value"})
        assert db.push("message-words")


def found(bodies: dict[str, bytes], needles: list[bytes] = SECRETS) -> list[bytes]:
    """Those of the needles that any of the objects shows."""
    return [needle for needle in needles if any(needle in body for body in bodies.values())]


def put(place: Place, key: str, body: bytes) -> None:
    """Overwrite an object, as who owns the bucket can."""
    store, _ = place.store()
    store.put(key, body)
    store.close()


def head_of(place: Place) -> Head:
    return decode_head(place.objects()["db"], key="db")


# A life


@pytest.mark.parametrize("place", ["memory", "file", "seaweedfs"], indirect=True)
def test_a_whole_life(place: Place) -> None:
    """All that a plain database does, and nothing of it to be seen in any object."""
    keys = KeyFile.generate(place.folder / "keys.json")
    large = "large-value" * 300_000
    with place.open("db", "a", encryption=keys, lock="optimistic") as db:
        db.update(CONTENT)
        db["large-key"] = large
        db.update({f"many-{n:04}": n for n in range(2000)})
        db.set_metadata({"about": "meta-value" * 10_000})
        assert db.push("message-words")
        with place.open("db", "b", "w", encryption=keys, lock="optimistic") as other:
            assert other["large-key"] == large
            other["placed-key"] = "theirs " * 20
            other["from-other"] = [1] * 100
            assert other.push()
        db["ours"] = "ours"
        del db["many-0000"]
        assert db.push()  # met the other's commit
        assert db["placed-key"] == "theirs " * 20
        db["placed-key"] = "mine"
        with place.open("db", None, "w", encryption=keys, lock="optimistic") as other:
            other["placed-key"] = "yours"
            assert other.push()
        with pytest.raises(ebooklet.ConflictError, match="changed both"):
            db.push()
        assert db.push(conflict="ours")
    with place.open("db", "c", "r", encryption=keys) as db:
        assert len(db) == 2000 + 5 - 1
        assert db["placed-key"] == "mine"
        assert db["from-other"] == [1] * 100
        assert db["large-key"] == large
        assert db.get_metadata() == {"about": "meta-value" * 10_000}
        assert dict(db.items()) == {k: db[k] for k in db}
        report = db.fsck(check_objects=True)
        assert report.ok
        assert not report.orphans
    needles = [*SECRETS, b"large-value", b"from-other", b"many-", b"ours"]
    assert found(place.objects(), [*needles, keys.key(keys.current)]) == []
    for cache in place.folder.glob("*.ebk/*node*"):
        assert found({"cache": cache.read_bytes()}) == []
    with place.open("db", None, "n", encryption=keys) as db:
        db["new"] = 1
        assert db.push()
        db.delete_remote()
        assert db.push()
        assert head_of(place).encrypted
    with place.open("db", None, "r", encryption=keys) as db:
        assert dict(db.items()) == {"new": 1}


@memory
def test_a_plain_database_shows_what_an_encrypted_one_hides(place: Place) -> None:
    """What the other tests look for would be found."""
    fill(place)
    shown = {b"inline-key", b"placed-value", b"meta-value", b"message-words"}
    assert shown <= set(found(place.objects()))


@memory
def test_a_function_opens_what_a_named_key_made(place: Place) -> None:
    """It is asked for the ids that the database names; to create one needs a current id."""
    asked: list[str] = []

    def keys(key_id: str) -> bytes:
        asked.append(key_id)
        return KEYS[key_id]

    with pytest.raises(EncryptionError, match="current"):
        place.open(encryption=keys)
    fill(place, encryption=Encryption(keys, current="b"))
    asked.clear()
    with place.open("db", None, "w", encryption=keys) as db:
        assert db["inline-key"] == "inline-value"
        db["more"] = 1
        assert db.push()
    assert asked == ["b"]


@memory
def test_a_group_hides_its_members(place: Place) -> None:
    """Entries are values like others; an encrypted member's metadata are in no entry."""
    connection = ebooklet.S3Connection(db_url="https://example.com/bucket-secret/db")
    with place.open("group", None, remote_conn_group=True, encryption=BY_A) as group:
        assert isinstance(group, ebooklet.RemoteConnGroup)
        group._copy.local.set("member", b'{"remote_conn": "bucket-secret"}', 1)
        group._copy.pending.touched["member"] = None
        assert group.push()
    assert connection.db_url
    assert found(place.objects("group"), [b"bucket-secret", b"member"]) == []
    with place.open("group", None, "r", encryption=BY_A) as group:
        assert group["member"] == {"remote_conn": "bucket-secret"}


@pytest.mark.parametrize("place", ["seaweedfs"], indirect=True)
def test_an_encrypted_member_of_a_group(place: Place) -> None:
    """It can be added without its key; the entry says that it needs one."""
    fill(place, encryption=BY_A)
    connection = place.connect("db")
    assert isinstance(connection, ebooklet.S3Connection)
    with place.open("group", None, remote_conn_group=True) as group:
        assert isinstance(group, ebooklet.RemoteConnGroup)
        entry = group[group.add(connection)]
        assert entry["encrypted"] is True
        assert entry["remote_meta"] is None
        assert group.push()
    assert found(place.objects("group")) == []


# Keys


@memory
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "no key was given"),
        (WRONG, "not the one"),
        (Encryption({"c": KEYS["a"]}), "none of that id"),
        (Encryption(lambda _: b"short"), "is no key"),
        (Encryption(lambda _: None), "is no key"),  # type: ignore[arg-type,return-value]
    ],
    ids=["none", "wrong", "another id", "short", "nothing"],
)
@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_without_the_right_key_nothing_is_touched(
    place: Place, given: Encryption | None, says: str, flag: Any
) -> None:
    """A clear error, which names the key that is needed, and no file, lock or object."""
    fill(place, encryption=BY_A)
    before = place.objects()
    with pytest.raises(EncryptionError, match=says) as caught:
        place.open("db", "a", flag, encryption=given)
    assert caught.value.key_id == "a"
    assert "'a'" in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert not isinstance(caught.value, LookupError)
    assert place.objects() == before
    assert list(place.folder.glob("a.blt*")) == []


@memory
@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_a_plain_database_is_not_opened_as_an_encrypted_one(place: Place, flag: Any) -> None:
    """It would stay plain, and its owner would think otherwise."""
    fill(place)
    before = place.objects()
    with pytest.raises(EncryptionError, match="not encrypted"):
        place.open("db", "a", flag, encryption=BY_A)
    assert place.objects() == before
    assert list(place.folder.glob("a.blt*")) == []


@memory
def test_what_was_to_be_encrypted_is_never_pushed_in_the_clear(place: Place) -> None:
    """A local file whose first push is still to come remembers, until it is made anew."""
    with place.open("db", "a", encryption=BY_A) as db:
        db.update(CONTENT)
    with pytest.raises(EncryptionError, match="not pushed yet"):
        place.open("db", "a", "w")
    assert "db" not in place.objects()
    with place.open("db", "a", "w", encryption=BY_A) as db:
        assert db.push()
    assert found(place.objects()) == []
    with place.open("other", "a2", encryption=BY_A):
        pass
    with place.open("other", "a2", "n") as db:
        db["plain"] = 1
        assert db.push()


@memory
def test_a_deleted_database_is_created_anew_encrypted(place: Place) -> None:
    """Whoever goes on from one that was encrypted needs the key, and seals again."""
    fill(place, encryption=BY_A)
    with place.open("db", "a", "w", encryption=BY_A) as db:
        db.load_items()
    with ebooklet.open_session(place.connect("db"), "w") as session:
        session.delete_remote()
    with pytest.raises(EncryptionError):
        place.open("db", "a", "w")
    with pytest.warns(UserWarning, match="is gone"):
        db = place.open("db", "a", "w", encryption=BY_A)
    with db:
        assert db.push()
    assert found(place.objects()) == []
    with place.open("db", None, "r", encryption=BY_A) as db:
        assert dict(db.items()) == CONTENT


@memory
def test_a_new_key_is_used_at_once(place: Place) -> None:
    """New blocks lie under it, older ones stay readable as long as the old key is given."""
    keys = KeyFile.generate(place.folder / "keys.json", "old")
    fill(place, encryption=keys)
    alone = Encryption({"old": keys.key("old")})
    keys.add("new")
    with place.open("db", "a", "w", encryption=keys) as db:
        db["more"] = "m" * 100
        assert db.push()
    head = head_of(place)
    assert head.encryption is not None
    assert head.encryption.key_id == "new"
    assert [key_id for key_id, _ in head.encryption.checks] == ["new", "old"]
    assert head.tip.key_ids == ("new", "old")
    with place.open("db", None, "r", encryption=keys) as db:
        assert dict(db.items()) == {**CONTENT, "more": "m" * 100}
    for given, needed in ((alone, "new"), (Encryption({"new": keys.key("new")}), "old")):
        with pytest.raises(EncryptionError, match=f"'{needed}'") as caught:
            place.open("db", None, "r", encryption=given)
        assert caught.value.key_id == needed


@memory
def test_a_reader_follows_to_a_new_key(place: Place) -> None:
    """A handle that is open while a writer changes the key reads on, or says which key it lacks."""
    fill(place, encryption=BY_A)
    with (
        place.open("db", None, "r", encryption=BY_A) as follows,
        place.open("db", None, "r", encryption=Encryption({"a": KEYS["a"]})) as lacks,
    ):
        with place.open("db", None, "w", encryption=BY_B) as db:
            db["placed-key"] = "other " * 30
            assert db.push()
        assert follows.pull()
        assert follows["placed-key"] == "other " * 30
        with pytest.raises(EncryptionError, match="'b'"):
            lacks.pull()
        assert lacks["inline-key"] == "inline-value"  # stands on what it had


@memory
def test_a_reader_beside_one_with_a_newer_key(place: Place) -> None:
    """What the other has put into the shared local file is not served over an older snapshot."""
    fill(place, encryption=BY_A)
    only_a = Encryption({"a": KEYS["a"]})
    with place.open("db", "a", "r", encryption=only_a) as lacks:
        assert lacks["placed-key"] == CONTENT["placed-key"]
        with place.open("db", None, "w", encryption=BY_B) as db:
            db["placed-key"] = "other " * 30
            assert db.push()
        with place.open("db", "a", "r", encryption=BY_B) as follows:
            assert follows["placed-key"] == "other " * 30
        for _ in range(3):
            with pytest.raises(EncryptionError, match="'b'"):
                lacks["inline-key"]


@memory
def test_keys_are_shown_nowhere(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """In no local file, repr, log, pickle or error; a key file's pickle has its path."""
    keys = KeyFile.generate(place.folder / "keys.json")
    material = keys.key(keys.current)
    with caplog.at_level("DEBUG"), place.open("db", "a", encryption=keys) as db:
        db.update(CONTENT)
        assert db.push()
        shown = [repr(x) for x in (db, keys, db._copy.sealer, db._copy.keyring, BY_A)]
    for text in (*shown, *caplog.messages):
        assert material.hex() not in text
        assert repr(material) not in text
    files = [path for path in place.folder.rglob("*") if path.is_file() and path != keys.path]
    assert found({str(path): path.read_bytes() for path in files}, [material]) == []
    copy = pickle.loads(pickle.dumps(keys))
    assert copy.key(copy.current) == material
    assert material not in pickle.dumps(keys)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(BY_A)
    with pytest.raises(EncryptionError) as caught:
        place.open("db", None, "r", encryption=Encryption(lambda _: material + b"x"))
    assert repr(material)[2:12] not in "".join(map(str, caught.value.args))


@memory
@pytest.mark.parametrize("given", [b"k" * 32, "path", {"a": b"k" * 32}])
def test_what_is_no_source_of_keys(place: Place, given: Any) -> None:
    """A key by itself, a path or a plain dict do not say what is needed."""
    with pytest.raises(TypeError, match="KeyFile"):
        place.open(encryption=given)
    assert place.objects() == {}


# Who owns the bucket


@memory
def test_damage_anywhere_is_noticed(place: Place) -> None:
    """Any byte of any object changed: a typed error, or everything right as it was."""
    fill(place, encryption=BY_A)
    for key, body in place.objects().items():
        for at in range(0, len(body), 5):
            put(place, key, body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1 :])
            try:
                with place.open("db", None, "r", encryption=BY_A) as db:
                    assert dict(db.items()) == CONTENT
                    assert db.get_metadata() == {"about": "meta-value"}
            except ebooklet.Error:
                pass
        put(place, key, body)


def swap_values(place: Place) -> None:
    """Exchange two sealed values of one length; checksums of values are only read by fsck."""
    with place.open("db", None, "r", encryption=BY_A) as db:
        entries = db._copy.nodes.lookup(db._copy.view_root, ["value-1", "value-2"])
    one, two = (entries[key].place for key in ("value-1", "value-2"))
    assert one is not None
    assert two is not None
    key = next(key for key in place.objects() if key.startswith("db.d/"))
    body = bytearray(place.objects()[key])
    first, second = (slice(at.offset, at.offset + at.length) for at in (one, two))
    body[first], body[second] = body[second], body[first]
    put(place, key, bytes(body))


@memory
def test_two_values_cannot_be_exchanged(place: Place) -> None:
    """Each is bound to its key."""
    with place.open("db", None, encryption=BY_A) as db:
        db.update({"value-1": "1" * 100, "value-2": "2" * 100})
        assert db.push()
    swap_values(place)
    with place.open("db", None, "r", encryption=BY_A) as db:
        for key in ("value-1", "value-2"):
            with pytest.raises(RemoteIntegrityError):
                db[key]
    assert not ebooklet.fsck(place.connect("db"), check_objects=True, encryption=BY_A).ok


def with_older_root(new: Head, old: Head) -> Head:
    """The record of the new commit with the tree of the old one."""
    tip = replace(new.tip, root=old.tip.root, count=old.tip.count, fingerprint=old.tip.fingerprint)
    return forged(new, tip=tip, tip_root=old.tip_root)


def without_content(new: Head, old: Head) -> Head:
    """An empty database."""
    return forged(new, tip=replace(new.tip, root=None, count=0), tip_root=None)


def with_words(new: Head, old: Head) -> Head:
    """A record whose words are not sealed."""
    return forged(new, tip=replace(new.tip, notes=None, message="forged"))


def with_pickle(new: Head, old: Head) -> Head:
    """A serializer that runs code."""
    return replace(new, value_serializer="pickle")


def with_other_cuts(new: Head, old: Head) -> Head:
    """Other parameters of the tree."""
    return replace(new, params=replace(new.params, salt=bytes(16)))


def forged(head: Head, **changes: Any) -> Head:
    from ebooklet.core.commit import commit_id, encode_commit

    head = replace(head, **changes)
    record = encode_commit(head.tip)
    ref = replace_id(head.branch.commit, commit_id(record))
    return replace(head, branches={"main": replace(head.branch, commit=ref)})


def replace_id(ref: Any, commit_id: bytes) -> Any:
    return ref._replace(id=commit_id)


@memory
@pytest.mark.parametrize(
    "forge", [with_older_root, without_content, with_words, with_pickle, with_other_cuts]
)
def test_a_head_cannot_be_forged(place: Place, forge: Callable[[Head, Head], Head]) -> None:
    """Checksums can be made by anybody; the seal over the commit record and the settings cannot."""
    fill(place, encryption=BY_A)
    old = head_of(place)
    with place.open("db", None, "w", encryption=BY_A) as db:
        db["later"] = "l" * 100
        assert db.push()
    put(place, "db", encode_head(forge(head_of(place), old)))
    with pytest.raises(RemoteIntegrityError, match="who has not the key"):
        place.open("db", None, "r", encryption=BY_A)


@memory
@pytest.mark.parametrize("disguise", ["higher seq", "same write"])
@pytest.mark.parametrize("flag", ["r", "w"])
def test_an_older_commit_is_noticed_by_who_knows_a_newer_one(
    place: Place, disguise: str, flag: Any
) -> None:
    """Whatever numbers a head is given around it: those of the commit are sealed."""
    fill(place, encryption=BY_A)
    old = head_of(place)
    with place.open("db", "a", "w", encryption=BY_A) as db:
        db["later"] = "l" * 100
        assert db.push()
    new = head_of(place)
    dressed = replace(old, write_id=new.write_id) if disguise == "same write" else old
    put(place, "db", encode_head(replace(dressed, seq=new.seq + 1)))
    with pytest.raises(RemoteRewound, match="commit 1, but this copy has already seen 2"):
        place.open("db", "a", flag, encryption=BY_A)


@memory
def test_a_head_that_turned_plain_is_refused(place: Place) -> None:
    """Who gives a key is never served what anybody could have written."""
    fill(place, encryption=BY_A)
    fill(place, "plain")
    put(place, "db", replace_plain(place))
    with pytest.raises(EncryptionError, match="not encrypted"):
        place.open("db", None, "r", encryption=BY_A)


def replace_plain(place: Place) -> bytes:
    store, _ = place.store("plain")
    plain = decode_head(store.get("plain").body, key="plain")
    store.close()
    return encode_head(replace(plain, name="db"))


@memory
def test_guesses_cannot_be_tried_out(place: Place) -> None:
    """Equal content has other digests, fingerprints and trees in each encrypted database."""
    fill(place, encryption=BY_A)
    first = head_of(place)
    with ebooklet.open_session(place.connect("db"), "w") as session:
        session.delete_remote()
    fill(place, encryption=BY_A)
    second = head_of(place)
    assert first.tip.root is not None
    assert second.tip.root is not None
    assert first.tip.root.digest != second.tip.root.digest
    assert first.tip.fingerprint != second.tip.fingerprint
    assert first.params.salt != second.params.salt


# Whole databases, without a key


@memory
def test_a_copy_needs_no_key_and_opens_with_the_same(place: Place) -> None:
    """Copied as it lies there, history included."""
    fill(place, encryption=BY_A)
    with ebooklet.open_session(place.connect("db"), "w") as session:
        session.copy_remote(place.connect("copy"))
        with pytest.raises(EncryptionError, match="'a'"):
            session.get_user_metadata()
    assert found(place.objects("copy")) == []
    with pytest.raises(EncryptionError):
        place.open("copy", None, "r")
    with place.open("copy", None, "w", encryption=BY_A) as db:
        assert dict(db.items()) == CONTENT
        db["more"] = 1
        assert db.push()
    with ebooklet.open_session(place.connect("copy"), encryption=BY_A) as session:
        assert session.get_user_metadata() == {"about": "meta-value"}


@memory
def test_fsck_says_what_it_could_not_check(place: Place) -> None:
    """Without the key it finds what is missing or damaged, but sweeps nothing."""
    fill(place, encryption=BY_A)
    connection = place.connect("db")
    whole = ebooklet.fsck(connection, check_objects=True, encryption=BY_A)
    assert (whole.ok, whole.not_checked) == (True, ())
    locked = ebooklet.fsck(connection, check_objects=True)
    assert locked.ok
    assert len(locked.not_checked) == 2
    assert "encrypted" in ebooklet.fsck(connection, delete_orphans=True).not_swept
    assert ebooklet.fsck(connection, delete_orphans=True, encryption=BY_A).not_swept == ""
    with pytest.raises(EncryptionError, match="not the one"):
        ebooklet.fsck(connection, encryption=WRONG)
    key = next(key for key in place.objects() if key.startswith("db.d/"))
    body = bytearray(place.objects()[key])
    body[100] ^= 1
    put(place, key, bytes(body))
    assert key in ebooklet.fsck(connection, check_objects=True).damaged


@memory
def test_offline(place: Place) -> None:
    """A local half without its remote opens with the key, and not without."""
    fill(place, encryption=BY_A)
    with place.open("db", "a", "r", encryption=BY_A) as db:
        assert db["inline-key"] == "inline-value"
    with pytest.raises(EncryptionError, match="'a'"):
        place.open("db", "a", "r", offline=True)
    with place.open("db", "a", "r", offline=True, encryption=BY_A) as db:
        assert db["inline-key"] == "inline-value"


@memory
def test_long_histories(place: Place) -> None:
    """Older rows of the history are found with the key and without."""
    with place.open("db", None, encryption=BY_A) as db:
        for n in range(70):
            db["n"] = n
            assert db.push()
    assert head_of(place).log is not None
    assert ebooklet.fsck(place.connect("db"), check_objects=True).n_commits == 70
    assert ebooklet.fsck(place.connect("db"), check_objects=True, encryption=BY_A).ok


# What it costs


@memory
def test_a_small_push_costs_little_more(place: Place) -> None:
    """33 bytes a block: 3 per cent of values of a kilobyte."""
    sent: list[int] = []
    content = {f"key{n:06}": f"{n:06}" * 170 for n in range(10_000)}
    for name, encryption in (("plain", None), ("sealed", BY_A)):
        with place.open(name, None, encryption=encryption) as db:
            db.update(content)
            first = db.push().bytes_up
            db.update({f"key{n * 997:06}": "x" * 1000 for n in range(10)})
            sent += [first, db.push().bytes_up]
            entries = db._copy.nodes.lookup(db._copy.view_root, ["key000000"])
            place_of = entries["key000000"].place
            blocks = place_of.length - entries["key000000"].length if place_of else 0
    plain_first, plain_next, sealed_first, sealed_next = sent
    assert sealed_first < plain_first * 1.035
    assert sealed_next < plain_next * 1.4  # of other nodes, as keys are cut by another salt
    assert blocks == 33


@pytest.mark.xdist_group("metered")
def test_it_takes_the_requests_of_a_plain_database(metered: Metered) -> None:
    """Counted on a server: creating, pushing ten keys, and reading one of them cold."""
    content = {f"key{n:06}": f"{n:06}" * 30 for n in range(2000)}
    costs: dict[str, list[Cost]] = {"plain": [], "sealed": []}
    for name, encryption in (("plain", None), ("sealed", BY_A)):
        with metered.open(name, encryption=encryption) as db:
            db.update(content)
            with metered.cost() as first:
                assert db.push()
            db.update({f"key{n * 199:06}": "x" * 180 for n in range(10)})
            with metered.cost() as later:
                assert db.push()
        with metered.cost() as cold, metered.open(name, flag="r", encryption=encryption) as db:
            assert db["key000199"] == "x" * 180
        costs[name] = [first, later, cold]
    for plain, sealed in zip(costs["plain"], costs["sealed"], strict=True):
        assert sealed.kinds == plain.kinds
    plain_first, sealed_first = costs["plain"][0], costs["sealed"][0]
    assert 0 < sealed_first.up - plain_first.up < 2000 * 33 + 10_000


def test_values_come_from_a_mirror(moto: S3Server, tmp_path: Path) -> None:
    """A static server shows what lies in the bucket, and who has the key reads it there."""
    bucket = moto.new_bucket()
    with ebooklet.open(
        moto.connection(bucket, "db"), None, "c", value_serializer="json", encryption=BY_A
    ) as db:
        db.update(CONTENT)
        assert db.push()
    client = moto.client()
    for listed in client.list_objects_v2(Bucket=bucket)["Contents"]:
        path = tmp_path / "static" / listed["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read())
    with start_http_server(tmp_path / "static", tmp_path / "log") as url:
        with ebooklet.open(f"{url}/db", tmp_path / "reader.blt", encryption=BY_A) as db:
            assert dict(db.items()) == CONTENT
        mirrored = moto.connection(bucket, "db", db_url=f"{url}/db")
        with ebooklet.open(mirrored, None, "w", encryption=BY_A) as db:
            assert dict(db.items()) == CONTENT
            db["more"] = 1
            assert db.push()
        with pytest.raises(EncryptionError, match="'a'"):
            ebooklet.open(f"{url}/db")
