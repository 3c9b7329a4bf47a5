"""Branches, tags and the trash: commits that the head keeps alive under a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

import pytest

import ebooklet
from ebooklet import Encryption
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import decode_head, encode_head
from ebooklet.errors import (
    ReadOnlyError,
    RemoteMissingError,
    SnapshotExpired,
    UnknownVersionError,
)
from ebooklet.ports.remote_store import Body, Condition, ObjectMeta
from ebooklet.services.retained import retained_segments
from tests.services.conftest import Opener, kinds, store_of

KEYS = Encryption({"a": b"k" * 32}, "a")


class WatchedStore(MemoryRemoteStore):
    """Runs what a test wants to happen just before the next head is put."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], object] | None = None

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """Let the others go first, once."""
        before, self.before = self.before, None
        if key == "db" and before is not None:
            before()
        else:
            self.before = before
        return super().put(key, body, condition=condition, cache_control=cache_control)


def let_go(store: MemoryRemoteStore, below: int) -> None:
    """What gc does first: a head that retains no commit of the default branch below this seq."""
    head = decode_head(store.get("db").body, key="db")
    line = replace(head.branch, oldest_seq=below)
    changed = replace(
        head,
        seq=head.seq + 1,
        write_id=bytes(16),
        branches={**head.branches, head.default_branch: line},
    )
    store.put("db", encode_head(changed))


def collect(store: MemoryRemoteStore) -> None:
    """What gc does last: delete what no retained commit needs."""
    ebooklet.fsck(store, delete_orphans=True, min_age=0)


def is_whole(store: MemoryRemoteStore) -> bool:
    """Whether all that the head retains is there."""
    head = decode_head(store.get("db").body, key="db")
    there = {meta.key for meta in store.list("db.d/")}
    needed = retained_segments(store, "db", head).sizes
    report = ebooklet.fsck(store, check_objects=True)
    return len(there) >= len(needed) and not (
        report.damaged or report.claimed_but_missing or report.unreadable
    )


@pytest.mark.parametrize("encryption", [None, KEYS], ids=["plain", "encrypted"])
def test_a_tag_keeps_its_commit_and_its_words(encryption: Encryption | None) -> None:
    """A tag names the commit that stood when it was made; its message is sealed where values are."""
    store = MemoryRemoteStore()
    with ebooklet.open(store, None, "c", "json", encryption=encryption) as db:
        db["a"] = 1
        first = db.push()
        db["a"] = 2  # pending: no part of it, and left alone
        made = db.tag("v1", message="the secret reason")
        assert kinds(db) == {"a": "modified"}
        assert (made.commit, made.seq, made.message) == (first.commit, 1, "the secret reason")
        assert db.push().seq == 3
        assert db.tags() == {"v1": made}
        assert db.tag("v2").seq == 3
        assert list(db.tags()) == ["v1", "v2"]
        with pytest.raises(ValueError, match=r"a tag 'v1' already, of commit 1"):
            db.tag("v1", message="the secret reason")
        assert db.tag("v1", "v1", "the secret reason") == made
        assert db.tag("again", 1).commit == db.tag("by id", first.commit[:8]).commit == first.commit
        assert db.branch("from v1", "v1").seq == 1
        with pytest.raises(UnknownVersionError, match="there is no version 77"):
            db.tag("v3", 77)
        for name in ("again", "by id"):
            db.delete_tag(name)
    assert (b"secret reason" in store.get("db").body) is (encryption is None)
    let_go(store, below=4)
    collect(store)
    assert is_whole(store)
    assert len(decode_head(store.get("db").body, key="db").tip.parents) == 1
    with ebooklet.open(store, encryption=encryption) as db:
        assert db.tags()["v1"] == made
        assert db["a"] == 2


def test_a_repeated_tag_or_branch_is_the_same_one(opener: Opener) -> None:
    """What an attempt with a lost answer has done already is no conflict when it is repeated."""
    with opener() as db:
        db["a"] = 1
        db.push()
        assert db.tag("v", message="m") == db.tag("v", message="m")
        assert db.branch("b") == db.branch("b")
        with pytest.raises(ValueError, match="already"):
            db.tag("v", message="another message")
        with pytest.raises(ValueError, match="already"):
            db.branch("main")


