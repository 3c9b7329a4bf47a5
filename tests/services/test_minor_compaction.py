"""Minor compaction, of small segments at commit: the table stays short, and nothing else changes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ebooklet.core import tiers
from ebooklet.core.index.build import build
from ebooklet.core.names import segment_key
from ebooklet.core.refs import BlockRef
from ebooklet.database import EBooklet
from ebooklet.errors import RemoteIntegrityError
from ebooklet.services.fsck.examining import examine
from ebooklet.services.maintenance import minor
from ebooklet.services.place import place_of
from tests.services.conftest import Opener, store_of


def rows(db: EBooklet[Any]) -> int:
    """How many segments the newest snapshot needs."""
    base = db._copy.base
    assert base is not None
    return len(base.commit.segs)


def churn(db: EBooklet[Any], n_commits: int, seed: int = 1) -> tuple[dict[str, str], list[int]]:
    """Push so many small random changes; the content, and the size of the table after each."""
    chance = random.Random(seed)
    model: dict[str, str] = dict(db.items())
    sizes = []
    for _ in range(n_commits):
        for _ in range(4):
            key = f"k{chance.randrange(900):04}"
            if chance.random() < 0.2 and key in model:
                del db[key], model[key]
            else:
                db[key] = model[key] = chance.randbytes(60).hex()
        db.push()
        sizes.append(rows(db))
    return model, sizes


def test_the_table_stays_short(opener: Opener, url: str) -> None:
    """After many small commits few segments are needed, the live counters tell the truth, and the
    tree is the one that the same content gives anywhere. Fails without: minor compaction."""
    with opener(None) as db:
        db.update({f"k{n:04}": "x" * 100 for n in range(900)})
        db.push()
        model, sizes = churn(db, 60)
        assert max(sizes) <= 3 * tiers.TIER_ROWS
        assert dict(db.items()) == model
        report = examine(place_of(db._copy), min_age_ms=0, check_objects=True)
        assert report.ok
        base = db._copy.base
        assert base is not None
        live = {row.sid: row.live for row in base.commit.segs}
        assert counted_live(db) == live
        entries = sorted(db._copy.nodes.lookup(base.root, list(model)).values())
        built = build(entries, base.head.params, lambda data: BlockRef(bytes(16), 0, len(data), 0))
        assert built is not None
        assert base.root is not None
        assert built.digest == base.root.digest
    with opener(None, "r") as cold:
        assert dict(cold.items()) == model


def counted_live(db: EBooklet[Any]) -> dict[bytes, int]:
    """Live bytes by segment, counted by walking the whole tree."""
    copy = db._copy
    base = copy.base
    assert base is not None
    live: dict[bytes, int] = {}
    left = [base.root] if base.root else []
    while left:
        ref = left.pop()
        node = copy.nodes.fetch([ref])[ref]
        live[ref.block.sid] = live.get(ref.block.sid, 0) + ref.block.length
        if node.level:
            left += node.children()  # type: ignore[union-attr]  # an inner node, by its level
            continue
        for entry in node.items():
            if entry.place is not None:  # type: ignore[union-attr]
                place = entry.place  # type: ignore[union-attr]
                live[place.sid] = live.get(place.sid, 0) + place.length
    return live


def test_without_minor_compaction_it_grows(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above watches something: without it the table grows with the commits."""
    monkeypatch.setattr(minor, "plan_minor", lambda *_: None)
    with opener(None) as db:
        db.update({f"k{n:04}": "x" * 100 for n in range(900)})
        db.push()
        assert max(churn(db, 60)[1]) > 3 * tiers.TIER_ROWS


def test_a_damaged_segment_is_left_alone(opener: Opener, url: str) -> None:
    """What cannot be read is not compacted, and pushes go on all the same."""
    with opener(None) as db:
        db.update({f"k{n:04}": "x" * 100 for n in range(900)})
        db.push()
        churn(db, 7)
        store = store_of(url)
        base = db._copy.base
        assert base is not None
        victim = db._copy.nodes.lookup(base.root, list(db))
        sid = next(e.place.sid for e in victim.values() if e.place and e.place.length == 122)
        key = segment_key("db", sid)
        body = bytearray(store.get(key).body)
        body[64:4000] = bytes(len(body[64:4000]))
        store.put(key, bytes(body))
        for n in range(12):
            db[f"new{n}"] = "y" * 80
            assert db.push()
        with pytest.raises(RemoteIntegrityError):
            list(opener(None, "r").items())
