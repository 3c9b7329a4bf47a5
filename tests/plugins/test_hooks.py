"""Hooks: who is called, who may refuse, and what a broken plugin does."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from ebooklet.errors import PluginError
from ebooklet.plugins.groups import HOOKS
from ebooklet.plugins.hooks import Conflict, Hooks, hookimpl, load_hooks
from ebooklet.plugins.registry import Registry

DB: dict[str, object] = {"k": 1}
CONFLICT = Conflict(key="k", base=b"0", ours=b"1", theirs=None)


class Recorder:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

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


class Failing:
    """Raises whatever it is told."""

    @hookimpl
    def before_push(self) -> None:
        raise ValueError("not on Fridays")

    @hookimpl
    def after_push(self) -> None:
        raise ValueError("no network")


RECORDER = Recorder()  # an entry point of the tests below


def test_without_plugins_nothing_happens() -> None:
    """No plugin: false, silent, and no opinion on conflicts."""
    hooks = Hooks()
    hooks.on_open(DB, flag="r")
    hooks.before_push(DB, message=None)
    hooks.after_push(DB, result=None)
    assert not hooks
    assert hooks.on_conflict(DB, CONFLICT) is None


def test_plugins_are_told_in_their_own_words() -> None:
    """Each hook reaches each plugin, with as many arguments as it asks for."""
    one, two = Recorder(), Recorder()
    hooks = load_hooks(Registry(list), [one, two])
    assert hooks
    hooks.on_open(DB, flag="w")
    hooks.before_push(DB, message="why")
    hooks.after_push(DB, result="done")
    hooks.after_pull(DB, result="got")
    expected = [("open", DB, "w"), ("before", "why"), ("after", "done"), ("pull", "got")]
    assert one.heard == two.heard == expected


def test_before_push_may_refuse() -> None:
    """What before_push raises comes out unchanged, so that the push stops."""
    hooks = Hooks({"failing": Failing()})
    with pytest.raises(ValueError, match="not on Fridays"):
        hooks.before_push(DB, message=None)


def test_after_push_cannot_undo() -> None:
    """A failing after_push is a warning that names the plugin; the others are still told."""
    one, two = Recorder(), Recorder()
    hooks = Hooks({"one": one, "failing": Failing(), "two": two})
    with pytest.warns(RuntimeWarning, match="after_push of the hook plugin 'failing'"):
        hooks.after_push(DB, result=7)
    assert one.heard == two.heard == [("after", 7)]


class Decides:
    """Answers every conflict with one word."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    @hookimpl
    def on_conflict(self, conflict: Conflict) -> object:
        assert conflict.key == "k"
        return self.answer


def test_the_first_opinion_counts() -> None:
    """Later plugins are asked first, and None leaves the decision to the next."""
    hooks = Hooks({"a": Decides("ours"), "b": Decides("theirs"), "c": Decides(None)})
    assert hooks.on_conflict(DB, CONFLICT) == "theirs"


def test_nonsense_is_no_decision() -> None:
    """An answer that is neither side is an error, before anything is written."""
    with pytest.raises(PluginError, match="answered 'mine'"):
        Hooks({"odd": Decides("mine")}).on_conflict(DB, CONFLICT)


def test_misspelt_hooks_and_arguments_are_found() -> None:
    """A plugin that would never be called, or could not be, is refused by name."""

    class Misspelt:
        @hookimpl
        def after_pusch(self) -> None: ...

    class Asks:
        @hookimpl
        def after_push(self, bucket: str) -> None: ...

    with pytest.raises(PluginError, match="after_pusch"):
        Hooks({"misspelt": Misspelt()})
    with pytest.raises(PluginError, match=r"asks[\s\S]*bucket"):
        Hooks({"asks": Asks()})


def test_registered_plugins_are_loaded_and_broken_ones_left_out() -> None:
    """A package whose hook plugin cannot be imported gets a warning; the others work."""
    points = [
        EntryPoint("fine", f"{__name__}:RECORDER", HOOKS),
        EntryPoint("broken", "no_such_module:X", HOOKS),
    ]
    with pytest.warns(RuntimeWarning, match="hook plugin 'broken'"):
        hooks = load_hooks(Registry(lambda: points))
    RECORDER.heard.clear()
    hooks.after_pull(DB, result=1)
    assert RECORDER.heard == [("pull", 1)]
