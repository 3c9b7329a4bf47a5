"""Hooks of open databases: when each runs, what stops what, and what a hook may do."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet import Database, LocalHalf
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.memory import open_store
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.errors import ConflictError, PluginError, PushInProgressError
from ebooklet.plugins.hooks import Conflict, HookFailure, hookimpl
from ebooklet.serializers.json import JSON
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import S3Server

Db = ebooklet.EBooklet[Any]
_names = itertools.count()


@pytest.fixture
def url() -> str:
    """A remote of its own for each test."""
    return f"memory://hooked-{next(_names)}/db"


class Hooked:
    """Calls the functions it is made of, by the names of hooks, and notes every call."""

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        self.hooks = hooks
        self.calls: list[str] = []

    def _call(self, hook: str, *arguments: Any) -> Any:
        self.calls.append(hook)
        answer = self.hooks.get(hook)
        return None if answer is None else answer(*arguments)

    @hookimpl
    def on_open(self, db: Db, flag: str) -> None:
        self._call("on_open", db, flag)

    @hookimpl
    def before_push(self, db: Db, message: str | None) -> None:
        self._call("before_push", db, message)

    @hookimpl
    def after_push(self, db: Db, result: ebooklet.PushResult) -> None:
        self._call("after_push", db, result)

    @hookimpl
    def after_pull(self, db: Db, result: ebooklet.PullResult) -> None:
        self._call("after_pull", db, result)

    @hookimpl
    def on_conflict(self, db: Db, conflict: Conflict) -> Any:
        return self._call("on_conflict", db, conflict)

    @hookimpl
    def on_evict(self, db: Db, keys: tuple[str, ...]) -> None:
        self._call("on_evict", db, keys)


def fails(*_: object) -> None:
    """A hook's body that raises."""
    raise ValueError("no network")


def opened(url: str, *plugins: object, flag: Any = "c", **options: Any) -> Db:
    """The database at `url` with these plugins, beside other writers."""
    options.setdefault("lock", "optimistic")
    serializer = "json" if flag in "cn" else None
    return ebooklet.open(url, None, flag, serializer, plugins=plugins, **options)


@contextmanager
def in_conflict(url: str, *plugins: object, **options: Any) -> Iterator[Db]:
    """A database in which `a`, `b` and `c` changed on both sides; `c` was deleted here."""
    with opened(url) as other:
        other.update({"a": "base", "b": "base", "c": "base"})
        other.push()
    with opened(url, *plugins, **options) as db:
        db.update({"a": "ours", "b": "ours"})
        del db["c"]
        with opened(url) as other:
            other.update({"a": "theirs", "b": "theirs", "c": "theirs"})
            other.push()
        yield db


@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_on_open_comes_when_everything_is_in_place(url: str, flag: str) -> None:
    """The hook is told the flag, and reads, or writes and pushes, as anybody could."""
    with opened(url) as db:
        db["k"] = 1
        db.push()

    def look(db: Db, told: str) -> None:
        assert told == flag
        seen.append(dict(db))
        if db.writable:
            db["by hook"] = 2
            assert db.push()

    seen: list[dict[str, Any]] = []
    plugin = Hooked(on_open=look)
    with opened(url, plugin, flag=flag) as db:
        assert seen == [{} if flag == "n" else {"k": 1}]
        assert ("by hook" in db) == db.writable
    assert plugin.calls[:1] == ["on_open"]


def test_a_failing_on_open_keeps_nobody_out(url: str) -> None:
    """The database opens, with a warning; where warnings are errors, nothing stays locked."""
    with (
        pytest.warns(
            RuntimeWarning, match=r"on_open of the hook plugin Hooked \(given, 0\) failed"
        ),
        opened(url, Hooked(on_open=fails), lock="exclusive") as db,
    ):
        db["k"] = 1
    with pytest.raises(RuntimeWarning):  # made an error by the settings of these tests
        opened(url, Hooked(on_open=fails), lock="exclusive")
    opened(url, lock="exclusive", lock_timeout=0).close()