def test_one_name_means_one_thing(opener: Opener) -> None:
    """No tag is called as a branch is, nor the reverse; of many names the nearest ones are told."""
    with opener() as db:
        db["a"] = 1
        db.push()
        db.tag("v01")
        for make, name, of in ((db.tag, "main", "branch 'main'"), (db.branch, "v01", "tag 'v01'")):
            with pytest.raises(ValueError, match=f"there is a {of}, and version="):
                make(name)
        with pytest.raises(UnknownVersionError, match="'v01' is a tag: branch"):
            db.merge("v01")
        with pytest.raises(UnknownVersionError, match=r"a tag: delete_tag\('v01'\)"):
            db.delete_branch("v01")
        with pytest.raises(UnknownVersionError, match=r"a branch: delete_branch\('main'\)"):
            db.delete_tag("main")
        for n in range(2, 15):
            db.tag(f"v{n:02}")
        with pytest.raises(UnknownVersionError, match=r": 'v14', .* and 4 more \["):
            db.delete_tag("v144")
        with pytest.raises(UnknownVersionError, match=r"tags are 'v14', .* and 4 more;"):
            db.revert("v144")


@pytest.mark.parametrize("name", ["", " a", "a:b", "a\nb", "x" * 101, "\udc80"])
def test_names_that_cannot_be(opener: Opener, name: str) -> None:
    """A name that would not show, or be mistaken in the trash, is refused before any request."""
    with opener() as db:
        for make in (db.tag, db.branch):
            with pytest.raises(ValueError, match="cannot be the name of a"):
                make(name)
        with pytest.raises(TypeError, match="is a str, not int"):
            db.tag(1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="2 KiB"):
            db.tag("v", message="x" * 2049)
        with pytest.raises(RemoteMissingError, match=r"push\(\) creates it"):
            db.tag("v")


def test_what_readers_and_strangers_may_do(opener: Opener) -> None:
    """A reader lists names and makes none; a name that is nowhere is answered by those there are."""
    with opener() as db:
        db["a"] = 1
        db.push()
        db.branch("dev")
        for drop in (db.delete_tag, db.undelete):
            with pytest.raises(UnknownVersionError, match=r"'v'.* there are: none"):
                drop("v")
        with pytest.raises(UnknownVersionError, match="there are: 'dev', 'main'"):
            db.delete_branch("v")
        with pytest.raises(ValueError, match="cannot delete 'main': it is the default branch"):
            db.delete_branch("main")
        assert not db.trash()
    with opener("b", "r") as db:
        assert [(b.name, b.default) for b in db.branches().values()] == [
            ("dev", False),
            ("main", True),
        ]
        calls: list[Callable[[], Any]] = [
            lambda: db.tag("v"),
            lambda: db.branch("b"),
            lambda: db.delete_tag("v"),
            lambda: db.delete_branch("b"),
            lambda: db.undelete("v"),
        ]
        for call in calls:
            with pytest.raises(ReadOnlyError):
                call()


def test_what_is_dropped_comes_back(opener: Opener, url: str) -> None:
    """A deleted branch or tag stays in the trash with its commit, and is taken out as what it was."""
    with opener() as db:
        db["a"] = 1
        db.push()
        db.tag("x", message="words")
        db.delete_tag("x")
        db.branch("x")  # the same name, of another kind
        db.delete_branch("x")
        assert not db.tags()
        assert list(db.branches()) == ["main"]
        assert [(row.name, row.kind, row.seq) for row in db.trash()] == [
            ("x", "branch", 1),
            ("x", "tag", 1),
        ]
        db.branch("x")
        with pytest.raises(ValueError, match="there is a branch 'x'; pass another new_name"):
            db.undelete("x")
        assert db.undelete("x", "y").kind == "branch"
        with pytest.raises(ValueError, match="there is a branch 'y'; pass another new_name"):
            db.undelete("x", "y")
        assert db.undelete("x", "z").kind == "tag"
        assert not db.trash()
        assert list(db.branches()) == ["main", "x", "y"]
        assert db.tags()["z"].message == ""
        db.clear()
        db.push()
        assert [(row.name, row.seq) for row in db.trash()] == [("main", 1)]
        db.undelete("main", "before")
        assert db.branches()["before"].seq == 1
    assert is_whole(store_of(url))


