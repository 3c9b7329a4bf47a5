"""Hooks by themselves: who is called, in which order, who may refuse, and what a broken one does."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint

import pytest

from ebooklet.errors import PluginError
from ebooklet.plugins.groups import HOOKS
from ebooklet.plugins.hooks import (
    BoundHooks,
    Conflict,
    HookFailure,
    Hooks,
    hookimpl,
    hooks_of,
    load_hooks,
)
from ebooklet.plugins.registry import Registry

CONFLICT = Conflict(key="k", base=b"0", ours=b"1", theirs=None)


class Db(dict[str, object]):
    """Stands for a database: hooks hold it weakly, which a dict does not allow."""


DB = Db(k=1)


def bound(hooks: Hooks, db: object = DB) -> BoundHooks:
    """The hooks of a database, where there are any."""
    found = hooks.bound_to(db)
    assert found is not None
    return found


class Recorder:
    """Notes what it is told."""

    def __init__(self, heard: list[object] | None = None) -> None:
        self.heard: list[object] = [] if heard is None else heard

    @hookimpl
    def on_open(self, db: object, flag: str) -> None:
        self.heard.append(("open", db, flag))

    @hookimpl
    def before_push(self, message: str | None) -> None:  # arguments may be left out
        self.heard.append(("before", message))

    @hookimpl
    def after_push(self, result: object) -> None:
        self.heard.append(("after", result))

    @hookimpl
    def after_pull(self, result: object) -> None:
        self.heard.append(("pull", result))

    @hookimpl
    def on_evict(self, keys: tuple[str, ...]) -> None:
        self.heard.append(("evict", keys))


class Failing:
    """Raises whatever it is told."""

    @hookimpl
    def before_push(self) -> None:
        raise ValueError("not on Fridays")

    @hookimpl
    def after_push(self) -> None:
        raise ValueError("no network")


RECORDER = Recorder()  # entry points of the tests below
NO_PLUGIN = 1


def test_without_plugins_nothing_is_bound() -> None:
    """No plugin, no hooks: a database then asks nobody."""
    hooks = load_hooks(Registry(list))
    assert not hooks
    assert hooks.bound_to(DB) is None


def test_plugins_are_told_in_their_own_words() -> None:
    """Each hook reaches each plugin, with as many arguments as it asks for; what none wants is known."""
    one, two = Recorder(), Recorder()
    hooks = bound(load_hooks(Registry(list), [one, two]))
    hooks.on_open("w")
    hooks.before_push("why")
    hooks.after_push("done")
    hooks.after_pull("got")
    hooks.on_evict(("a",))
    assert one.heard == two.heard
    assert one.heard == [
        *[("open", DB, "w"), ("before", "why"), ("after", "done"), ("pull", "got")],
        ("evict", ("a",)),
    ]
    assert "on_conflict" not in hooks.wanted
    assert hooks.on_conflict(CONFLICT) is None


def test_before_push_may_refuse() -> None:
    """What before_push raises comes out unchanged, so that the push stops."""
    hooks = bound(hooks_of([Failing()]))
    with pytest.raises(ValueError, match="not on Fridays"):
        hooks.before_push(None)


def test_after_push_cannot_undo(caplog: pytest.LogCaptureFixture) -> None:
    """A failing after_push is logged, warned of and returned by name; the others are still told."""
    one, two = Recorder(), Recorder()
    hooks = bound(Hooks({"one": one, "failing": Failing(), "two": two}))
    with pytest.warns(RuntimeWarning, match="after_push of the hook plugin failing") as caught:
        failures = hooks.after_push(7)
    assert caught[0].filename == __file__  # the caller's line, not one of ours
    assert failures == (HookFailure("after_push", "failing", "ValueError('no network')"),)
    assert one.heard == two.heard == [("after", 7)]
    [record] = caplog.records
    assert (record.name, record.levelno) == ("ebooklet", logging.WARNING)
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "no network"


class Says:
    """Notes its name when a push is over, in its place or before or after all others."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.name, self.said = name, said

    @hookimpl
    def before_push(self) -> None:
        self.said.append(self.name)

    @hookimpl
    def after_push(self) -> None:
        self.said.append(self.name)


class SaysFirst(Says):
    @hookimpl(tryfirst=True)
    def before_push(self) -> None:
        self.said.append(self.name)

    @hookimpl(tryfirst=True)
    def after_push(self) -> None:
        self.said.append(self.name)