def test_a_push_in_order(url: str) -> None:
    """before_push sees what is pending and may add to it; after_push has the result."""
    results: list[ebooklet.PushResult] = []

    def stamp(db: Db, message: str | None) -> None:
        assert [change["key"] for change in db.changes()] == ["k"]
        db["why"] = message

    plugin = Hooked(before_push=stamp, after_push=lambda _, result: results.append(result))
    with opened(url, plugin) as db:
        db["k"] = 1
        result = db.changes().push("first")
        assert results == [result]
        assert result
        assert result.n_set == 2
        plugin.hooks.clear()
        assert not db.push().updated  # nothing to do; a hook is told of that as well
        assert plugin.calls == ["on_open", *("before_push", "after_push") * 2]
    with opened(url, flag="r") as db:
        assert dict(db) == {"k": 1, "why": "first"}


def test_a_refused_push_changes_nothing(url: str) -> None:
    """What before_push raises comes out as it is; all stays pending, the lock is held as before.

    Mutation: asking after the commit, or freeing the lease on the way out, fails this.
    """
    plugin = Hooked(before_push=fails)
    with opened(url, plugin, lock="exclusive") as db:
        db["k"] = 1
        db.set_metadata("m")
        lock = db.lock
        assert lock is not None
        with pytest.raises(ValueError, match="no network"):
            db.push()
        assert db.lock is lock
        lock.verify()
        assert [change["kind"] for change in db.changes()] == ["added"]
        with pytest.raises(ebooklet.RemoteMissingError):
            opened(url, flag="r")
        assert plugin.calls == ["on_open", "before_push"]
        plugin.hooks.clear()
        assert db.push()
    with opened(url, flag="r") as db:
        assert (dict(db), db.get_metadata()) == ({"k": 1}, "m")


def test_a_failure_after_the_commit_is_reported(url: str) -> None:
    """after_push cannot undo a push: the commit stands, and the result says who failed."""
    with opened(url, Hooked(after_push=fails, after_pull=fails)) as db:
        db["k"] = 1
        with pytest.warns(RuntimeWarning, match="after_push"):
            result = db.push()
        assert result
        assert result.hook_failures == (
            HookFailure("after_push", "Hooked (given, 0)", "ValueError('no network')"),
        )
        assert not db.changes()
        with pytest.warns(RuntimeWarning, match="after_pull"):
            assert [each.hook for each in db.pull().hook_failures] == ["after_pull"]
    with opened(url, flag="r") as db:
        assert dict(db) == {"k": 1}


def test_after_pull_follows_pulls_alone(url: str) -> None:
    """`pull()` is told with its result; what an open or a push takes in is none."""
    results: list[ebooklet.PullResult] = []
    plugin = Hooked(after_pull=lambda _, result: results.append(result))
    with opened(url) as other:
        other["a"] = 1
        other.push()
        with opened(url, plugin) as db:
            other["a"] = 2
            other.push()
            db["b"] = 1
            assert db.push()  # meets the other commit
            assert "after_pull" not in plugin.calls
            other.push(force_push=True)
            assert results == [db.pull()]
            assert results[0].updated


@pytest.mark.parametrize("way", ["push", "pull"])
def test_on_conflict_decides_before_the_policy(url: str, way: str) -> None:
    """Each key goes as its hook says, with the values of all sides; others are left to the policy.

    Mutations: applying what was decided before all were asked, or leaving the base of a kept key
    where it was, fails this.
    """
    asked: dict[str, Conflict] = {}

    def rule(db: Db, conflict: Conflict) -> str | None:
        assert db[conflict.key] == "ours" if conflict.ours else conflict.key not in db
        asked[conflict.key] = conflict
        return {"a": "ours", "b": "theirs", "c": None}[conflict.key]

    plugin = Hooked(on_conflict=rule)
    with in_conflict(url, plugin) as db:
        if way == "push":
            with pytest.raises(ConflictError) as caught:
                db.push()
            assert caught.value.keys == ("c",)
            assert db["b"] == "ours"  # nothing is settled by a push that is refused
        else:
            with pytest.warns(UserWarning, match="'c' changed both here"):
                assert db.pull().conflicts == ("c",)
            assert db["b"] == "theirs"
        assert asked["a"].base == asked["c"].base == b'"base"'
        assert [asked[key].ours for key in "abc"] == [b'"ours"', b'"ours"', None]
        assert [asked[key].theirs for key in "abc"] == [b'"theirs"'] * 3
        for each in asked.values():
            assert each.ours_timestamp is not None
            assert each.theirs_timestamp is not None
            assert each.ours_timestamp < each.theirs_timestamp
        assert db.push(conflict="ours")
        assert dict(db) == {"a": "ours", "b": "theirs"}
        assert plugin.calls.count("on_conflict") == (6 if way == "push" else 4)
    with opened(url, flag="r") as db:
        assert dict(db) == {"a": "ours", "b": "theirs"}


