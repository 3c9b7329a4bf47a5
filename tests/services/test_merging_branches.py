"""Merging a branch into another: three ways, in one commit, whoever takes in whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, TypeAlias

import pytest

import ebooklet
from ebooklet import Encryption
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import decode_head, encode_head
from ebooklet.database import EBooklet
from ebooklet.errors import ConflictError, PendingChangesError, UnknownVersionError
from tests.services.conftest import Opener, kinds

KEYS = Encryption({"a": b"k" * 32}, "a")
State: TypeAlias = tuple[str, int] | None  # value and timestamp (µs); None: absent
STATES: tuple[State, ...] = (None, ("a", 1), ("a", 2), ("b", 1), ("b", 2))
TABLE: Mapping[str, tuple[State, State, State]] = {
    f"{n:03}": states for n, states in enumerate(product(STATES, STATES, STATES))
}
CONFLICT = object()


def oracle(base: State, ours: State, theirs: State) -> State | object:
    """What two dicts of values, with their times beside them, come to."""

    def value(state: State) -> str | None:
        return None if state is None else state[0]

    if ours == theirs:
        return ours
    if ours is not None and theirs is not None and ours[0] == theirs[0]:
        changed = [side for side in (ours, theirs) if side != base]
        return max(changed, key=lambda side: side[1])
    if value(theirs) == value(base):
        return ours
    if value(ours) == value(base):
        return theirs
    return CONFLICT


def put(db: EBooklet[Any], states: Mapping[str, State], *, long: bool) -> None:
    """Bring a database to these states, and push."""
    for key, state in states.items():
        if state is not None:
            db.set(key, state[0] * (200 if long else 1), timestamp=state[1])
        elif key in db:
            del db[key]
    db.push()


def content(db: EBooklet[Any]) -> dict[str, State]:
    """All keys with their values, shortened, and times."""
    times = dict(db.timestamps())
    return {key: (value[:1], _us(times[key])) for key, value in db.items()}


def _us(moment: Any) -> int:
    return moment if isinstance(moment, int) else round(moment.timestamp() * 1_000_000)


def parted(
    cases: Mapping[str, tuple[State, State, State]],
    *,
    long: bool = True,
    encryption: Encryption | None = None,
) -> MemoryRemoteStore:
    """A database whose branches `main` and `dev` are at ours and at theirs."""
    store = MemoryRemoteStore()
    sides = [{key: states[side] for key, states in cases.items()} for side in range(3)]
    with ebooklet.open(store, None, "c", "json", encryption=encryption) as db:
        put(db, {**sides[0], "always": ("a", 1)}, long=long)
        db.branch("dev")
        put(db, {**sides[1], "ours": ("a", 1)}, long=long)
    with ebooklet.open(store, None, "w", branch="dev", encryption=encryption) as db:
        put(db, {**sides[2], "theirs": ("a", 1)}, long=long)
    return store


def is_sound(store: MemoryRemoteStore) -> bool:
    """Whether `fsck` finds nothing to complain of."""
    report = ebooklet.fsck(store, check_objects=True)
    wrong = (report.damaged, report.claimed_but_missing, report.unreadable, report.orphans)
    return not any(wrong)


@pytest.mark.parametrize("long", [False, True], ids=["inline", "in segments"])
def test_the_whole_table_against_a_dict(long: bool) -> None:
    """FORMAT 10.17: absent, a, b, each at two times, on three sides; and merge(a, b) = merge(b, a).

    Fails without: `times=True` in the diffs; comparing theirs with the base; comparing ours with
    the base; DROP where theirs is newer than an equal value.
    """
    expected = {key: oracle(*states) for key, states in TABLE.items()}
    conflicts = [key for key, state in expected.items() if state is CONFLICT]
    store = parted(TABLE, long=long)
    with ebooklet.open(store, None, "w") as db:
        before = content(db)
        with pytest.raises(ConflictError, match="changed both here and in branch 'dev'") as refused:
            db.merge("dev")
        assert list(refused.value.keys) == conflicts
        assert (content(db), db.branches()["main"].seq) == (before, 3)
        db.merge("dev", conflict="theirs")
        for key, (_, _, theirs) in TABLE.items():
            wanted = theirs if expected[key] is CONFLICT else expected[key]
            assert content(db).get(key) == wanted, (key, TABLE[key])
    free = {key: states for key, states in TABLE.items() if key not in conflicts}
    wanted = {key: expected[key] for key in free if expected[key] is not None}
    wanted |= dict.fromkeys(("always", "ours", "theirs"), ("a", 1))
    found = []
    for branch, other in (("main", "dev"), ("dev", "main")):
        store = parted(free, long=long)
        with ebooklet.open(store, None, "w", branch=branch) as db:
            assert db.merge(other)
            assert content(db) == wanted
            base = db._copy.base
            assert base is not None
            found.append(base.commit.fingerprint)
        assert is_sound(store)
        with ebooklet.open(store, branch=branch) as db:
            assert content(db) == wanted
    assert found[0] == found[1]


@pytest.mark.parametrize("encryption", [None, KEYS], ids=["plain", "encrypted"])
def test_a_merge_is_one_commit_with_two_parents(encryption: Encryption | None) -> None:
    """The log tells both lines, the other branch stays, and the next merge goes on from there."""
    cases: dict[str, tuple[State, State, State]] = {"x": (("a", 1), ("a", 1), ("b", 2))}
    store = parted(cases, encryption=encryption)
    with ebooklet.open(store, None, "w", encryption=encryption) as db:
        result = db.merge("dev", message="both")
        assert (result.updated, result.n_set, result.n_deleted) == (True, 2, 0)
        newest, *older = db.log()
        assert (newest.op, newest.message, len(newest.parents)) == ("merge", "both", 2)
        assert {commit.id for commit in older[:2]} == set(newest.parents)
        assert len(older) == 3
        assert db.branches()["dev"].commit in newest.parents
        assert not db.merge("dev").updated
        db["x"] = "again"
        db.push()
    with ebooklet.open(store, None, "w", branch="dev", encryption=encryption) as db:
        db["y"] = "more"
        db.push()
        assert "ours" not in db
        db.merge("main")
        assert (db["x"], db["y"], "ours" in db) == ("again", "more", True)
    with ebooklet.open(store, None, "w", branch="main", encryption=encryption) as db:
        result = db.merge("dev")
        assert result.fast_forward
        assert (db["y"], db["x"]) == ("more", "again")
    assert is_sound(store) or encryption is not None
    with ebooklet.open(store, encryption=encryption) as db:
        assert db["y"] == "more"
        db.load_items()


def test_fast_forward_is_said(opener: Opener) -> None:
    """Where nothing was committed here since, the branch moves to the other's tip, and is told so."""
    with opener() as db:
        db.update({"a": 1, "b": 1})
        first = db.push()
        db.branch("dev")
        nothing = db.merge("dev")
        assert (nothing.updated, nothing.seq, nothing.commit) == (False, 1, first.commit)
    with opener("a", "w", branch="dev") as db:
        db["a"] = 2
        tip = db.push()
    with opener("b", "w") as db:
        assert db["a"] == 1  # a local copy that is stale after
        result = db.merge("dev")
        assert (result.updated, result.fast_forward, result.commit) == (True, True, tip.commit)
        assert (result.n_set, result.n_deleted) == (1, 0)
        assert dict(db) == {"a": 2, "b": 1}
        assert {line.commit for line in db.branches().values()} == {tip.commit}
        db["c"] = 1
        db.push()
    with opener("c", "r") as db:
        assert dict(db) == {"a": 2, "b": 1, "c": 1}
        assert [commit.op for commit in db.log()] == ["push"] * 3