class SaysLast(Says):
    @hookimpl(trylast=True)
    def before_push(self) -> None:
        self.said.append(self.name)

    @hookimpl(trylast=True)
    def after_push(self) -> None:
        self.said.append(self.name)


SAID: list[str] = []
REGISTERED_A, REGISTERED_B = Says("registered a", SAID), SaysFirst("registered b", SAID)


def test_the_order_of_calls() -> None:
    """The given ones in their order, then the registered by name; tryfirst and trylast over all.

    Mutation: registering the plugins in the order of the calls reverses it.
    """
    points = [
        EntryPoint("b", f"{__name__}:REGISTERED_B", HOOKS),
        EntryPoint("a", f"{__name__}:REGISTERED_A", HOOKS),
    ]
    given = [SaysLast("last", SAID), Says("one", SAID), Says("two", SAID)]
    hooks = bound(load_hooks(Registry(lambda: points), given))
    for tell in (hooks.before_push, hooks.after_push):
        SAID.clear()
        tell("x")
        assert SAID == ["registered b", "one", "two", "registered a", "last"]


class Decides:
    """Answers every conflict with one word."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    @hookimpl
    def on_conflict(self, conflict: Conflict) -> object:
        assert conflict.key == "k"
        return self.answer


def test_the_first_opinion_counts() -> None:
    """Plugins are asked in order, and None leaves the decision to the next."""
    hooks = bound(hooks_of([Decides(None), Decides("theirs"), Decides("ours")]))
    assert hooks.on_conflict(CONFLICT) == "theirs"


def test_nonsense_is_no_decision() -> None:
    """An answer that is neither side is an error, before anything is written."""
    with pytest.raises(PluginError, match="answered 'mine'"):
        bound(hooks_of([Decides("mine")])).on_conflict(CONFLICT)


class Misspelt:
    @hookimpl
    def after_pusch(self) -> None: ...


class Asks:
    @hookimpl
    def after_push(self, bucket: str) -> None: ...


class Unmarked:
    def after_push(self) -> None: ...


class Wraps:
    @hookimpl(wrapper=True)
    def after_push(self) -> object:
        return (yield)


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (Misspelt(), "after_pusch"),
        (Asks(), r"Asks \(given, 0\)[\s\S]*bucket"),
        (Unmarked(), "none of its methods is marked with hookimpl"),
        (Recorder, r"a class: register Recorder\(\)"),
        (Wraps(), "is a wrapper; only before_push and on_conflict"),
        ("text", r"str \(given, 0\) is not a hook plugin"),
    ],
    ids=["misspelt hook", "unknown argument", "unmarked", "class", "wrapper", "text"],
)
def test_what_would_never_be_called_is_refused(plugin: object, said: str) -> None:
    """A plugin that would be silent, or could not be called, is refused by name when it is given."""
    with pytest.raises(PluginError, match=said):
        hooks_of([plugin])


def test_registered_plugins_are_loaded_and_broken_ones_left_out() -> None:
    """A package's hook plugin that cannot be imported, or is none, gets a warning; the others work.

    Mutation: without the check of each by itself, the one that asks for a bucket stops them all.
    """
    points = [
        EntryPoint("fine", f"{__name__}:RECORDER", HOOKS),
        EntryPoint("absent", "no_such_module:X", HOOKS),
        EntryPoint("number", f"{__name__}:NO_PLUGIN", HOOKS),
        EntryPoint("asks", f"{__name__}:ASKS", HOOKS),
    ]
    with pytest.warns(RuntimeWarning) as caught:
        hooks = bound(load_hooks(Registry(lambda: points), [RECORDER]))  # given as well: once
    assert sorted(str(each.message).partition("'")[2].partition("'")[0] for each in caught) == [
        *("absent", "asks", "number")
    ]
    RECORDER.heard.clear()
    hooks.after_pull(1)
    assert RECORDER.heard == [("pull", 1)]


ASKS = Asks()


def test_hooks_do_not_keep_a_database_alive() -> None:
    """A database that nobody else holds ends, and its hooks are silent from then on."""
    db, recorder = Db(), Recorder()
    hooks = bound(hooks_of([recorder]), db)
    hooks.after_pull(1)
    del db
    hooks.after_pull(2)
    assert recorder.heard == [("pull", 1)]
