"""Hooks: what installed packages, or objects given to `open`, may be told and asked.

A plugin is any object with methods named as in `HookSpecs`, each marked with `hookimpl`; it may
leave out arguments that it does not need. A package registers one under the entry-point group
`ebooklet.hooks`:

    from ebooklet.plugins.hooks import hookimpl

    class Announce:
        @hookimpl
        def after_push(self, db, result):
            print("pushed", len(db), "keys")

    ANNOUNCE = Announce()   # pyproject: [project.entry-points."ebooklet.hooks"]

pluggy carries the calls; it is imported only when there is a plugin.
"""

from __future__ import annotations

import logging
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, get_args

from ebooklet.core.callers import stacklevel
from ebooklet.errors import EBookletError, PluginError
from ebooklet.plugins.fitting import misfit
from ebooklet.plugins.groups import HOOKS
from ebooklet.ports.hooks import Conflict, Hook, HookFailure, Resolution

if TYPE_CHECKING:
    import pluggy

    # The types of what hooks are given; at run time nothing here knows them.
    from ebooklet import EBooklet, PullResult, PushResult
    from ebooklet.plugins.registry import Registry

__all__ = [
    "NAMESPACE",
    "BoundHooks",
    "Conflict",
    "HookFailure",
    "HookSpecs",
    "Hooks",
    "Resolution",
    "hookimpl",
    "hooks_of",
    "load_hooks",
]

NAMESPACE: Final = "ebooklet"
_HOOKS: Final[tuple[Hook, ...]] = get_args(Hook)
_ASK: Final[frozenset[Hook]] = frozenset({"before_push", "on_conflict"})  # may stop what goes on

logger = logging.getLogger("ebooklet")


class HookSpecs:
    """The hooks and their promises; plugins answer to these names.

    Whoever makes a plugin a subclass has mypy compare its methods with these. A method counts
    only if it is marked with `hookimpl`.

    Order: the plugins given to `open` in the order given, then the registered ones by name;
    pluggy's `hookimpl(tryfirst=True)` and `hookimpl(trylast=True)` go before and after all others.

    `before_push` and `on_conflict` stop what goes on by raising. What the others raise cannot: it
    is logged on "ebooklet", shown as a `RuntimeWarning`, and noted in the result; the other hooks
    are still called. A hook may use the database, but a push calls no push, and a pull no pull.
    """

    def on_open(self, db: EBooklet[Any], flag: str) -> None:
        """Learn that a database was opened, after everything is in place.

        Args:
            db: the database, ready for use.
            flag: r, w, c or n.
        """

    def before_push(self, db: EBooklet[Any], message: str | None) -> None:
        """Look at a push before its first request; raise to refuse it.

        What is raised leaves `push` unchanged. Nothing was written, all changes stay pending, and
        the lock is held as before. What is written to the database here is part of the push.

        Args:
            db: the database; `db.changes()` says what would be pushed.
            message: the commit message given to `push`.
        """

    def after_push(self, db: EBooklet[Any], result: PushResult) -> None:
        """Learn that a push ended without raising, whether it committed anything or not.

        Args:
            db: the database.
            result: `result.updated` says whether there was a commit.
        """

    def after_pull(self, db: EBooklet[Any], result: PullResult) -> None:
        """Learn that `pull()` ended without raising, whether it brought anything or not.

        What an open or a push takes in is no pull: `on_open` and `after_push` follow those.

        Args:
            db: the database.
            result: what was found.
        """

    def on_conflict(self, db: EBooklet[Any], conflict: Conflict) -> Resolution | None:
        """Decide a key that changed on both sides, before the `conflict=` policy does.

        Asked by `pull()` when it meets the conflict, and by each push that finds it, again after
        a lost race. The first answer that is not None counts. What is raised leaves `push` or
        `pull` unchanged: nothing was committed, and all conflicts stay.

        Args:
            db: the database.
            conflict: the key and its values.

        Returns:
            "ours": the change stays pending, and is a conflict no more. "theirs": it is dropped.
            None leaves it to others.
        """

    def on_evict(self, db: EBooklet[Any], keys: Sequence[str]) -> None:
        """Learn that values stored locally were dropped, and reading them gives what the remote has.

        By a pull, or by what a push or `reopen` took in, that found newer ones; by `discard`; by a
        conflict settled as "theirs"; by `prune(timestamp)`, after which the value is still the
        same. Not by deletions, nor by what an open takes in before `on_open`.

        Args:
            db: the database.
            keys: which, sorted.
        """