def test_clear_and_refill_changes_what_changed(opener: Opener) -> None:
    """FORMAT 10.17: a branch that was emptied and filled again differs by what differs, no more.

    Fails without: comparing ours with the base.
    """
    values = {f"k{n}": (f"value {n} " * 20, n + 1) for n in range(200)}

    def fill(db: EBooklet[Any], values: Mapping[str, tuple[str, int]]) -> None:
        for key, (value, time) in values.items():
            db.set(key, value, timestamp=time)
        db.push()

    with opener() as db:
        fill(db, values)
        db.branch("dev")
        db["k3"] = "ours"
        db["k200"] = "new"
        db.push()
    with opener("a", "w", branch="dev") as db:
        db.clear()
        db.push()
        fill(db, {**values, "k5": ("theirs", 1000)})
        del db["k7"]
        db.push()
    with opener("b", "w") as db:
        result = db.merge("dev")
        assert (result.n_set, result.n_deleted) == (1, 1)
        assert (db["k3"], db["k5"], db["k200"], "k7" in db, len(db)) == (
            *("ours", "theirs", "new", False),
            200,
        )


@pytest.mark.parametrize(
    ("policy", "merged"),
    [
        ("ours", ("ours", 1, None)),
        ("theirs", ("theirs", None, 2)),
        (lambda key, base, ours, theirs: f"{base}+{ours!r}+{theirs!r}", None),
        (lambda *_: ebooklet.ABSENT, (None, None, None)),
    ],
)
def test_conflicts_by_policy_or_function(
    opener: Opener, policy: Any, merged: tuple[Any, ...] | None
) -> None:
    """Keys that both changed go by the caller's word; a deletion is a value like any other."""
    with opener() as db:
        db.update({"x": "base", "kept": 1, "gone": 0})
        db.set("kept", 0)
        db.push()
        db.branch("dev")
        db.update({"x": "ours", "kept": 1})
        del db["gone"]
        db.push()
    with opener("a", "w", branch="dev") as db:
        db.update({"x": "theirs", "gone": 2})
        del db["kept"]
        db.push()
    if merged is None:
        merged = (
            "base+'ours'+'theirs'",
            "0+1+ebooklet.ABSENT",
            "0+ebooklet.ABSENT+2",
        )
    with opener("b", "w") as db:
        with pytest.raises(ConflictError) as refused:
            db.merge("dev")
        assert refused.value.keys == ("gone", "kept", "x")
        db.merge("dev", conflict=policy)
        assert tuple(db.get(key) for key in ("x", "kept", "gone")) == merged
    with opener("c", "r") as db:
        assert tuple(db.get(key) for key in ("x", "kept", "gone")) == merged


