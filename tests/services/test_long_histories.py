"""Histories so long that the tree of their older rows has nodes above its leaves."""

from __future__ import annotations

import pytest

import ebooklet
from ebooklet import Encryption
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import decode_head
from ebooklet.services.log import find_row

COMMITS = 300


@pytest.mark.parametrize("encryption", [None, Encryption({"a": b"k" * 32}, "a")], ids=str)
def test_hundreds_of_commits(encryption: Encryption | None) -> None:
    """Each is committed, and told of afterwards, by a writer that saw none of the others too."""
    store = MemoryRemoteStore()
    with ebooklet.open(store, None, "c", "json", encryption=encryption) as db:
        db["n"] = -1
        assert db.push()
        first = db._copy.base
        for n in range(COMMITS):
            db["n"] = n
            assert db.push()
    head = decode_head(store.get("db").body, key="db")
    assert head.log is not None
    assert head.log.level > 0
    with ebooklet.open(store, None, "w", encryption=encryption) as db:
        assert first is not None
        row = find_row(db._copy.log_nodes, head, first.head.seq, first.head.write_id)
        assert row is not None
        assert row.commit == first.head.branch.commit
        db["more"] = 1
        assert db.push()
        report = db.fsck(check_objects=True)
        assert report.ok
        assert report.n_commits == COMMITS + 2