class Hooks:
    """The hooks of a fixed set of plugins, for any number of databases.

    Args:
        plugins: name, for messages, to plugin, in the order in which they are called.

    Raises:
        PluginError: a plugin is none, answers to a hook that there is not, or asks for an argument
            that a hook does not have.
    """

    def __init__(self, plugins: Mapping[str, object] | None = None) -> None:
        self._manager = _manager(plugins) if plugins else None

    def __bool__(self) -> bool:
        """Whether there is any plugin to call."""
        return self._manager is not None

    def bound_to(self, db: object) -> BoundHooks | None:
        """The hooks of this database, which they do not keep alive; None without any plugin."""
        return None if self._manager is None else BoundHooks(self._manager, db)


class BoundHooks:
    """Calls the hooks of one database; see `ebooklet.ports.hooks.DatabaseHooks`."""

    def __init__(self, manager: pluggy.PluginManager, db: object) -> None:
        self._hook = manager.hook
        self._db = weakref.ref(db)  # the database holds these, and ends when nobody else holds it
        self._stack = threading.local()
        self._wanted: frozenset[Hook] = frozenset(n for n in _HOOKS if self._answers(n))

    @property
    def wanted(self) -> frozenset[Hook]:
        """The hooks that a plugin answers to."""
        return self._wanted

    @property
    def running(self) -> frozenset[Hook]:
        """The hooks that this thread is inside of."""
        return getattr(self._stack, "hooks", frozenset())

    def on_open(self, flag: str) -> tuple[HookFailure, ...]:
        """See `HookSpecs.on_open`."""
        return self._tell("on_open", flag=flag)

    def before_push(self, message: str | None) -> None:
        """See `HookSpecs.before_push`."""
        self._ask("before_push", message=message)

    def after_push(self, result: object) -> tuple[HookFailure, ...]:
        """See `HookSpecs.after_push`."""
        return self._tell("after_push", result=result)

    def after_pull(self, result: object) -> tuple[HookFailure, ...]:
        """See `HookSpecs.after_pull`."""
        return self._tell("after_pull", result=result)

    def on_evict(self, keys: Sequence[str]) -> tuple[HookFailure, ...]:
        """See `HookSpecs.on_evict`."""
        return self._tell("on_evict", keys=keys)

    def on_conflict(self, conflict: Conflict) -> Resolution | None:
        """See `HookSpecs.on_conflict`.

        Raises:
            PluginError: a plugin answered something else.
        """
        answer = self._ask("on_conflict", conflict=conflict)
        if answer is None:
            return None
        if answer == "ours":
            return "ours"
        if answer == "theirs":
            return "theirs"
        raise PluginError(
            f"on_conflict of a hook plugin answered {answer!r}; it may answer 'ours', 'theirs' "
            "or None",
            op="on_conflict",
            key=conflict.key,
        )

    def _answers(self, hook: Hook) -> list[pluggy.HookImpl]:
        """The plugins' methods for a hook, in the order in which they are called."""
        caller: pluggy.HookCaller = getattr(self._hook, hook)
        return caller.get_hookimpls()[::-1]

    def _ask(self, hook: Hook, **arguments: object) -> object:
        db = self._db()
        if db is None or hook not in self._wanted:
            return None
        caller: Callable[..., object] = getattr(self._hook, hook)
        with self._inside(hook):
            return caller(db=db, **arguments)

    def _tell(self, hook: Hook, **arguments: object) -> tuple[HookFailure, ...]:
        db = self._db()
        if db is None or hook not in self._wanted:
            return ()
        given = {"db": db, **arguments}
        failures: list[HookFailure] = []
        with self._inside(hook):
            for answer in self._answers(hook):
                try:
                    answer.function(*(given[name] for name in answer.argnames))
                except Exception as exc:  # plugins may raise anything
                    failures.append(HookFailure(hook, answer.plugin_name, repr(exc)))
                    logger.warning(
                        "%s of the hook plugin %s failed", hook, answer.plugin_name, exc_info=exc
                    )
        for failure in failures:
            warnings.warn(
                f"{hook} of the hook plugin {failure.plugin} failed: {failure.error}",
                RuntimeWarning,
                stacklevel=stacklevel(),
            )
        return tuple(failures)

    @contextmanager
    def _inside(self, hook: Hook) -> Iterator[None]:
        before = self.running
        self._stack.hooks = before | {hook}
        try:
            yield
        finally:
            self._stack.hooks = before


