"""`ebooklet plugins`: what is installed, where it comes from, and what an extra would add."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ebooklet.errors import PluginError, UnknownNameError
from ebooklet.plugins.extras import EXTRAS, install_command
from ebooklet.plugins.groups import GROUPS
from ebooklet.plugins.registry import Plugin, Registry

__all__ = ["plugins"]

_HEADINGS = {
    "local store": "Local stores",
    "remote scheme": "Remote schemes",
    "lock service": "Lock services",
    "serializer": "Serializers",
    "hook plugin": "Hook plugins",
}


def plugins() -> None:
    """List the adapters and serializers that are installed, and what extras would add."""
    console = Console()
    registry = Registry()
    wanted: set[str] = set()
    for group, kind in GROUPS.items():
        found = registry.plugins(group)
        table = Table(title=_HEADINGS[kind], title_justify="left", box=None, pad_edge=False)
        for heading in ("name", "from", "state"):
            table.add_column(heading, overflow="fold")
        for plugin in found:
            rivals = sum(other.name == plugin.name for other in found)
            state = (
                _state(plugin)
                if rivals == 1
                else "claimed by several packages: uninstall all but one"
            )
            if plugin.extra and state.startswith("needs"):
                wanted.add(plugin.extra)
            source = f"{plugin.package} {plugin.version}"
            table.add_row(Text(plugin.name), Text(source), Text(state))
        names = {plugin.name for plugin in found}
        wanted |= {extra for (g, name), extra in EXTRAS.items() if g == group and name not in names}
        if found:
            console.print(table)
            console.print()
    for extra in sorted(wanted):
        console.print(Text(f"More with: {install_command(extra)}"))


def _state(plugin: Plugin) -> str:
    """What a user who asks for this plugin would meet."""
    try:
        plugin.load()
    except UnknownNameError:
        return f"needs: {install_command(plugin.extra or '')}"
    except PluginError as exc:
        return f"broken: {exc.__cause__!r}"
    return "ready"