def test_what_is_refused_changes_nothing(opener: Opener) -> None:
    """Unknown branches, its own, two at once, and a merge over what is pending."""
    with opener() as db:
        db["a"] = 1
        db.push()
        db.branch("dev")
        refusals: list[tuple[Callable[[], object], type[Exception], str]] = [
            (
                lambda: db.merge("of"),
                UnknownVersionError,
                "no branch 'of'; there are: 'dev', 'main'",
            ),
            (lambda: db.merge("main"), ValueError, "cannot merge 'main' into itself"),
            (lambda: db.merge(*["dev", "dev"]), TypeError, "one branch at a time"),
            (lambda: db.merge("dev", conflict="mine"), ValueError, "conflict must be"),  # type: ignore[call-overload]
        ]
        for call, kind, message in refusals:
            with pytest.raises(kind, match=message):
                call()
        db["b"] = 1
        with pytest.raises(PendingChangesError, match=r"push\(\) or discard\(\) it first"):
            db.merge("dev")
        assert kinds(db) == {"b": "added"}
        assert db.branches()["main"].seq == 1


def test_a_base_that_is_gone_makes_every_difference_a_conflict() -> None:
    """Nothing agrees by default: what both have alike stays, all else is for somebody to decide.

    Where the other branch's older commits have expired, its tip is no parent either: what ours
    retains is whole, and gc goes on.
    """
    cases: dict[str, tuple[State, State, State]] = {
        "same": (("a", 1), ("b", 2), ("b", 2)),
        "x": (("a", 1), ("a", 1), ("b", 2)),
    }
    store = parted(cases, long=False)
    with ebooklet.open(store, None, "w", branch="dev") as db:
        db["late"] = "1"
        db.push()
    head = decode_head(store.get("db").body, key="db")
    branches = {
        "main": replace(head.branch, oldest_seq=3),
        "dev": replace(head.branches["dev"], oldest_seq=5),
    }
    expired = replace(head, seq=head.seq + 1, write_id=bytes(16), branches=branches)
    store.put("db", encode_head(expired))
    ebooklet.fsck(store, delete_orphans=True, min_age=0)
    with ebooklet.open(store, None, "w") as db:
        with pytest.raises(ConflictError) as refused:
            db.merge("dev")
        assert refused.value.keys == ("late", "ours", "theirs", "x")
        db.merge("dev", conflict="theirs")
        assert content(db) == {
            "always": ("a", 1),
            "late": content(db)["late"],
            "same": ("b", 2),
            "theirs": ("a", 1),
            "x": ("b", 2),
        }
        assert [commit.op for commit in db.log()] == ["merge", "push"]
    assert is_sound(store)


def test_a_merge_that_loses_the_race_takes_in_the_winner(opener: Opener) -> None:
    """Others may push while a merge decides; it decides anew on what they have committed."""
    with opener() as db:
        db.update({"a": 1, "b": 1})
        db.push()
        db.branch("dev")
        db["b"] = 2
        db.push()
    with opener("a", "w", branch="dev") as db:
        db["a"] = 2
        db.push()
    with opener("b", "w") as db, opener("c", "w") as other:
        asked: list[str] = []

        def decide(key: str, base: Any, ours: Any, theirs: Any) -> Any:
            if not asked:
                other["c"] = 3
                other.push()
            asked.append(key)
            return theirs

        other["a"] = 3
        other.push()
        db.merge("dev", conflict=decide)
        assert asked == ["a", "a"]
        assert dict(db) == {"a": 2, "b": 2, "c": 3}
        other.pull()
        assert dict(other) == dict(db)
