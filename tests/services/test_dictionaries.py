"""Dictionaries of values: trained by a push, kept with the database, and never missed by a reader."""

from __future__ import annotations

import json
import logging
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

import ebooklet
from ebooklet import Encryption
from ebooklet.bootstrap import open as open_database
from ebooklet.core.head import decode_head, encode_head
from ebooklet.core.headfields import MAX_DICTIONARIES
from ebooklet.core.names import segment_key
from ebooklet.database import EBooklet
from ebooklet.errors import OfflineError, RemoteIntegrityError, SerializationError
from ebooklet.services.dictionaries import learn
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.services.conftest import Opener, store_of

pytestmark = pytest.mark.usefixtures("lean_processes")

NAME = "json+zstd:dict"
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon")


def row(n: int, kind: str = "sample") -> dict[str, Any]:
    """One of many small values that look alike."""
    return {"id": n, "kind": kind, "word": WORDS[n % 5], "where": [n / 7, n / 11], "ok": n % 3 == 0}


def rows(count: int, kind: str = "sample", start: int = 0) -> dict[str, Any]:
    return {f"k{n:06}": row(n, kind) for n in range(start, start + count)}


def head_of(url: str) -> Any:
    return decode_head(store_of(url).get("db").body, key="db")


def dictionary_of(db: EBooklet[Any], key: str) -> int:
    """The dictionary that a stored value was compressed with; 0 for none."""
    value = db._copy.local.get(key)
    assert value is not None
    return zstandard.get_frame_parameters(value).dict_id


@pytest.fixture
def pushed(opener: Opener) -> dict[str, Any]:
    """What the test's database holds: enough values to learn from, pushed with a dictionary."""
    with opener("a", value_serializer=NAME) as db:
        db.update(rows(600))
        assert db.push()
    return rows(600)


def test_the_first_push_trains_one(opener: Opener, url: str) -> None:
    """Values take far less than without, and the same bytes lie here and there."""
    with opener("plain", value_serializer="json+zstd") as db:
        db.update(rows(600))
        without = sum(len(db._copy.local.get(key) or b"") for key in db)
    with opener("a", value_serializer=NAME) as db:
        db.update(rows(600))
        stamps = dict(db.timestamps())
        assert dictionary_of(db, "k000007") == 0
        assert db.push()
        (listed,) = head_of(url).dictionaries
        assert dictionary_of(db, "k000007") == listed.id
        assert sum(len(db._copy.local.get(key) or b"") for key in db) < without / 2
        assert (dict(db), dict(db.timestamps())) == (rows(600), stamps)
        assert not list(db.changes())
        db["new"] = row(7)
        assert dictionary_of(db, "new") == listed.id
        assert db.push()
        assert not db.push()
    head = head_of(url)
    assert head.dictionaries == (listed,)
    assert head.required_bits & 1
    assert listed.block.sid in head.held()


def test_readers_need_nothing_else(pushed: dict[str, Any], opener: Opener) -> None:
    """A reader elsewhere, one that comes back offline, and one who was there before."""
    with opener("b", "r") as db:
        assert dict(db) == pushed
    with opener("b", "r", offline=True) as db:
        assert dict(db) == pushed
    with opener("c", "r") as db:
        assert not db.load_items()  # fetched, and not looked at
    with opener("c", "r", offline=True) as db:
        assert dict(db) == pushed
    with opener(None, "r") as db:
        assert db["k000005"] == row(5)


def test_a_reader_of_an_older_head_learns_of_it(opener: Opener) -> None:
    """A copy made before there was a dictionary reads what was written with it, once it pulls."""
    with opener("a", value_serializer=NAME) as db:
        db["one"] = row(1)
        assert db.push()
        assert not db._copy.dictionaries.all  # one value teaches nothing
    with opener("a", "w") as db, opener("b2", "w") as other:
        assert other["one"] == row(1)
        with opener("b", "r") as reader:
            assert reader["one"] == row(1)
            db.update(rows(600))
            assert db.push()
            assert reader.pull()
            assert dict(reader) == {**rows(600), "one": row(1)}
        other["two"] = row(2)  # before it has heard of any
        assert other.push()
        assert dictionary_of(other, "two") == 0
        other["three"] = row(3)
        assert other.push()
        assert dictionary_of(other, "three") == dictionary_of(db, "k000001") != 0
        assert dict(other) == {**rows(600), "one": row(1), "two": row(2), "three": row(3)}


