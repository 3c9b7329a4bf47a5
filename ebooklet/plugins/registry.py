"""Names and URL schemes to the objects that packages registered for them, loaded on first use.

The built-ins are entry points of this package like anybody's: there is one door. Nothing in a
bucket or a local file names code; a stored name only selects among what is installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from operator import attrgetter
from typing import Final, NoReturn, TypeAlias, cast

from ebooklet.connection import RemoteAddress
from ebooklet.core.guarded_serializer import guarded_serializer
from ebooklet.core.serializer_names import Part, canonical_name, split_name
from ebooklet.errors import EBookletError, PluginError, UnknownNameError
from ebooklet.plugins.extras import EXTRAS, install_command
from ebooklet.plugins.fitting import misfit
from ebooklet.plugins.groups import (
    GROUPS,
    LOCAL_STORES,
    LOCK_SERVICES,
    REMOTE_STORES,
    SERIALIZERS,
)
from ebooklet.plugins.guarding import failed, guarded
from ebooklet.ports.local_store import LocalOpener
from ebooklet.ports.lock_service import LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.ports.serializer import Serializer

__all__ = [
    "EntryPointSource",
    "LockOpener",
    "Plugin",
    "Registry",
    "RemoteOpener",
    "installed_entry_points",
]

EntryPointSource: TypeAlias = Callable[[], Iterable[EntryPoint]]
RemoteOpener: TypeAlias = Callable[[RemoteAddress], tuple[RemoteStore, str]]
"""Opens an address: the store, and the database's key in it."""
LockOpener: TypeAlias = Callable[..., LockService]

_OURS: Final = "ebooklet"
_OPENERS: Final = (LOCAL_STORES, LOCK_SERVICES, REMOTE_STORES)  # whose objects are functions


@dataclass(frozen=True, slots=True)
class Plugin:
    """One registered name, not loaded yet."""

    group: str
    name: str
    package: str  # the distribution that registered it
    version: str
    entry_point: EntryPoint

    @property
    def label(self) -> str:
        """How messages call it, for example `remote scheme 's3'`."""
        return f"{GROUPS[self.group]} {self.name!r}"

    @property
    def extra(self) -> str | None:
        """The extra of this package that installs what it needs; None when nothing is needed."""
        return EXTRAS.get((self.group, self.name)) if self.package == _OURS else None

    def load(self) -> object:
        """Import what was registered, and see that it is what its group holds.

        Raises:
            UnknownNameError: a built-in whose extra is not installed; the message names it.
            PluginError: it failed to import, or does not fit; the message names the package.
        """
        try:
            loaded: object = self.entry_point.load()
            wanted = misfit(self.group, self.name, loaded)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # a module that calls sys.exit() is to end nobody's program
            if self.extra and _is_foreign_module_missing(exc):
                raise UnknownNameError(
                    f"{self.label} needs a package that is not installed: "
                    f"{install_command(self.extra)}",
                    op="load plugin",
                    key=self.name,
                ) from exc
            raise PluginError(
                f"{self.label} of the package {self.package!r} failed to load "
                f"({type(exc).__name__}: {exc}); update or uninstall that package",
                op="load plugin",
                key=self.name,
            ) from exc
        if wanted is not None:
            raise PluginError(
                f"{self.label} of the package {self.package!r}, {self.entry_point.value}, is not "
                f"{wanted}; update or uninstall that package",
                op="load plugin",
                key=self.name,
            )
        return loaded


def installed_entry_points() -> Iterable[EntryPoint]:
    """The entry points of every installed package in our groups, from one scan of the metadata."""
    found = entry_points()
    return [point for group in GROUPS for point in found.select(group=group)]


