"""Writes databases with EBooklet 0.11, which runs this in an environment of its own.

python write_old.py ENDPOINT ACCESS_KEY_ID ACCESS_KEY BUCKET FOLDER CASE...

Each case is a database, or a few. What 0.11 itself then reads of them, value by value, goes to
FOLDER/expected.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ebooklet

ENDPOINT, ACCESS_KEY_ID, ACCESS_KEY, BUCKET, FOLDER = sys.argv[1:6]
MODES = {"key": None, "group": 400}
SERIALIZERS = {
    "none": None,
    "bytes": "bytes",
    "str": "str",
    "pickle": "pickle",
    "json": "json",
    "orjson": "orjson",
    "orjson_zstd": "orjson_zstd",
    "pickle_zstd": "pickle_zstd",
    "msgpack": "msgpack",
    "msgpack_zstd": "msgpack_zstd",
    "zstd": "zstd",
    "int4": "int4",
}
ODD_KEYS = [
    *("a b", "a%20b", "a+b", "é", "e\u0301", "日本/語", "?q=1&r", "#h", "%", "%2F", "a:b@c"),
    *('"q"', "~", "*", ";", "./x", "p/../q", "deep/er/key", "x" * 200),
]
ODDER_KEYS = ["", ".", "..", "../z", "/lead", "tail/", "a//b", "a/b", "a\nb", "\t", "nul\0", "\\"]
COLLIDING = ["", ".", "c/d", "c//d", "fine"]


class Reversed:
    """A serializer of the user's own."""

    @staticmethod
    def dumps(value):
        return value.encode()[::-1]

    @staticmethod
    def loads(data):
        return data[::-1].decode()


def connection(name):
    return ebooklet.S3Connection(ACCESS_KEY_ID, ACCESS_KEY, name, BUCKET, endpoint_url=ENDPOINT)


def path(name):
    return Path(FOLDER, name.replace("/", "-") + ".blt")


def opened(name, flag="n", file=None, **options):
    return ebooklet.open_ebooklet(connection(name), path(file or name), flag, **options)


def pushed(db):
    result = db.changes().push()
    assert result, result
    return db


EXPECTED = {}


def expect(name, db):
    with connection(name).open() as session:
        uuid = session.get_uuid().hex
    items = {}
    for key in list(db.keys()):
        timestamp, value = db.get_timestamp(key, include_value=True, decode_value=False)
        items[key] = [timestamp, value.hex()]
    metadata = db.get_metadata(include_timestamp=True)
    EXPECTED[name] = {"items": items, "metadata": metadata, "uuid": uuid}


def value_for(serializer, number):
    if serializer in ("none", "bytes", "zstd"):
        return b"" if number == 0 else b"value %d" % number
    if serializer == "str":
        return "" if number == 0 else f"välue {number}"
    if serializer == "int4":
        return number
    return None if number == 0 else {"number": number, "list": [1, 2.5, "é"]}


def serializers(mode):
    """One small database of each serializer."""

    def write(serializer):
        name = f"{mode}/{serializer}"
        kind = SERIALIZERS[serializer]
        with opened(name, value_serializer=kind, group_bytes=MODES[mode]) as db:
            for number in range(4):
                moment = 1_500_000_000_000_001 + number
                db.set(f"k{number}", value_for(serializer, number), timestamp=moment)
            expect(name, pushed(db))

    with ThreadPoolExecutor(len(SERIALIZERS)) as pool:
        list(pool.map(write, SERIALIZERS))


def own_class(mode):
    name = f"{mode}/own"
    with opened(name, value_serializer=Reversed, group_bytes=MODES[mode]) as db:
        db["a"] = "forwards"
        db["b"] = ""
        expect(name, pushed(db))