def test_a_dictionary_that_does_not_pay_is_none(
    opener: Opener, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Values with nothing in common are stored as without, and the log says why."""
    caplog.set_level(logging.INFO, "ebooklet.push")
    with opener("a", value_serializer=NAME) as db:
        db.update(
            {str(n): hash((n, "x")).to_bytes(9, "big", signed=True).hex() for n in range(300)}
        )
        assert db.push()
        assert not head_of(url).dictionaries
        assert "no dictionary was trained" in caplog.text
        db.update(rows(600))
        assert db.push()  # and is tried again
        assert len(head_of(url).dictionaries) == 1
        assert "a dictionary of" in caplog.text


def test_other_databases_have_none(opener: Opener, url: str) -> None:
    """Without `dict` in its name a serializer gets none, and the head needs no new feature."""
    with opener("a", value_serializer="json+zstd:9") as db:
        db.update(rows(600))
        assert db.push()
        with pytest.raises(ValueError, match="without dictionaries"):
            db.train_dictionary()
    assert not head_of(url).dictionaries
    assert not head_of(url).required_bits


def test_older_ones_stay_readable(opener: Opener, url: str) -> None:
    """A new one, asked for or by a replacement, changes nothing that was written before."""
    with opener("a", value_serializer=NAME) as db:
        db.update(rows(600))
        assert db.push()
        db.train_dictionary()
        changed = rows(500, "quite another kind of value", 5000)
        db.update(changed)
        assert db.push()
        first, second = (each.id for each in head_of(url).dictionaries)
        assert (dictionary_of(db, "k000001"), dictionary_of(db, "k005001")) == (first, second)
        with opener("b", "r") as reader:
            assert dict(reader) == rows(600) | changed
        db.clear()
        third = rows(400, "and a third", 9000)
        db.update(third)
        assert db.push()
        assert len(head_of(url).dictionaries) == 3
        assert dict(db) == third
        with opener("c", "w") as writer:
            assert writer["k009001"] == row(9001, "and a third")
            writer["x"] = row(1)
            assert dictionary_of(writer, "x") == head_of(url).dictionaries[2].id
    with opener("d", "n", value_serializer=NAME) as db:
        db.update(rows(300))
        assert db.push()
    with opener("e", "r") as reader:
        assert dict(reader) == rows(300)


def test_there_are_sixteen_at_most(
    pushed: dict[str, Any], opener: Opener, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that the newest serves on: older commits need each of the others."""
    monkeypatch.setattr("ebooklet.services.dictionaries.MAX_DICTIONARIES", 1)
    with opener("a", "w") as db:
        with pytest.raises(ValueError, match="may have"):
            db.train_dictionary()
        db.clear()
        db.update(rows(300, "other"))
        assert db.push()
        assert len(head_of(url).dictionaries) == 1
        assert dict(db) == rows(300, "other")


def test_a_race_for_the_last_place_is_lost_by_nobody(
    pushed: dict[str, Any], opener: Opener, url: str
) -> None:
    """Who trained the sixteenth while another pushed a sixteenth pushes it all the same."""
    with opener("a", "w") as one, opener("b", "w") as two:
        for letter in "cdefghijklmnop"[: MAX_DICTIONARIES - 2]:
            one.update(rows(300, letter * 9))
            one.train_dictionary()
            assert one.push()
        two.pull()
        for handle, name in ((one, "mine"), (two, "theirs")):
            handle.update(rows(300, name, 2000 if name == "mine" else 4000))
            handle.train_dictionary()
        learn(two._copy)
        assert one.push()
        assert two.push()
        assert len(head_of(url).dictionaries) == MAX_DICTIONARIES + 1
        one.pull()
        assert dict(one) == dict(two)


def test_two_first_pushes_keep_both(opener: Opener, url: str) -> None:
    """Who loses the race for the first head adds its own dictionary to the winner's."""
    with opener("a", value_serializer=NAME) as one:
        one.update(rows(500))
        assert one.push()
        with opener("b", value_serializer=NAME) as two:
            two.update(rows(500, "theirs", 1000))
            two._copy.dictionaries = type(two._copy.dictionaries)()
            two._copy.trained = two._copy.trained.bind(two._copy.dictionaries)  # type: ignore[union-attr]  # it is one
            two.train_dictionary()
            assert two.push()
        assert len(head_of(url).dictionaries) == 2
        one.pull()
        assert dict(one) == rows(500) | rows(500, "theirs", 1000)


def test_copies_deletions_and_sweeps_keep_them(
    pushed: dict[str, Any], opener: Opener, url: str
) -> None:
    """What keeps a database whole keeps its dictionaries, which are in a segment of their own."""
    elsewhere = f"{url}-copy"
    with opener("a", "w") as db:
        db["alone"] = row(1)
        db.push()
        assert db.fsck(check_objects=True).ok
        db.copy_remote(elsewhere)
    with open_database(elsewhere, None, "r") as copied:
        assert dict(copied) == {**pushed, "alone": row(1)}
    report = ebooklet.fsck(elsewhere, check_objects=True)
    assert report.ok
    with opener("a", "w") as db:
        assert ebooklet.fsck(url, delete_orphans=True, min_age=0).swept == ()
    with opener("b", "r") as db:
        assert dict(db) == {**pushed, "alone": row(1)}
    with opener("a", "w") as db:
        assert not db.load_items()
        db.delete_remote()
        assert db.push()
    with opener("d", "r") as db:
        assert dict(db) == {**pushed, "alone": row(1)}
    (listed,) = head_of(url).dictionaries
    store_of(url).delete([segment_key("db", listed.block.sid)])
    assert not ebooklet.fsck(url).ok


def third(key: str, value: dict[str, Any]) -> tuple[str, int]:
    """What a worker process makes of a value."""
    return key, value["id"] * 3


def test_worker_processes_have_them(pushed: dict[str, Any], opener: Opener) -> None:
    """`map` sends the dictionaries along."""
    with opener("b", "r") as db:
        spawned = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with spawned as executor:
            found = dict(db.map(third, ["k000001", "k000002"], executor=executor))
    assert found == {"k000001": 3, "k000002": 6}


def test_large_values_are_left_as_they_are(opener: Opener) -> None:
    """What gains little is not written anew, so that a push of many needs little memory."""
    large = {"large": [hash((n, "x")) for n in range(3000)]}
    with opener("a", value_serializer=NAME) as db:
        db.update(rows(600) | large)
        assert db.push()
        assert dictionary_of(db, "large") == 0
        assert dictionary_of(db, "k000001") != 0
        assert dict(db) == rows(600) | large


def test_raw_values_stay_as_they_are(opener: Opener) -> None:
    """What was set with `encode_value=False` is the user's own, whether it is a frame or not."""
    with opener("a", value_serializer=NAME) as db:
        db.update(rows(600))
        db.set("raw", b"no frame", encode_value=False)
        assert db.push()
        assert db._copy.local.get("raw") == b"no frame"
        with pytest.raises(SerializationError):
            db["raw"]


def test_encrypted_databases_seal_theirs(opener: Opener, url: str) -> None:
    """Nothing of a dictionary shows in the bucket, and after a rotation no older key is needed."""
    keys = {"old": bytes(32), "new": bytes(range(32))}
    old, new = (Encryption(keys, current=name) for name in keys)
    with opener("a", value_serializer=NAME, encryption=old) as db:
        db.update(rows(600))
        assert db.push()
        assert b"alpha" in db._copy.dictionaries.all[0].data
        objects = [store_of(url).get(each.key).body for each in store_of(url).list("db")]
        assert not any(b"alpha" in body for body in objects)
    with opener("b", "r", encryption=old) as reader:
        assert dict(reader) == rows(600)
    with opener("a", "w", encryption=new) as db:
        db.train_dictionary()
        db.update(rows(500, "another", 1000))
        assert db.push()
        assert db.rotate_keys()
        assert len(head_of(url).dictionaries) == 2
    only = Encryption({"new": keys["new"]}, current="new")
    with opener("c", "r", encryption=only) as reader:
        assert dict(reader) == rows(600) | rows(500, "another", 1000)


def test_a_damaged_dictionary_is_said(pushed: dict[str, Any], opener: Opener, url: str) -> None:
    """A flipped bit, a missing one, or one too large: an error of ours, and never a wrong value."""
    store = store_of(url)
    whole = store.get("db").body
    head = decode_head(whole, key="db")
    (listed,) = head.dictionaries
    key = segment_key("db", listed.block.sid)
    segment = store.get(key).body
    at = listed.block.offset + 100
    store.put(key, segment[:at] + bytes([segment[at] ^ 1]) + segment[at + 1 :])
    with pytest.raises(RemoteIntegrityError):
        opener("b", "r")
    store.put(key, segment)
    huge = listed._replace(block=listed.block._replace(length=1 << 25))
    for dictionaries, message in [((huge,), "limit"), ((), "none of this database")]:
        store.put("db", encode_head(replace(head, dictionaries=dictionaries, required_bits=0)))
        with (
            pytest.raises((RemoteIntegrityError, SerializationError), match=message),
            opener(f"of {message}", "r") as db,
        ):
            db["k000001"]
    store.put("db", whole)
    with opener("b", "r") as db:
        assert dict(db) == pushed


def test_lost_local_state_is_fetched_again(pushed: dict[str, Any], opener: Opener) -> None:
    """Without the slot beside the file, values are readable online, and offline after that."""
    with opener("a", "w") as db:
        db._copy.local.write_slot("dictionaries", b"damaged")
    with opener("a", "r", offline=True) as db, pytest.raises(OfflineError):
        db["k000001"]
    with opener("a", "w") as db:
        assert dict(db) == pushed
    with opener("a", "r", offline=True) as db:
        assert dict(db) == pushed


@pytest.mark.parametrize("skip", range(4))
def test_a_failed_push_goes_on_with_the_same_one(url: str, tmp_path: Path, skip: int) -> None:
    """However far it came, the next push needs no second training, and loses nothing."""
    store = FaultyRemoteStore(store_of(url))
    with open_database(store, tmp_path / "a.blt", "c", value_serializer=NAME) as db:
        db.update(rows(600))
        store.add(StoreRule(StoreFault.REFUSE, op="put", skip=skip, times=1))
        try:
            db.push()
        except ebooklet.errors.EBookletError:
            assert len(list(db.changes())) == 600
        db.push()
        assert dict(db) == rows(600)
        assert len(head_of(url).dictionaries) == 1
    with open_database(url, None, "r") as db:
        assert dict(db) == rows(600)


# In a child for each n: a push that kills itself before the n-th write, of the slot, of rewritten
# values, of an object; then, in another child, a look at what is left. Says which n it came to.
PUSHES = """
import itertools, json, os, signal, sys
import booklet  # here once, as it takes seconds: it imports what each of its serializers needs
import ebooklet
from ebooklet.bootstrap.installed import INSTALLED
import ebooklet.services.dictionaries as dictionaries
dictionaries._CHUNK_KEYS = 500
INSTALLED.local_store("booklet"), INSTALLED.remote_store("file"), INSTALLED.serializer("json+zstd")
url, path, name = sys.argv[1:]
values = json.loads(sys.stdin.read())

def counted(of, name):
    call = getattr(of, name)
    def step(*args, **options):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return call(*args, **options)
    setattr(of, name, step)

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as exc:
            print(repr(exc), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def fill():
    with ebooklet.open(url, path, "c", value_serializer=name) as db:
        db.update(values)

def push():
    db = ebooklet.open(url, path, "w")
    db.sync()
    counted(db._copy.local, "write_slot")
    counted(db._copy.local, "set_many")
    counted(db._copy.reachable_remote(), "put")
    db.push()
    db.close()

def look():
    with ebooklet.open(url, path, "r", offline=True) as db:
        assert dict(db) == values

assert in_child(fill) == 0
for n in itertools.count():
    left = [n]
    code = in_child(push)
    assert code in (0, -signal.SIGKILL), code
    assert in_child(look) == 0
    if code == 0:
        break
print(n)
"""


def test_a_kill_between_any_two_writes_loses_nothing(tmp_path: Path) -> None:
    """Some values with it and some without: all are readable and pending, and the next push ends it."""
    (tmp_path / "remote").mkdir()
    url, path = f"file://{tmp_path}/remote/db", tmp_path / "a.blt"
    expected = rows(1200)
    steps = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PUSHES, url, str(path), NAME],
        input=json.dumps(expected),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=100,
    ).stdout
    assert int(steps) >= 6  # the slot, three chunks of values, a segment, the head
    with open_database(url, path, "w") as db:
        assert not list(db.changes())
        assert dict(db) == expected
    with open_database(url, None, "r") as db:
        assert dict(db) == expected
        assert len(db._copy.base.head.dictionaries) == 1  # type: ignore[union-attr]  # there is one