@pytest.mark.parametrize("way", ["push", "pull"])
@pytest.mark.parametrize("answer", [fails, lambda *_: "mine"], ids=["raises", "nonsense"])
def test_a_failing_rule_stops_cleanly(url: str, way: str, answer: Callable[..., Any]) -> None:
    """What on_conflict raises comes out of both; every conflict stays, nothing is committed."""

    def rule(db: Db, conflict: Conflict) -> Any:
        return "theirs" if conflict.key == "a" else answer()

    with in_conflict(url, Hooked(on_conflict=rule)) as db:
        with pytest.raises((ValueError, PluginError)):
            db.push() if way == "push" else db.pull()
        assert {c["key"]: c["kind"] for c in db.changes()} == {
            "a": "modified",
            "b": "modified",
            "c": "deleted",
        }
        assert db["a"] == "ours"
    with opened(url, flag="r") as other:
        assert set(other.values()) == {"theirs"}


def test_a_key_written_while_its_rule_runs_is_kept(url: str) -> None:
    """A newer write of another thread is not what the rule gave up, and stays pending."""

    def rule(db: Db, conflict: Conflict) -> str:
        writer = threading.Thread(target=db.__setitem__, args=(conflict.key, "newer"))
        writer.start()
        writer.join()
        return "theirs"

    with in_conflict(url, Hooked(on_conflict=rule)) as db:
        db.pull()
        assert db["a"] == "newer"
        assert {change["key"] for change in db.changes()} == {"a", "b", "c"}


def test_a_decision_outlives_the_session(url: str, tmp_path: Path) -> None:
    """What a pull's rule kept is no conflict in the next session either, with no rule at all.

    Mutation: not journalling the new base brings the conflict back.
    """
    path = tmp_path / "a.blt"
    with opened(url) as other:
        other["k"] = "base"
        other.push()
        rule = Hooked(on_conflict=lambda *_: "ours")
        with ebooklet.open(url, path, "w", lock="optimistic", plugins=[rule]) as db:
            db["k"] = "ours"
            other["k"] = "theirs"
            other.push()
            assert db.pull().conflicts == ()
        with ebooklet.open(url, path, "w", lock="optimistic") as db:
            assert db.push()
            assert db["k"] == "ours"


def test_a_reader_decides_nothing(url: str, tmp_path: Path) -> None:
    """A handle that cannot write asks no rule: the conflict stays for a writer.

    Mutation: asking all the same drops another session's change.
    """
    path = tmp_path / "a.blt"
    with opened(url) as other:
        other["k"] = "base"
        other.push()
        with ebooklet.open(url, path, "w", lock="optimistic") as db:
            db["k"] = "ours"
        rule = Hooked(on_conflict=lambda *_: "theirs")
        with ebooklet.open(url, path, plugins=[rule]) as db:
            other["k"] = "theirs"
            other.push()
            with pytest.warns(UserWarning, match="'k' changed both here"):
                assert db.pull().conflicts == ("k",)
            assert db["k"] == "ours"
            assert rule.calls == ["on_open", "after_pull"]


def test_a_conflict_without_opinion_is_left_to_the_policy(url: str) -> None:
    """With no answer, a push does as `conflict=` says."""
    with in_conflict(url, Hooked(), conflict="theirs") as db:
        db.push()
        assert dict(db) == {"a": "theirs", "b": "theirs", "c": "theirs"}


