"""`fingerprint()`: equal for equal content, over any remote, local store or way of getting there."""

from __future__ import annotations

import random

import ebooklet
from ebooklet import Encryption
from tests.contract.conftest import Place

CONTENT = {f"key/{n:04}": [n, "x" * (n % 200)] for n in range(1500)}
# Pinned: a database of years ago has to compare with one of today.
FINGERPRINT = "19261ef947ef9670c4d0b708263849812842dd4251c581ebc262b07c586a27fe"
EMPTY = "e6693b2819f43dfc4d1a70aefaaa8b746484b3105de6eeb4f548851ec0dd0fc2"


def test_ways_of_getting_there(place: Place) -> None:
    """One push, many, pending, cleared and refilled, copied and read cold: all say the same."""
    rng = random.Random(1)
    keys = rng.sample(sorted(CONTENT), len(CONTENT))
    with place.open("one", "one") as db:
        assert db.fingerprint() == EMPTY
        db.update(CONTENT)
        assert db.fingerprint() == FINGERPRINT
        db.push()
        assert db.fingerprint() == FINGERPRINT
        db.set_timestamp("key/0000", 1)
        db.set_metadata({"about": 1})
        assert db.fingerprint() == FINGERPRINT
        db.copy_remote(place.connect("copied"))
    with place.open("copied", None, "r") as db:
        assert db.fingerprint() == FINGERPRINT
    with place.open("two", None, lock="optimistic") as db:
        for at in range(0, len(keys), 500):
            db.update(dict.fromkeys(keys[at : at + 600], "other"))
            db.update({key: CONTENT[key] for key in keys[at : at + 500]})
            db[f"gone/{at}"] = at
            db.push()
        assert db.fingerprint() != FINGERPRINT
        for at in range(0, len(keys), 500):
            del db[f"gone/{at}"]
        assert db.fingerprint() == FINGERPRINT  # two thirds pushed, one third pending
        db.clear()
        assert db.fingerprint() == EMPTY
        db.update({key: CONTENT[key] for key in keys})
        assert db.fingerprint() == FINGERPRINT
        db.push()
    with place.open("two", "two", "r") as db:
        assert db.fingerprint() == FINGERPRINT
        assert next(db.log()).n_keys == len(CONTENT)


def test_without_a_remote_and_with_a_key() -> None:
    """No remote is as good as any; what is encrypted compares with its copies alone."""
    keys = Encryption({"a": b"k" * 32}, "a")
    with ebooklet.open(None, None, "c", "json") as db:
        db.update(CONTENT)
        assert db.fingerprint() == FINGERPRINT
    with ebooklet.open("memory://sealed-fp/a", None, "c", "json", encryption=keys) as db:
        db.update(CONTENT)
        mine = db.fingerprint()
        assert mine != FINGERPRINT
        db.push()
        assert db.fingerprint() == mine
        db.copy_remote("memory://sealed-fp/b")
    with ebooklet.open("memory://sealed-fp/b", encryption=keys) as db:
        assert db.fingerprint() == mine
