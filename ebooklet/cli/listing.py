"""What is installed, where it comes from, and what an extra would add: for `ebooklet plugins`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ebooklet.bootstrap.installed import INSTALLED
from ebooklet.errors import PluginError, UnknownNameError
from ebooklet.plugins.extras import install_command
from ebooklet.plugins.groups import GROUPS, HOOKS
from ebooklet.plugins.hooks import hooks_of
from ebooklet.plugins.registry import Plugin

__all__ = ["answer"]

_HEADINGS = {
    "local store": "Local stores",
    "remote scheme": "Remote schemes",
    "lock service": "Lock services",
    "serializer": "Serializers",
    "hook plugin": "Hook plugins",
}

State: TypeAlias = Literal["ready", "needs", "broken", "claimed", "passed over"]


@dataclass(frozen=True, slots=True)
class Listed:
    """One registered name, and what a user who asks for it would meet."""

    group: str
    name: str
    package: str
    version: str
    object: str  # where it is, as registered
    state: State
    extra: str | None = None  # that it needs
    reason: str | None = None  # why it is broken

    @property
    def told(self) -> str:
        """The state in words, with the remedy."""
        if self.state == "needs":
            return f"needs: {install_command(self.extra or '')}"
        if self.state == "broken":
            return f"broken: {self.reason}"
        if self.state == "claimed":
            return "claimed by several packages: uninstall all but one, or set EBOOKLET_PREFER"
        if self.state == "passed over":
            return "passed over for another package's, by EBOOKLET_PREFER"
        return "ready"


def answer(*, as_json: bool) -> None:
    """Print what is installed."""
    # What a module prints while it is imported is no part of the answer.
    with redirect_stdout(sys.stderr):
        listed = [_listed(plugin) for group in GROUPS for plugin in INSTALLED.plugins(group)]
    adds: dict[str, list[str]] = {}
    for each in listed:
        if each.state == "needs" and each.extra is not None:
            adds.setdefault(each.extra, []).append(f"{GROUPS[each.group]} {each.name}")
    if as_json:
        extras = [
            {"extra": extra, "install": install_command(extra), "adds": adds[extra]}
            for extra in sorted(adds)
        ]
        typer.echo(
            json.dumps({"plugins": [asdict(each) for each in listed], "extras": extras}, indent=2)
        )
    else:
        _print(listed, adds)


def _listed(plugin: Plugin) -> Listed:
    state, reason = _state(plugin)
    return Listed(
        group=plugin.group,
        name=plugin.name,
        package=plugin.package,
        version=plugin.version,
        object=plugin.entry_point.value,
        state=state,
        extra=plugin.extra,
        reason=reason,
    )


def _state(plugin: Plugin) -> tuple[State, str | None]:
    if plugin.group != HOOKS:  # all hooks are called, whatever their names
        chosen = INSTALLED.chosen(plugin.group, plugin.name)
        if chosen is None:
            return "claimed", None
        if chosen != plugin:
            return "passed over", None
    try:
        loaded = plugin.load()
        if plugin.group == HOOKS:
            hooks_of([loaded])  # whether it could be called
    except UnknownNameError:
        return "needs", None
    except PluginError as exc:
        return "broken", str(exc) if exc.__cause__ is None else repr(exc.__cause__)
    return "ready", None


def _print(listed: Sequence[Listed], adds: dict[str, list[str]]) -> None:
    console = Console()
    for group, kind in GROUPS.items():
        rows = [each for each in listed if each.group == group]
        if not rows:
            continue
        table = Table(title=_HEADINGS[kind], title_justify="left", box=None, pad_edge=False)
        for heading in ("name", "from", "state"):
            table.add_column(heading, overflow="fold")
        for each in rows:
            table.add_row(*map(Text, (each.name, f"{each.package} {each.version}", each.told)))
        console.print(table)
        console.print()
    for extra in sorted(adds):
        console.print(Text(f"More with: {install_command(extra)} ({', '.join(adds[extra])})"))