def test_on_evict_names_what_was_dropped(url: str) -> None:
    """A pull, a push, discard and prune tell which local copies they dropped; a deletion tells nothing.

    Mutation: telling at once, under the lock, hangs in `look`, which reads from another thread.
    """
    evicted: list[tuple[str, ...]] = []

    def look(db: Db, keys: tuple[str, ...]) -> None:
        evicted.append(keys)
        reader = threading.Thread(target=lambda: [db.get(key) for key in keys])
        reader.start()
        reader.join()

    with opened(url) as other:
        other.update({"a": 1, "b": 1, "c": 1})
        other.push()
        with opened(url, Hooked(on_evict=look)) as db:
            assert db.load_items() == {}
            other["a"] = 2
            del other["b"]
            other.push()
            db.pull()
            assert evicted.pop() == ("a", "b")
            assert db["a"] == 2
            other["a"] = 3
            other.push()
            db["d"] = 1
            db.push()
            assert evicted.pop() == ("a",)
            db.update({"a": 4, "e": 5})
            db.discard()
            assert evicted.pop() == ("a", "e")
            del db["c"]
            assert not evicted
            db.prune(timestamp=2**55)
            assert evicted.pop() == ("a", "d")
            assert dict(db) == {"a": 3, "d": 1}
    assert not evicted


def test_a_failing_on_evict_is_reported_with_the_pull(url: str) -> None:
    """What on_evict raises stops nothing, and stands in the result of what evicted."""
    with opened(url) as other:
        other["a"] = 1
        other.push()
        with opened(url, Hooked(on_evict=fails)) as db:
            assert db["a"] == 1
            other["a"] = 2
            other.push()
            with pytest.warns(RuntimeWarning, match="on_evict"):
                assert [each.hook for each in db.pull().hook_failures] == ["on_evict"]
            assert db["a"] == 2


@pytest.mark.parametrize(
    ("hook", "call", "stops"),
    [
        ("before_push", "push", True),
        ("on_conflict", "push", True),
        ("on_conflict", "pull", True),
        ("after_push", "push", False),
        ("after_pull", "pull", False),
        ("on_evict", "push", False),
        ("on_evict", "pull", False),
    ],
)
def test_a_hook_cannot_call_what_it_belongs_to(url: str, hook: str, call: str, stops: bool) -> None:
    """The same call again is a clear error: raised where a hook may stop, else reported.

    Mutation: without the check, `push` in `after_push` calls itself until the stack is full.
    """
    plugin = Hooked(**{hook: lambda db, *_: getattr(db, call)()})
    with in_conflict(url, plugin, conflict="theirs") as db:
        if stops:
            with pytest.raises(PluginError, match=rf"{call}\(\) was called from inside .* {hook}"):
                db.push()
            assert len(db.changes()) == 3
            return
        with pytest.warns((RuntimeWarning, UserWarning)):
            failures = [*db.push().hook_failures, *db.pull().hook_failures]
        assert {each.hook for each in failures} == {hook}
        assert all(f"{call}() was called from inside" in each.error for each in failures)


def test_what_a_hook_may_call(url: str) -> None:
    """before_push may pull, after_push may pull and prune, after_pull may push."""
    plugin = Hooked(
        before_push=lambda db, _: db.pull(),
        after_push=lambda db, _: db.prune(),
        after_pull=lambda db, _: db.push() if "w" in db and len(plugin.calls) < 9 else None,
    )
    with opened(url) as other:
        other["o"] = 1
        other.push()
        with opened(url, plugin) as db:
            db["k"] = 1
            assert db.push().hook_failures == ()
            plugin.hooks = {"after_pull": lambda db, _: db.push()}
            db["w"] = 1
            assert db.pull().hook_failures == ()
    with opened(url, flag="r") as db:
        assert dict(db) == {"k": 1, "o": 1, "w": 1}