class Registry:
    """Looks names up among entry points; scans when first asked, imports only what is asked for.

    Args:
        source: where the entry points come from; installed packages by default.
        prefer: packages, the first one first, whose object is meant where several packages claim
            one name. A name that none of them claims is still refused, for what is installed by
            chance is to decide nothing.
    """

    def __init__(
        self, source: EntryPointSource = installed_entry_points, *, prefer: Sequence[str] = ()
    ) -> None:
        self._source = source
        self._prefer = tuple(map(_normal, prefer))
        self._found: Mapping[str, Mapping[str, tuple[Plugin, ...]]] | None = None
        self._loaded: dict[tuple[str, str], object] = {}
        self._serializers: dict[str, Serializer] = {}

    def remote_store(self, scheme: str) -> RemoteOpener:
        """What opens URLs of this scheme; `a+b` falls to the plugin `a` if none claims it whole.

        What other packages registered raises `PluginError` for all that goes wrong in it and is
        no error of ours, and for what it returns if that is not what it should make.

        Raises:
            UnknownNameError: nothing installed answers to it.
            PluginError: two packages claim it, or it failed to load.
        """
        return cast("RemoteOpener", self._load(REMOTE_STORES, scheme))

    def local_store(self, name: str) -> LocalOpener:
        """What opens local stores of this kind. Raises as `remote_store` does."""
        return cast("LocalOpener", self._load(LOCAL_STORES, name))

    def lock_service(self, name: str) -> LockOpener:
        """What makes lock services of this kind. Raises as `remote_store` does."""
        return cast("LockOpener", self._load(LOCK_SERVICES, name))

    def serializer(self, name: str | None) -> Serializer:
        """The serializer of this name: a format, or one in wrappers with options, as `json+zstd:9`.

        What other packages registered raises `SerializationError` for all that goes wrong in it
        and is no error of ours.

        Raises:
            UnknownNameError: not a name, or nothing installed answers to it.
            PluginError: two packages claim it, or it failed to load.
        """
        canonical = canonical_name(name)
        known = self._serializers.get(canonical)
        if known is None:
            known = self._serializers[canonical] = self._make_serializer(canonical)
        return known

    def names(self, group: str) -> tuple[str, ...]:
        """Every name registered in a group, sorted; nothing is imported."""
        return tuple(sorted(self._plugins().get(group, {})))

    def plugins(self, group: str) -> tuple[Plugin, ...]:
        """Everything registered in a group, sorted by name; rivals for one name stand together."""
        table = self._plugins().get(group, {})
        return tuple(plugin for name in sorted(table) for plugin in table[name])

    def chosen(self, group: str, name: str) -> Plugin | None:
        """Which registration answers to a name; None for no such name, and for an open rivalry."""
        rivals = self._plugins().get(group, {}).get(name, ())
        return rivals[0] if len(rivals) == 1 else self._preferred(rivals)

    def _make_serializer(self, name: str) -> Serializer:
        base, *wrappers = split_name(name)
        plugin = self._find(SERIALIZERS, base.word, name)
        made = guarded_serializer(
            cast("Serializer", self._load(SERIALIZERS, base.word, asked=name))
        )
        if base.options:
            raise UnknownNameError(
                f"serializer {name!r}: {base.word!r} takes no options; write {base.word!r}",
                op="load plugin",
                key=name,
            )
        for wrapper in wrappers:
            plugin = self._find(SERIALIZERS, f"+{wrapper.word}", name)
            wrap = self._load(SERIALIZERS, f"+{wrapper.word}", asked=name)
            wrapped = _wrapped(cast("Callable[..., object]", wrap), made, wrapper, name, plugin)
            if not isinstance(wrapped, Serializer):
                raise _unfit(plugin, name, "a serializer (see ebooklet.ports.serializer)")
            made = guarded_serializer(wrapped)
        if made.name != name:
            # The name is what files and heads store: it has to lead back to the same object.
            raise _unfit(plugin, name, f"an object of that name, but it says {made.name!r}")
        return made

    def _load(self, group: str, name: str, *, asked: str | None = None) -> object:
        """What was registered, which `Plugin.load` has seen to be what its group holds."""
        if (group, name) not in self._loaded:
            plugin = self._find(group, name, asked or name)
            loaded = plugin.load()
            if group in _OPENERS and plugin.package != _OURS:
                loaded = guarded(
                    cast("Callable[..., object]", loaded),
                    group=group,
                    name=name,
                    label=plugin.label,
                    package=plugin.package,
                )
            self._loaded[group, name] = loaded
        return self._loaded[group, name]

    def _find(self, group: str, name: str, asked: str) -> Plugin:
        table = self._plugins().get(group, {})
        rivals = table.get(name)
        if rivals is None and group == REMOTE_STORES:
            rivals = table.get(name.partition("+")[0])
        if rivals is None:
            raise self._unknown(group, name, asked)
        if len(rivals) > 1:
            return self._preferred(rivals) or _refuse(rivals)
        return rivals[0]

    def _preferred(self, rivals: Sequence[Plugin]) -> Plugin | None:
        """The one rival that is meant, if the preferences decide it."""
        for package in self._prefer:
            of_it = [plugin for plugin in rivals if _normal(plugin.package) == package]
            if of_it:
                return of_it[0] if len(of_it) == 1 else None
        return None

    def _unknown(self, group: str, name: str, asked: str) -> UnknownNameError:
        table = self._plugins().get(group, {})
        plain = [known for known in sorted(table) if not known.startswith("+")]
        wrappers = [known for known in sorted(table) if known.startswith("+")]
        parts = [f"unknown {GROUPS[group]} {asked!r}"]
        if name != asked and name[:1] == "+" and name[1:] in table:
            parts[0] += f": {name[1:]!r} is a format, not a wrapper"
        elif name != asked and f"+{name}" in table:
            parts[0] += f": {name!r} is a wrapper, and comes after the format"
        extra = EXTRAS.get((group, name.partition("+")[0]))
        if extra is not None:
            parts.append(f"this installs it: {install_command(extra)}")
        parts.append(f"known: {', '.join(plain) or 'none'}")
        if wrappers:
            parts[-1] += f", and any of them with {' or '.join(wrappers)}"
        others = sorted({e for (g, n), e in EXTRAS.items() if g == group and n not in table})
        if extra is None and others:
            parts.append(f"more come with: {', '.join(install_command(e) for e in others)}")
        if group == SERIALIZERS:
            parts.append("or pass a class with static dumps and loads")
        if not any(p.package == _OURS for rivals in table.values() for p in rivals):
            parts.append(
                "the built-in ones are missing too, as this copy of ebooklet is not installed: "
                "pip install it instead of only putting it on the path"
            )
        return UnknownNameError("; ".join(parts), op="load plugin", key=asked)

    def _plugins(self) -> Mapping[str, Mapping[str, tuple[Plugin, ...]]]:
        if self._found is None:
            self._found = _tabulate(self._source())
        return self._found


