"""The database beside a plain dict, through random lives."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import booklet
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.core.index.lookup import scan
from ebooklet.core.index.node import InnerNode
from ebooklet.core.names import sid_text
from ebooklet.database import EBooklet
from ebooklet.services.request import Flag

KEYS = st.sampled_from([f"k{n:03}" for n in range(60)] + ["", "ü", "a/b"])
VALUES = st.one_of(st.integers(), st.text(max_size=5), st.just("x" * 300), st.none())
_names = itertools.count()


class Life(RuleBasedStateMachine):
    """Two writers that take turns, and a model of what each must see."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.remote: dict[str, Any] = {}
        self.mine: dict[str, Any] = {}
        self.db: EBooklet[Any] | None = None
        self.url = f"memory://life-{next(_names)}"

    @initialize()
    def create(self) -> None:
        """Start with an empty database, pushed."""
        with self.open("a", "c") as db:
            db.push()
        self.db = self.open("a", "w")

    def open(self, name: str, flag: Flag) -> EBooklet[Any]:
        warnings.simplefilter("ignore", UserWarning)  # a replacement still to be pushed
        return open_database(
            self.url,
            Path(self.folder.name) / f"{name}.blt",
            flag,
            value_serializer="json" if flag == "c" else None,
            lock="optimistic",
        )

    @property
    def book(self) -> EBooklet[Any]:
        assert self.db is not None
        return self.db

    @rule(key=KEYS, value=VALUES)
    def set_a_key(self, key: str, value: Any) -> None:
        self.book[key] = value
        self.mine[key] = value

    @rule(key=KEYS)
    def delete_a_key(self, key: str) -> None:
        if key in self.mine:
            del self.book[key]
            del self.mine[key]
        else:
            with pytest.raises(KeyError):
                del self.book[key]

    @rule(key=KEYS)
    def read_a_key(self, key: str) -> None:
        assert (key in self.book) == (key in self.mine)
        assert self.book.get(key, "absent") == self.mine.get(key, "absent")

    @rule()
    def push(self) -> None:
        assert self.book.push().updated or self.remote == self.mine
        self.remote = dict(self.mine)
        assert not list(self.book.changes())
        self.check_segments()

    @rule()
    def reopen(self) -> None:
        self.book.close()
        self.db = self.open("a", "w")

    @rule()
    def discard(self) -> None:
        self.book.discard()
        self.mine = dict(self.remote)

    @rule()
    def clear(self) -> None:
        self.book.clear()
        self.mine = {}

    @rule(timestamp=st.sampled_from([None, 2**55]))
    def prune(self, timestamp: int | None) -> None:
        self.book.prune(timestamp)

    @rule(key=KEYS, value=VALUES)
    def edit_with_plain_booklet(self, key: str, value: Any) -> None:
        self.book.close()
        plain = booklet.open(str(Path(self.folder.name) / "a.blt"), "w")
        if value is None and key in plain:
            del plain[key]
            self.mine.pop(key, None)
        else:
            plain[key] = value
            self.mine[key] = value
        plain.close()
        self.db = self.open("a", "w")

    @precondition(lambda self: self.mine == self.remote)
    @rule(key=KEYS, value=VALUES)
    def another_machine_pushes(self, key: str, value: Any) -> None:
        with self.open("b", "c") as other:
            assert dict(other.items()) == self.remote
            other[key] = value
            other.push()
        self.remote[key] = value
        if not self.book.changes():
            self.book.pull()
            self.mine = dict(self.remote)
        else:
            # Pending without effect (a value set to what it was): it meets the other's change.
            self.book.push(conflict="theirs")
            self.book.pull()
            self.mine = dict(self.book.items())
            self.remote = dict(self.mine)
            with self.open("b", "c") as other:
                assert dict(other.items()) == self.mine

    @invariant()
    def says_what_the_model_says(self) -> None:
        if self.db is None:
            return
        assert len(self.book) == len(self.mine)
        assert list(self.book) == sorted(self.mine)
        assert dict(self.book.items()) == self.mine
        middle = sorted(self.mine)[len(self.mine) // 2] if self.mine else ""
        assert len(self.book.keys(start=middle)) == sum(key >= middle for key in self.mine)
        assert len(self.book.keys(stop=middle)) == sum(key < middle for key in self.mine)

    def check_segments(self) -> None:
        """The commit's segment table holds exactly the bytes that its tree refers to."""
        copy = self.book._copy
        base = copy.base
        assert base is not None
        live: Counter[bytes] = Counter()
        level = [base.root] if base.root else []
        while level:
            live.update({ref.block.sid: 0 for ref in level})
            for ref in level:
                live[ref.block.sid] += ref.block.length
            nodes = copy.nodes.fetch(level)
            level = [c for n in nodes.values() if isinstance(n, InnerNode) for c in n.children()]
        value_bytes = 0
        if base.root is not None:
            for page in copy.nodes.scan(scan(base.root)):
                for entry in page:
                    value_bytes += entry.length
                    if entry.place:
                        live[entry.place.sid] += entry.place.length
        assert {row.sid: row.live for row in base.commit.segs} == dict(live)
        assert base.commit.value_bytes == value_bytes
        store = copy.remote
        assert isinstance(store, MemoryRemoteStore)
        sizes = {meta.key.rpartition("/")[2]: meta.size for meta in store.list("")}
        for row in base.commit.segs:
            assert sizes[sid_text(row.sid)] == row.length
        report = self.book.fsck(check_objects=True)
        assert report.ok, report
        assert report.orphans == ()

    def teardown(self) -> None:
        if self.db is not None:
            self.db.close()
        self.folder.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
