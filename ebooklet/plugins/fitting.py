"""Whether what a package registered is what its group holds."""

from __future__ import annotations

from typing import Final

from ebooklet.plugins.groups import HOOKS, SERIALIZERS
from ebooklet.ports.serializer import Serializer

__all__ = ["HOOK_MARK", "misfit"]

HOOK_MARK: Final = "ebooklet_impl"
"""The attribute that pluggy's marker for our namespace leaves on a method."""


def misfit(group: str, name: str, loaded: object) -> str | None:
    """What `loaded` would have to be, if it is something else; None when it fits."""
    if group == HOOKS:
        return _hooks_misfit(loaded)
    if group == SERIALIZERS and not name.startswith("+"):
        if not isinstance(loaded, Serializer):
            return "a serializer (see ebooklet.ports.serializer)"
        # The name is what files and heads store: it has to lead back to the same object.
        return None if loaded.name == name else f"a serializer of that name, but of {loaded.name!r}"
    return None if callable(loaded) else "a function"


def _hooks_misfit(loaded: object) -> str | None:
    if isinstance(loaded, type):
        return f"a hook plugin, but a class: register {loaded.__name__}(), one of its objects"
    marked = (hasattr(getattr(loaded, name, None), HOOK_MARK) for name in dir(loaded))
    return None if any(marked) else "a hook plugin: none of its methods is marked with hookimpl"
