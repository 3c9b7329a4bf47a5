"""Two handles on one local file: whoever waits for it knows no less of the remote than the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebooklet.adapters.localfiles import leases
from ebooklet.database import EBooklet
from ebooklet.errors import RemoteRewound
from ebooklet.services import attaching, claiming, misplacing, opening, reopening
from ebooklet.services.heads import HeadStore
from ebooklet.services.request import Request
from ebooklet.testing.clock import ManualClock
from tests.services.conftest import Opener, kinds

Action = Callable[[], object]


@pytest.fixture(autouse=True)
def _short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader's file is soon a writer's."""
    monkeypatch.setattr(leases, "LEASE_S", 0.01)


def once(action: Action) -> Callable[..., None]:
    """Do this at the first call, and nothing at the others."""
    left = [action]

    def call(*_: object) -> None:
        if left:
            left.pop()()

    return call


class Neighbours:
    """One who has the file, and opens of another one in which the first gets on."""

    def __init__(self, opener: Opener, patch: pytest.MonkeyPatch) -> None:
        self._opener = opener
        self._patch = patch

    def open_while(
        self, action: Action, how: str, flag: str = "c", **options: Any
    ) -> EBooklet[Any]:
        """Open the file, while the other does this: once it is waited for, or just before that."""
        if how == "waits":
            options["clock"] = ManualClock(on_sleep=once(action))
        else:
            self.after_head(action)
        return self._opener("a", flag, **options)

    def after_head(self, action: Action) -> None:
        """Have the other do this between the read of the head and the look at the file."""
        call = once(action)
        for module in (opening, reopening):

            def read(request: Request, module: Any = module) -> Any:
                seen = claiming.read_both(request)
                call()
                return seen

            self._patch.setattr(module, "read_both", read)