def life(mode):
    """Many pushes: overwrites, deletions, new timestamps, keys that come back, odd keys."""
    name = f"{mode}/life"
    with opened(name, value_serializer="json", group_bytes=MODES[mode]) as db:
        for number in range(60):
            db[f"n/{number:02}"] = "x" * number
        for key in ODD_KEYS + (ODDER_KEYS if mode == "group" else []):
            db[key] = ["odd", key]
        db["above the group size"] = "y" * 1500
        db.set_metadata({"title": "first"})
        pushed(db)
        for number in range(0, 60, 7):
            del db[f"n/{number:02}"]
        for number in range(1, 60, 9):
            db[f"n/{number:02}"] = "again" * number
        pushed(db)
        db["n/00"] = "back"
        db["n/01"] = ""
        db["appended"] = list(range(200))
        pushed(db)
        db.set_timestamp("n/02", 1_900_000_000_123_456)
        db.set("early", 1, timestamp=1)
        db.set_metadata({"title": "Zweite", "n": [1, None, 2.5]}, timestamp=1_400_000_000_000_007)
        pushed(db)
        for number in range(3):
            db["often"] = number
            pushed(db)
        expect(name, db)


def collisions(_):
    """Keys that 0.11 stores under one name: all but the last one pushed are lost there."""
    name = "key/collisions"
    with opened(name, value_serializer="str", group_bytes=None) as db:
        for key in COLLIDING:
            db[key] = f"of {key!r}"
        expect(name, pushed(db))


def large(mode):
    """Values that come in several parts."""
    name = f"{mode}/large"
    size = None if mode == "key" else 12 << 20
    with opened(name, value_serializer=None, group_bytes=size) as db:
        db["small"] = b"s"
        db["nine"] = bytes(range(256)) * (9 << 12)
        db["five"] = bytes(reversed(range(256))) * (5 << 12)
        db["last"] = b"l"
        expect(name, pushed(db))


def many(_):
    """So many keys that the index outgrew its first size, with most of them deleted again."""
    name = "group/many"
    with opened(name, value_serializer="str", group_bytes=100_000) as db:
        for number in range(13_000):
            db[f"key/{number:05}"] = "v" * (number % 50)
        pushed(db)
        for number in range(0, 13_000, 3):
            del db[f"key/{number:05}"]
        for number in range(1, 13_000, 300):
            db[f"key/{number:05}"] = "again"
        expect(name, pushed(db))


def bare(_):
    """A database without keys, and one with metadata alone."""
    for name in ("empty", "metadata"):
        with opened(name, value_serializer="json") as db:
            if name == "metadata":
                db.set_metadata(["only", {"this": None}], timestamp=1_400_000_000_000_001)
            expect(name, pushed(db))


def group(_):
    """A connection group with two members."""
    for member in ("member/one", "member/two"):
        with opened(member, value_serializer="json") as db:
            db["k"] = member
            db.set_metadata({"name": member})
            expect(member, pushed(db))
    with ebooklet.open_rcg(connection("catalogue"), path("catalogue"), "n") as db:
        db.add(connection("member/one"))
        db.add(connection("member/two"), key="named", user_meta={"theme": "rain"})
        expect("catalogue", pushed(db))


def pushed_base(name, mode):
    """Six keys and metadata, pushed; a database of its own for each condition of local files."""
    with opened(name, file=f"base-{name}", value_serializer="json", group_bytes=MODES[mode]) as db:
        for number in range(6):
            db[f"k{number}"] = number
        db.set_metadata({"m": 1}, timestamp=1_300_000_000_000_001)
        expect(name, pushed(db))


def cold(mode):
    """Has one current value and one older than the remote's, and knows of others."""
    name = f"{mode}/cold"
    pushed_base(name, mode)
    with opened(name, "r") as db:
        assert (db["k0"], db["k1"]) == (0, 1)
    with opened(name, "w", f"base-{name}") as db:
        db["k1"] = "newer"
        del db["k2"]
        db["k9"] = "added"
        expect(name, pushed(db))
    with opened(name, "r") as db:
        assert len(db) == 6  # learns of k1 and k9, and fetches neither


def full(mode):
    """Has every value; a copy of it lies there without the index beside it."""
    name = f"{mode}/full"
    pushed_base(name, mode)
    with opened(name, "r") as db:
        assert db.load_items() == {}
    shutil.copy(path(name), path(f"{mode}/alone"))


