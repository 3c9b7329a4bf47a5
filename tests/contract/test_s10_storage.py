"""How values are stored: names, packing, integrity, and costs that follow the change (CONTRACT §10)."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator

import pytest

import ebooklet
from ebooklet.database import EBooklet
from ebooklet.testing.servers import S3Server
from tests.contract.conftest import Place
from tests.contract.metered import Metered

ODD_KEYS = [
    *(
        "a b",
        "a%20b",
        "a+b",
        "a%2Fb",
        "a/b",
        "a//b",
        "/x",
        "x/",
        "//",
        "/",
        ".",
        "..",
        "./a",
        "../a",
    ),
    *(
        "",
        " ",
        "?",
        "#",
        "?a=1&b=2",
        "a#b",
        "a;b",
        "a:b",
        "a\\b",
        "*",
        "~",
        "%",
        "%%",
        "%zz",
        "%00",
    ),
    *("\n", "\r\n", "\t", "\0", "a\0b", "\x7f", "<a>&\"'", "db", "db.d", "db/sub", ".lock", "CON"),
    *("K", "k", "KEY", "key", "ÿ", "日本語", "🗝", "\u202e", "\ufeff", "\U0010ffff"),
    *(unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "\u00c5", "\u212b"),
    *("k" * 1024, "k" * 1025, "k" * 65_535, "é" * 32_767, "/" * 2000),
]
VALUES = {key: {"key": key[:2000], "number": number} for number, key in enumerate(ODD_KEYS)}


def test_the_keys_are_different() -> None:
    """No two of the keys below are one."""
    assert len(VALUES) == len(ODD_KEYS)


class TestNames:
    """Names of objects have nothing to do with keys, so nothing between can change these."""

    def test_every_key_comes_back(self, place: Place) -> None:
        """Keys that URLs and paths would fold are kept apart, from writer to reader, in any file."""
        with place.open() as db:
            db.update(VALUES)
            assert db.push()
        for file in ("b", None):
            with place.open(file=file, flag="r") as db:
                assert len(db) == len(VALUES)
                for key, value in VALUES.items():
                    assert db[key] == value
                    assert key in db
                assert list(db) == sorted(VALUES)
        with place.open(file=None, flag="r") as db:
            assert dict(db.items()) == VALUES
        with place.open(flag="w") as db:
            for key in ODD_KEYS[::2]:
                del db[key]
            assert db.push()
        with place.open(file="b", flag="r") as db:
            assert dict(db.items()) == {key: VALUES[key] for key in ODD_KEYS[1::2]}

    def test_names_are_ours(self, place: Place) -> None:
        """Every object is the head, the lock or a numbered segment."""
        with place.open() as db:
            db.update(VALUES)
            assert db.push()
            names = set(place.objects())
        plain = {re.sub(r"[0-9a-f]{16,}", "N", name) for name in names}
        assert "db" in plain
        assert all(re.fullmatch(r"db(\.alt|\.lock[\w./-]*|\.d/[\w.-]+)?", name) for name in plain)
        assert len(names) <= 6

    def test_on_a_server_of_folders(self, locked_place: Place) -> None:
        """A server that makes files of its objects gives every key back, too."""
        with locked_place.open(file=None) as db:
            db.update(VALUES)
            assert db.push()
        with locked_place.open(file=None, flag="r") as db:
            assert dict(db.items()) == VALUES

    @pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
    def test_through_a_public_url(self, s3_server: S3Server, bucket: str, public_url: str) -> None:
        """Readers without credentials see the same."""
        with ebooklet.open(s3_server.connection(bucket, "a b/é+"), None, "c", "json") as db:
            db.update(VALUES)
            assert db.push()
        with ebooklet.open(f"{public_url}/a%20b/%C3%A9%2B") as db:
            for key, value in VALUES.items():
                assert db[key] == value
            assert len(db) == len(VALUES)


CONTENT = {f"key {n:03}": "value of some length, " * (n % 9) + str(n) for n in range(120)}
LATER = {"key 001": "changed", "key 119": "y" * 5000}


class TestIntegrity:
    """Every byte of a remote is under a checksum: damage is said, and never a value."""

    @pytest.fixture
    def filled(self, place: Place) -> Place:
        with place.open() as db:
            db.update(CONTENT)
            assert db.push()
            db.update(LATER)
            assert db.push()
        return place

    def read(self, db: EBooklet[str]) -> Iterator[bool]:
        """Read each key by itself; whether it was refused. A wrong value fails."""
        for key, value in {**CONTENT, **LATER}.items():
            try:
                found = db[key]
            except ebooklet.RemoteIntegrityError:
                yield True
            else:
                assert found == value
                yield False

    def test_a_flipped_byte(self, filled: Place) -> None:
        """Wherever in a segment it is, a reader gets the right value or `RemoteIntegrityError`."""
        segments = {name: body for name, body in filled.objects().items() if ".d/" in name}
        assert len(segments) >= 2
        store, _ = filled.store()
        noticed = 0
        for name, body in segments.items():
            steps = 40 if filled.kind == "memory" else 3
            for step in range(steps):
                at = (2 * step + 1) * len(body) // (2 * steps)
                store.put(name, body[:at] + bytes([body[at] ^ 0x20]) + body[at + 1 :])
                with filled.open(file=None, flag="r") as db:
                    noticed += any(self.read(db))
            store.put(name, body)
        store.close()
        assert noticed >= len(segments)
        with filled.open(file=None, flag="r") as db:
            assert not any(self.read(db))

    def test_values_are_not_looked_for_elsewhere(self, filled: Place) -> None:
        """One damaged value does not make its neighbours unreadable, read one by one or in lists."""
        segments = {name: body for name, body in filled.objects().items() if ".d/" in name}
        name, body = next((n, b) for n, b in segments.items() if b"y" * 5000 in b)
        at = body.index(b"y" * 5000) + 2500
        store, _ = filled.store()
        store.put(name, body[:at] + b"z" + body[at + 1 :])
        store.close()
        with filled.open(file=None, flag="r") as db:
            assert [*self.read(db)] == [False] * 119 + [True]
            with pytest.raises(ebooklet.RemoteIntegrityError):
                dict(db.items())
            assert [*db.load_items()] == ["key 119"]
        with filled.open(file="kept", flag="r") as db:
            assert [*db.load_items()] == ["key 119"]
            assert db["key 118"] == CONTENT["key 118"]

    def test_a_neighbour_that_is_gone(self, filled: Place) -> None:
        """A missing segment fails the keys in it, not those that were read ahead with them."""
        name = next(n for n, b in filled.objects().items() if b"y" * 5000 in b and ".d/" in n)
        with filled.open(file=None, flag="r") as db:
            list(db)  # the index is here
            store, _ = filled.store()
            store.delete([name])
            store.close()
            found = [*self.read(db)]
        assert found == [False] * 119 + [True]

    def test_exchanged_segments(self, filled: Place) -> None:
        """A whole segment in the place of another is damage, too."""
        segments = {name: body for name, body in filled.objects().items() if ".d/" in name}
        (one, first), (two, second) = list(segments.items())[:2]
        store, _ = filled.store()
        store.put(one, second)
        store.put(two, first)
        store.close()
        with filled.open(file=None, flag="r") as db:
            assert any(self.read(db))
            with pytest.raises(ebooklet.RemoteIntegrityError):
                dict(db.items())


@pytest.mark.xdist_group("metered")
class TestCosts:
    """Requests and bytes follow the change, never the size of the database."""

    def test_many_small_values(self, metered: Metered) -> None:
        """A thousand values are an object or two, and a few requests to write or to read."""
        content = {f"k{n:04}": f"value {n}" * 10 for n in range(1000)}
        with metered.open() as db:
            db.update(content)
            with metered.cost() as pushing:
                assert db.push()
        assert pushing.requests <= 6
        assert sum(kind in ("PUT", "CAS") for kind in pushing.kinds) <= 3
        with metered.open(flag="r") as db, metered.cost() as loading:
            assert dict(db.items()) == content
        assert loading.requests <= 8

    def test_neighbours_one_by_one(self, metered: Metered) -> None:
        """A program that reads along the keys shares requests, though it asks for one at a time."""
        rng = random.Random(1)
        content = {f"k{n:04}": rng.randbytes(100).hex() for n in range(2000)}
        metered.create(content)
        with metered.open(flag="r") as db, metered.cost() as walking:
            assert {key: db[key] for key in db} == content
        assert walking.requests <= 30
        assert walking.down <= 1.5 * sum(map(len, content.values()))
        keys = rng.sample(sorted(content), 50)
        with metered.open(flag="r") as db, metered.cost() as jumping:
            assert [db[key] for key in keys] == [content[key] for key in keys]
        assert jumping.down <= 100_000
        assert set(jumping.kinds) == {"RANGE"}  # never a whole object

    def test_appending(self, metered: Metered) -> None:
        """What is uploaded is the new data and a little more."""
        rng = random.Random(2)
        with metered.open() as db:
            db.update({f"k{n:05}": rng.randbytes(500).hex() for n in range(3000)})
            assert db.push()
            for turn in range(3):
                new = {f"z{turn}{n:03}": rng.randbytes(500).hex() for n in range(100)}
                db.update(new)
                with metered.cost() as cost:
                    assert db.push()
                assert cost.up <= sum(map(len, new.values())) + 30_000
                assert cost.requests <= 4

    @pytest.mark.parametrize("keys", [100, 20_000])
    def test_one_change(self, metered: Metered, keys: int) -> None:
        """A push of one key, and a warm reader's refresh, cost the same for 100 keys and 20,000."""
        metered.create({f"k{n:06}": f"value {n}" for n in range(keys)})
        with metered.open(file="r", flag="r") as db:
            assert len(list(db)) == keys
        with metered.open(flag="w") as db:
            db["k000050"] = "new"
            with metered.cost() as pushing:
                assert db.push()
        assert pushing.requests <= 3
        assert pushing.up <= 20_000
        with metered.cost() as refreshing, metered.open(file="r", flag="r") as db:
            assert db["k000050"] == "new"
            assert len(db) == keys
        assert refreshing.requests <= 5
        assert refreshing.down <= 20_000

    def test_one_key(self, metered: Metered) -> None:
        """A database of one key stays below 20 kB a push, the lock included, however often."""
        with metered.open(file="one") as db:
            db["k"] = "first"
            assert db.push()
        for turn in range(12):
            with metered.cost() as cost, metered.open(file="one", flag="w") as db:
                db["k"] = f"turn {turn}"
                assert db.push()
            assert cost.up <= 20_000
            assert cost.down <= 20_000
            assert cost.requests <= 6