def hooks_of(given: Iterable[object]) -> Hooks:
    """The hooks of the caller's own plugins, called in this order.

    Raises:
        PluginError: one of them does not fit; the message names it.
    """
    return Hooks(_named(given))


def load_hooks(registry: Registry, given: Iterable[object] = ()) -> Hooks:
    """Gather the caller's own hook plugins, and those that packages registered.

    A registered plugin that fails to load, or does not fit, is left out with a `RuntimeWarning`
    that names it: a broken package must not keep anybody from the data.

    Args:
        registry: where registered plugins are looked up.
        given: plugins of the caller's own, called before the registered ones.

    Raises:
        PluginError: one of those given does not fit; the message names it.
    """
    plugins = _named(given)
    for plugin in registry.plugins(HOOKS):
        try:
            loaded = plugin.load()
            name = f"{plugin.name!r} of the package {plugin.package!r}"
            _check(name, loaded)
        except EBookletError as exc:
            logger.warning("left out: %s", exc, exc_info=exc)
            warnings.warn(f"left out: {exc}", RuntimeWarning, stacklevel=stacklevel())
        else:
            if not any(loaded is other for other in plugins.values()):
                plugins[name] = loaded
    return Hooks(plugins)


def _named(given: Iterable[object]) -> dict[str, object]:
    return {f"{type(own).__name__} (given, {at})": own for at, own in enumerate(given)}


def _check(name: str, plugin: object) -> None:
    """Raise `PluginError` for what is no plugin of these hooks."""
    _manager({name: plugin})


def _manager(plugins: Mapping[str, object]) -> pluggy.PluginManager:
    import pluggy

    manager = pluggy.PluginManager(NAMESPACE)
    tell = pluggy.HookspecMarker(NAMESPACE)
    specs = type("_Specs", (), {})
    for hook in _HOOKS:
        described: Callable[..., object] = getattr(HookSpecs, hook)
        setattr(specs, hook, tell(firstresult=hook == "on_conflict")(described))
    manager.add_hookspecs(specs)
    # pluggy calls last what was registered first.
    for name, plugin in list(plugins.items())[::-1]:
        wanted = misfit(HOOKS, name, plugin)
        if wanted is not None:
            raise PluginError(f"hook plugin {name} is not {wanted}", op="load plugin")
        try:
            manager.register(plugin, name)
        except (ValueError, pluggy.PluginValidationError) as exc:
            raise PluginError(f"hook plugin {name} does not fit: {exc}", op="load plugin") from exc
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as exc:
        raise PluginError(
            f"a hook plugin answers to no hook of ours, which are {', '.join(_HOOKS)}: {exc}",
            op="load plugin",
        ) from exc
    for hook in set(_HOOKS) - _ASK:
        caller: pluggy.HookCaller = getattr(manager.hook, hook)
        for answer in caller.get_hookimpls():
            if answer.hookwrapper or answer.wrapper:
                # Each is called by itself, so that a failing one stops no other.
                raise PluginError(
                    f"{hook} of the hook plugin {answer.plugin_name} is a wrapper; only "
                    f"{' and '.join(sorted(_ASK))} may be wrapped",
                    op="load plugin",
                )
    return manager


def __getattr__(name: str) -> object:
    if name == "hookimpl":
        import pluggy

        return pluggy.HookimplMarker(NAMESPACE)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    hookimpl = pluggy.HookimplMarker(NAMESPACE)