def test_other_work_is_refused_or_waits_for_nothing(url: str) -> None:
    """While a hook of a push runs, other threads read and write; their pushes are refused at once."""

    def elsewhere(db: Db, _: object) -> None:
        def work() -> None:
            db["from elsewhere"] = db["k"]
            with pytest.raises(PushInProgressError):
                db.push()
            done.append(len(db))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    done: list[int] = []
    with opened(url, Hooked(before_push=elsewhere)) as db:
        db["k"] = 1
        assert db.push().n_set == 2
        assert done == [2]


@pytest.mark.parametrize("hook", ["before_push", "on_conflict"])
def test_a_hook_that_closes_the_database_stops_the_push(url: str, hook: str) -> None:
    """What is closed under a push's feet is not pushed."""
    plugin = Hooked(**{hook: lambda db, _: db.close()})
    with in_conflict(url, plugin) as db, pytest.raises(ValueError, match="closed"):
        db.push()
    with opened(url, flag="r") as other:
        assert set(other.values()) == {"theirs"}


def test_groups_and_typed_factories_have_hooks(url: str) -> None:
    """`open_ebooklet` and `open_rcg` take plugins too, and reopen goes on with them."""
    plugin = Hooked()
    with ebooklet.open_rcg(url, flag="c", plugins=[plugin]) as group:
        group.push()
        group.reopen("r")
        group.pull()
    with ebooklet.open_ebooklet(None, flag="c", plugins=[plugin]):
        assert plugin.calls == ["on_open", "before_push", "after_push", "after_pull", "on_open"]


@pytest.mark.parametrize("plugins", [Hooked(), "text", 3], ids=["one", "text", "number"])
def test_plugins_are_a_list(tmp_path: Path, plugins: Any) -> None:
    """Anything but a list of plugins is refused before a file is made."""
    with pytest.raises(TypeError, match="plugins is a list of hook plugins"):
        ebooklet.open(None, tmp_path / "db", "c", plugins=plugins)
    with pytest.raises(PluginError, match="is not a hook plugin"):
        ebooklet.open(None, tmp_path / "db", "c", plugins=[object()])
    assert list(tmp_path.iterdir()) == []


def test_an_embedded_database_has_those_it_is_given() -> None:
    """`Database(plugins=…)` calls them as any other does."""
    clock = SystemClock()
    plugin = Hooked(before_push=fails)
    with Database[Any](
        local=LocalHalf(open_store=open_store, path=None, clock=clock),
        remote=MemoryRemoteStore(f"hooked-{next(_names)}"),
        serializer=JSON,
        clock=clock,
        plugins=[plugin],
    ) as db:
        db["a"] = 1
        with pytest.raises(ValueError, match="no network"):
            db.push()
        assert plugin.calls == ["on_open", "before_push"]


def test_without_plugins_nothing_is_loaded() -> None:
    """Opening, pushing and pulling without a plugin does not import pluggy.

    Mutation: building a manager for no plugins imports it.
    """
    code = """
import sys, ebooklet
with ebooklet.open("memory://none", flag="c", value_serializer="json") as db:
    db["k"] = 1
    db.push()
    db.pull()
    assert db._copy.hooks is None
assert "pluggy" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_refusal_makes_no_request(moto: S3Server, tmp_path: Path) -> None:
    """On a real server: before_push comes before the first request, and the lock stays held.

    Mutation: asking inside `_Push.run`, after the head was read, makes one request.
    """
    bucket = moto.new_bucket()
    with CountingProxy(moto.endpoint_url) as proxy:
        plugin = Hooked(before_push=fails)
        connection = replace(moto.connection(bucket, "db"), endpoint_url=proxy.url)
        with ebooklet.open(connection, tmp_path / "a.blt", "c", "json", plugins=[plugin]) as db:
            db["k"] = 1
            at_open = proxy.counts().requests
            with pytest.raises(ValueError, match="no network"):
                db.push()
            assert proxy.counts().requests == at_open
            assert db.lock is not None
            db.lock.verify()
            plugin.hooks = {"after_push": fails}
            with pytest.warns(RuntimeWarning, match="after_push"):
                result = db.push()
            assert result
            assert len(result.hook_failures) == 1
    with ebooklet.open(moto.connection(bucket, "db"), tmp_path / "b.blt") as db:
        assert dict(db) == {"k": 1}
