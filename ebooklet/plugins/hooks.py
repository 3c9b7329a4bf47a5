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

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ebooklet.errors import EBookletError, PluginError
from ebooklet.plugins.groups import HOOKS
from ebooklet.plugins.registry import Registry

if TYPE_CHECKING:
    import pluggy

__all__ = ["NAMESPACE", "Conflict", "HookSpecs", "Hooks", "Resolution", "hookimpl", "load_hooks"]

NAMESPACE: Final = "ebooklet"

Resolution: TypeAlias = Literal["ours", "theirs"]
Database: TypeAlias = Mapping[str, Any]
"""The open database, an `ebooklet.EBooklet`."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One key that changed both here and in the remote. None stands for a deleted or absent key."""

    key: str
    base: bytes | None  # what both sides started from, serialised; None also when it is not known
    ours: bytes | None
    theirs: bytes | None


class HookSpecs:
    """The hooks and their promises. Nothing here is called; plugins answer to these names."""

    def on_open(self, db: Database, flag: str) -> None:
        """Learn that a database was opened, after everything is in place.

        Args:
            db: the database, ready for use.
            flag: r, w, c or n.
        """

    def before_push(self, db: Database, message: str | None) -> None:
        """Look at a push before its first request; raise to refuse it.

        What is raised leaves `push` unchanged. Nothing was written, all changes stay pending.

        Args:
            db: the database; `db.changes()` says what would be pushed.
            message: the commit message given to `push`.
        """

    def after_push(self, db: Database, result: object) -> None:
        """Learn that a push ended without raising. It cannot be undone here.

        Args:
            db: the database.
            result: the `PushResult`.
        """

    def after_pull(self, db: Database, result: object) -> None:
        """Learn that a pull ended without raising, whether it brought anything or not.

        Args:
            db: the database.
            result: the `PullResult`.
        """

    def on_conflict(self, db: Database, conflict: Conflict) -> Resolution | None:
        """Decide a conflict before the `conflict=` policy does.

        The first answer that is not None counts; plugins are asked in the order last registered
        first. What is raised leaves `push` unchanged, and nothing was written.

        Args:
            db: the database.
            conflict: the key and its three values.

        Returns:
            "ours", "theirs", or None to leave it to others.
        """


class Hooks:
    """Calls the hooks of a fixed set of plugins; without any, every call returns at once.

    `before_push` and `on_conflict` pass on what a plugin raises. The others only tell what has
    already happened: there a failing plugin becomes a `RuntimeWarning`, and the rest still run.

    Args:
        plugins: name, for messages, to plugin.

    Raises:
        PluginError: a plugin's hook asks for an argument that its specification does not have.
    """

    def __init__(self, plugins: Mapping[str, object] | None = None) -> None:
        self._manager = _manager(plugins) if plugins else None

    def __bool__(self) -> bool:
        """Whether there is any plugin to call."""
        return self._manager is not None

    def on_open(self, db: Database, *, flag: str) -> None:
        """See `HookSpecs.on_open`."""
        self._tell("on_open", db=db, flag=flag)

    def before_push(self, db: Database, *, message: str | None) -> None:
        """See `HookSpecs.before_push`."""
        if self._manager is not None:
            self._manager.hook.before_push(db=db, message=message)

    def after_push(self, db: Database, *, result: object) -> None:
        """See `HookSpecs.after_push`."""
        self._tell("after_push", db=db, result=result)

    def after_pull(self, db: Database, *, result: object) -> None:
        """See `HookSpecs.after_pull`."""
        self._tell("after_pull", db=db, result=result)

    def on_conflict(self, db: Database, conflict: Conflict) -> Resolution | None:
        """See `HookSpecs.on_conflict`.

        Raises:
            PluginError: a plugin answered something else.
        """
        if self._manager is None:
            return None
        answer: object = self._manager.hook.on_conflict(db=db, conflict=conflict)
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

    def _tell(self, hook: str, **arguments: object) -> None:
        manager = self._manager
        if manager is None:
            return
        plugins = list(manager.get_plugins())
        for plugin in plugins:
            alone = manager.subset_hook_caller(hook, [p for p in plugins if p is not plugin])
            try:
                alone(**arguments)
            except Exception as exc:  # noqa: BLE001  plugins may raise anything; see the class
                warnings.warn(
                    f"{hook} of the hook plugin {manager.get_name(plugin)!r} failed: {exc!r}",
                    RuntimeWarning,
                    stacklevel=4,
                )


def load_hooks(registry: Registry, given: Iterable[object] = ()) -> Hooks:
    """Gather the hook plugins that packages registered, and those given.

    A registered plugin that fails to load is left out with a `RuntimeWarning` that names it: a
    broken package must not keep anybody from the data.

    Args:
        registry: where registered plugins are looked up.
        given: plugins of the caller's own, called before the registered ones.
    """
    plugins: dict[str, object] = {}
    for plugin in registry.plugins(HOOKS):
        try:
            plugins[f"{plugin.name} ({plugin.package})"] = plugin.load()
        except EBookletError as exc:
            warnings.warn(str(exc), RuntimeWarning, stacklevel=2)
    for position, own in enumerate(given):
        plugins[f"{type(own).__name__} (given, {position})"] = own
    return Hooks(plugins)


def _manager(plugins: Mapping[str, object]) -> pluggy.PluginManager:
    import pluggy

    manager = pluggy.PluginManager(NAMESPACE)
    tell = pluggy.HookspecMarker(NAMESPACE)
    specs = type("_Specs", (), {})
    for name in ("on_open", "before_push", "after_push", "after_pull", "on_conflict"):
        described: Callable[..., object] = getattr(HookSpecs, name)
        setattr(specs, name, tell(firstresult=name == "on_conflict")(described))
    manager.add_hookspecs(specs)
    for name, plugin in plugins.items():
        try:
            manager.register(plugin, name)
        except (ValueError, pluggy.PluginValidationError) as exc:
            raise PluginError(f"hook plugin {name} does not fit: {exc}", op="load plugin") from exc
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as exc:
        raise PluginError(f"a hook plugin answers to no hook of ours: {exc}") from exc
    return manager


def __getattr__(name: str) -> object:
    if name == "hookimpl":
        import pluggy

        return pluggy.HookimplMarker(NAMESPACE)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    hookimpl = pluggy.HookimplMarker(NAMESPACE)