def _refuse(rivals: Sequence[Plugin]) -> NoReturn:
    by_package = sorted(rivals, key=attrgetter("package"))
    packages = [plugin.package for plugin in by_package]
    claims = " and ".join(f"{p.package} {p.version} ({p.entry_point.value})" for p in by_package)
    one = _OURS if _OURS in packages else packages[0]
    raise PluginError(
        f"{rivals[0].label} is claimed by {claims}; uninstall all but one of them, or say whose "
        f"is meant, for example by EBOOKLET_PREFER={one} in the environment, or by "
        f"registry=Registry(prefer=[{one!r}]) of ebooklet.plugins.registry",
        op="load plugin",
        key=rivals[0].name,
    )


def _normal(package: str) -> str:
    """A package's name in the one spelling in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _wrapped(
    wrap: Callable[..., object], inner: Serializer, part: Part, name: str, plugin: Plugin
) -> object:
    """Call a wrapper, with its options as one text where the name gives any."""
    given = (inner, part.options) if part.options else (inner,)
    try:
        signature(wrap).bind(*given)
    except TypeError:
        raise UnknownNameError(
            f"serializer {name!r}: the wrapper {part.word!r} takes no options; write "
            f"'+{part.word}'",
            op="load plugin",
            key=name,
        ) from None
    try:
        return wrap(*given)
    except EBookletError:
        raise
    except ValueError as exc:
        raise UnknownNameError(
            f"serializer {name!r}: the wrapper {part.word!r} has no options {part.options!r} "
            f"({exc})",
            op="load plugin",
            key=name,
        ) from exc
    except Exception as exc:
        raise failed(plugin.label, plugin.package, plugin.name, exc) from exc


def _tabulate(points: Iterable[EntryPoint]) -> dict[str, dict[str, tuple[Plugin, ...]]]:
    tables: dict[str, dict[str, tuple[Plugin, ...]]] = {}
    seen: set[tuple[str, str, str, str]] = set()
    for point in points:
        package = (point.dist and point.dist.name) or "an unknown package"
        version = point.dist.version if point.dist else "?"
        identity = (point.group, point.name, package, point.value)
        if point.group in GROUPS and identity not in seen:  # one package may be on the path twice
            seen.add(identity)
            plugin = Plugin(point.group, point.name, package, version, point)
            table = tables.setdefault(point.group, {})
            table[point.name] = (*table.get(point.name, ()), plugin)
    return tables


def _unfit(wrapper: Plugin, name: str, wanted: str) -> PluginError:
    return PluginError(
        f"what {wrapper.label} of the package {wrapper.package!r} makes of {name!r} is not "
        f"{wanted}; update or uninstall that package",
        op="load plugin",
        key=name,
    )


def _is_foreign_module_missing(exc: BaseException) -> bool:
    missing = exc.name if isinstance(exc, ModuleNotFoundError) else None
    return missing is not None and missing.partition(".")[0] != _OURS