def pending(mode):
    """Has sets, deletions and metadata that were never pushed."""
    name = f"{mode}/pending"
    pushed_base(name, mode)
    with opened(name, "w") as db:
        db["k3"] = "pending"
        db["new"] = "pending as well"
        del db["k4"]
        db.set_metadata({"m": 2}, timestamp=1_600_000_000_000_002)


def replacing(mode):
    """Is to replace its remote, by flag "n"."""
    name = f"{mode}/replacing"
    pushed_base(name, mode)
    with opened(name, "n", value_serializer="json", group_bytes=MODES[mode]) as db:
        db["only"] = "this"


def cleared(mode):
    """Was cleared, and not pushed since."""
    name = f"{mode}/cleared"
    pushed_base(name, mode)
    with opened(name, "w") as db:
        db.clear()


def overtaken(mode):
    """Has changes of keys that somebody else changed and pushed since."""
    name = f"{mode}/overtaken"
    pushed_base(name, mode)
    with opened(name, "w") as db:
        db["k5"] = "mine"
        del db["k0"]
    with opened(name, "w", f"base-{name}") as db:
        db["k5"] = "theirs"
        db["k0"] = "theirs as well"
        expect(name, pushed(db))


def never(mode):
    """Never had a remote."""
    with opened(f"{mode}/never", value_serializer="json") as db:
        db["a"] = 1


def killed(mode):
    """A writer that dies between a sync and its close; what it had not synced is not there."""
    name = f"{mode}/killed"
    with opened(name, value_serializer="json", group_bytes=MODES[mode]) as db:
        db["k0"] = 0
        db["k1"] = 1
        expect(name, pushed(db))
    died = subprocess.run([sys.executable, __file__, *sys.argv[1:6], f"dying:{mode}"], check=False)
    assert died.returncode == 7, died


def dying(mode):
    db = opened(f"{mode}/killed", "w")
    db["k0"] = "synced"
    db["more"] = "synced"
    db.sync()
    db["lost"] = "never synced"
    os._exit(7)


def lone(mode):
    """A database at the key "db", for tests that take a bucket of their own for it."""
    with opened("db", value_serializer="json", group_bytes=MODES[mode]) as db:
        for number in range(40):  # each in a group of its own
            db[f"k{number:02}"] = f"{number:04}" * 60
        db.set_metadata({"title": "lone"}, timestamp=1_400_000_000_000_001)
        expect("db", pushed(db))


def tiny(mode):
    """The same with four keys, packed into one group."""
    with opened("db", value_serializer=None, group_bytes=MODES[mode]) as db:
        for number in range(4):
            db[f"k{number}"] = b"value %d" % number
        expect("db", pushed(db))


def later(_):
    """Another push of that database."""
    with opened("db", "w", "later") as db:
        db["k07"] = "changed"
        del db["k11"]
        db["k99"] = "added"
        expect("db", pushed(db))


CASES = {
    f"{case.__name__}:{mode}": (case, mode)
    for case, modes in (
        (serializers, MODES),
        (own_class, MODES),
        (life, MODES),
        (large, MODES),
        *((case, MODES) for case in (cold, full, pending, replacing, cleared, overtaken)),
        (never, ["key"]),
        (killed, MODES),
        (collisions, ["key"]),
        (many, ["group"]),
        (bare, ["group"]),
        (group, ["group"]),
    )
    for mode in modes
}
ALONE = {f"{case.__name__}:{mode}": (case, mode) for case in (lone, tiny, later) for mode in MODES}


def main():
    warnings.simplefilter("ignore")
    if sys.argv[6:] and sys.argv[6].startswith("dying:"):
        dying(sys.argv[6].partition(":")[2])
    wanted = [(CASES | ALONE)[name] for name in sys.argv[6:] or CASES]
    with ThreadPoolExecutor(len(wanted)) as pool:
        for done in [pool.submit(case, mode) for case, mode in wanted]:
            done.result()
    Path(FOLDER, "expected.json").write_text(json.dumps(EXPECTED))


if __name__ == "__main__":
    main()