def test_a_branch_comes_back_as_far_as_it_is_retained() -> None:
    """With what other branches have of its line; of what it alone had, with the tip."""
    store = MemoryRemoteStore()
    with ebooklet.open(store, None, "c", "json", lock="optimistic") as db:

        def there_and_back() -> tuple[int, list[int]]:
            db.delete_branch("dev")
            back = db.undelete("dev")
            assert back.oldest_seq == db.branches()["dev"].oldest_seq
            with ebooklet.open(store, branch="dev") as dev:
                return back.oldest_seq, [commit.seq for commit in dev.log()]

        for n in (1, 2):
            db["a"] = n
            db.push()
        db.branch("dev")  # 3
        assert there_and_back() == (1, [2, 1])
        with ebooklet.open(store, None, "w", branch="dev", lock="optimistic") as dev:
            dev["dev"] = 1
            dev.push()  # 6
            assert there_and_back() == (1, [6, 2, 1])
            dev["dev"] = 2
            dev.push()  # 9
        db["a"] = 3
        db.push()  # 10
        db.merge("dev")  # 11
        assert there_and_back() == (1, [9, 6, 2, 1])
        with ebooklet.open(store, None, "w", branch="dev", lock="optimistic") as dev:
            for n in (3, 4):
                dev["dev"] = n
                dev.push()  # 14, 15
        assert there_and_back() == (15, [15])
        with ebooklet.open(store, version=14) as then:
            assert then["dev"] == 3
    assert is_whole(store)


def test_others_that_commit_meanwhile_are_no_obstacle() -> None:
    """A tag that loses the race for the head is put on top of the commit that won it."""
    store = WatchedStore()
    with ebooklet.open(store, None, "c", "json", lock="optimistic") as db:
        db["a"] = 1
        db.push()
        with ebooklet.open(store, None, "w", lock="optimistic") as other:
            other["b"] = 2
            store.before = other.push
            assert db.tag("v").seq == 1
            assert other.tags()["v"].seq == 1
            assert other.pull()
            assert other["a"] == 1
        assert db.pull()
        assert db["b"] == 2
        db["c"] = 3
        assert db.push()
        assert list(db.tags()) == ["v"]


STEPS = ("before", "let go in between", "all of gc in between", "after")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("make", ["tag", "branch"])
def test_a_commit_that_gc_lets_go_is_refused_or_survives(make: str, step: str) -> None:
    """FORMAT 10.5: at each step of gc, a name for the expiring commit is refused, or it survives.

    Fails without: looking at the head of each attempt anew.
    """
    store = WatchedStore()
    with ebooklet.open(store, None, "c", "json", lock="optimistic") as db:
        db.update({f"k{n}": "v" * 200 for n in range(50)})
        db.push()
        with ebooklet.open(store, None, "w", lock="optimistic") as other:
            for n in range(3):
                other.update({f"k{i}": f"{n}" * 200 for i in range(50)})
                other.push()
        call = getattr(db, make)
        if step == "before":
            let_go(store, below=3)
        elif step == "let go in between":
            store.before = lambda: let_go(store, below=3)
        elif step == "all of gc in between":
            store.before = lambda: (let_go(store, below=3), collect(store))
        if step == "after":
            assert call("kept").seq == 1
            let_go(store, below=3)
        else:
            with pytest.raises(SnapshotExpired, match="commit 1 is no longer retained"):
                call("kept")
        collect(store)
        assert is_whole(store)
        names = {**db.tags(), **db.branches()}
        assert ("kept" in names) is (step == "after")
        if step == "after":
            db.load_items()
            assert db["k7"] == "v" * 200


def test_a_branch_reaches_back_as_far_as_its_beginning_did(opener: Opener, url: str) -> None:
    """A branch begun at an older commit keeps what the way there retained, and no more."""
    with opener() as db:
        for n in range(4):
            db["a"] = n
            db.push()
        store = store_of(url)
        let_go(store, below=2)
        with opener("b", "w") as other:
            other["a"] = "later"
            other.push()
        assert db.branch("old").oldest_seq == 2
        assert db.branches()["old"].seq == 4
    report = ebooklet.fsck(url)
    assert report.n_commits == 4  # 2, 3, 4 and the later one


@pytest.mark.parametrize("kept_by", ["tag", "trash"])
def test_a_branch_begun_at_a_name_keeps_what_led_there(opener: Opener, kept_by: str) -> None:
    """Of each branch the newest commits are retained, also of one begun where a tag, or a former tip, is.

    Fails if the commit alone is kept where a name makes it quick to find.
    """
    with opener(history=3) as db:
        for n in range(3):
            db["n"] = n
            assert db.push()
        if kept_by == "tag":
            db.tag("v1")
        else:
            db.clear()
        for n in range(3, 6):
            db["n"] = n
            assert db.push()
        assert db.branch("fix", 3).oldest_seq == 1
        db.gc(grace=0)
        for seq, n in ((1, 0), (2, 1), (3, 2)):
            with opener(None, "r", version=seq) as then:
                assert then["n"] == n