@pytest.fixture
def neighbours(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> Neighbours:
    return Neighbours(opener, monkeypatch)


def pushes_and_leaves(db: EBooklet[Any], **content: Any) -> Action:
    def act() -> None:
        db.update(content)
        assert db.push().updated
        db.close()

    return act


HOWS = pytest.mark.parametrize("how", ["waits", "comes just after"])


@HOWS
def test_a_database_created_meanwhile_is_not_gone(
    opener: Opener, neighbours: Neighbours, how: str
) -> None:
    """What the first pushed is not pending for the second, whose push undoes nothing of others.

    Fails without: the head read again once the file is open (`afresh.see_again`).
    """
    leaves = pushes_and_leaves(opener("a"), k=1, secret=1, both=1)
    second = neighbours.open_while(leaves, how, conflict="ours")
    assert kinds(second) == {}
    with opener(None, "w") as third:
        del third["secret"]
        third["both"] = 2
        third.push()
    second["b"] = 1
    assert second.push().updated
    assert dict(second) == {"b": 1, "both": 2, "k": 1}
    second.close()


@pytest.mark.parametrize(
    ("how", "flag", "options"),
    [
        ("waits", "c", {}),
        ("waits", "r", {}),
        ("waits", "w", {"offline": "auto"}),
        ("waits", "w", {"lock": "exclusive"}),
        ("comes just after", "w", {}),
    ],
    ids=str,
)
def test_a_commit_made_meanwhile_is_no_rewound_remote(
    opener: Opener, neighbours: Neighbours, how: str, flag: str, options: dict[str, Any]
) -> None:
    """The second begins with what the first pushed, whatever flag and lock it has.

    Fails without: the head read again once the file is open (`afresh.see_again`).
    """
    with opener("a") as db:
        db["k"] = 0
        db.push()
    leaves = pushes_and_leaves(opener("a", "w"), k=1)
    with neighbours.open_while(leaves, how, flag, **options) as second:
        assert second["k"] == 1
        assert not second.offline
        assert kinds(second) == {}
        if flag != "r":
            second["z"] = 1
            assert second.push().seq == 3


def test_who_waited_begins_with_what_others_pushed(opener: Opener, neighbours: Neighbours) -> None:
    """A database that somebody else has created or changed since is known, though not by the file."""
    first = opener("a")

    def act() -> None:
        with opener("b") as other:
            other["k"] = 1
            other.push()
        first.close()

    with neighbours.open_while(act, "waits") as second:
        assert dict(second) == {"k": 1}


@HOWS
def test_reopening_as_a_writer_knows_what_the_file_knows(
    opener: Opener, neighbours: Neighbours, how: str
) -> None:
    """A reader that waits to become the writer begins with what the former one pushed.

    Fails without: `reopening._still`.
    """
    with opener("a") as db:
        db["k"] = 0
        db.push()
    clock = ManualClock()
    second = opener("a", "r", clock=clock)
    leaves = pushes_and_leaves(opener("a", "w"), k=1)
    if how == "waits":
        clock.on_sleep = once(leaves)
    else:
        neighbours.after_head(leaves)
    second.reopen("w")
    second["z"] = 1
    assert second.push().seq == 3
    assert dict(second) == {"k": 1, "z": 1}
    second.close()


@HOWS
def test_a_database_deleted_meanwhile_is_not_taken_up_again(
    opener: Opener, neighbours: Neighbours, how: str
) -> None:
    """The second goes on from what the first kept, on top of nothing.

    Fails without: the look at the head of a deleted remote in `afresh`.
    """
    with opener("a") as db:
        db["k"] = 0
        db.push()
    first = opener("a", "w")

    def act() -> None:
        first.delete_remote()
        first.close()

    with neighbours.open_while(act, how) as second:
        assert second._copy.base is None
        assert kinds(second) == {"k": "added"}
        assert second.push().seq == 2


def test_flag_n_replaces_what_stands_when_its_turn_comes(
    opener: Opener, neighbours: Neighbours
) -> None:
    """The database created meanwhile keeps its uuid, and is replaced by the push, not before.

    Fails without: the file made anew for it (`opening._open_local`).
    """
    first = opener("a")
    uuid = first.uuid
    with neighbours.open_while(pushes_and_leaves(first, k=1), "waits", "n") as second:
        assert (second.uuid, len(second)) == (uuid, 0)
        with opener(None, "r") as reader:
            assert dict(reader) == {"k": 1}
        second["z"] = 1
        assert second.push().updated
    with opener(None, "r") as reader:
        assert dict(reader) == {"z": 1}


def test_a_reader_that_pulls_looks_again_when_the_file_is_ahead(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head read before a neighbour pushed is no rewound remote.

    Fails without: `afresh.newest` in `take_in`.
    """
    with opener("a") as db:
        db["k"] = 0
        db.push()
    reader, writer = opener("a", "r"), opener("a", "w")
    with opener(None, "w") as other:
        other["o"] = 1
        other.push()
    call, read = once(pushes_and_leaves(writer, k=1)), HeadStore.read

    def then(self: HeadStore) -> Any:
        head = read(self)
        if self is reader._copy.heads:
            call()
        return head

    monkeypatch.setattr(HeadStore, "read", then)
    assert reader.pull().seq == 3
    assert dict(reader) == {"k": 1, "o": 1}
    reader.close()


def test_a_reader_that_knows_no_base_takes_the_one_that_comes_meanwhile(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A neighbour gives the file a base, and pushes, between this reader's look at it and the next.

    Fails without: `afresh.newest` in `attaching`.
    """
    with opener("a") as db:
        db["k"] = 0
        db.push()
    shutil.rmtree(tmp_path / "a.blt.ebk")
    look_around = misplacing.look_around

    def act() -> None:
        with opener("a", "w") as writer:
            writer["k"] = 1
            writer.push()

    call = once(act)

    def then(*args: Any, **options: Any) -> None:
        call()
        look_around(*args, **options)

    monkeypatch.setattr(attaching, "look_around", then)
    with opener("a", "r") as reader:
        assert dict(reader) == {"k": 1}


def test_an_uncontended_open_reads_the_head_once(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that finds a remote rewound looks twice, and then says what to do first."""
    reads: list[object] = []
    read = HeadStore.read

    def counted(self: HeadStore) -> Any:
        reads.append(self)
        return read(self)

    with opener("a") as db:
        db["k"] = 0
        db.push()
        store, url_key = db._copy.reachable_remote(), db._copy.db_key
        old = store.get(url_key).body
    monkeypatch.setattr(HeadStore, "read", counted)
    with opener("b", "w") as other:
        assert len(reads) == 1
        other["k"] = 1
        other.push()
    reads.clear()
    with opener("a", "w"):
        assert len(reads) == 1  # the remote has moved on, which is no reason to look again
    store.put(url_key, old)
    reads.clear()
    with pytest.raises(RemoteRewound, match=r"Try again first.*fsck.*gives up"):
        opener("a", "w")
    assert len(reads) == 2
