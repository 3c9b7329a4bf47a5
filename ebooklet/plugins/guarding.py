"""What other packages registered is called under guard: what goes wrong there names the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Final

from ebooklet.errors import EBookletError, PluginError
from ebooklet.plugins.groups import LOCAL_STORES, LOCK_SERVICES, REMOTE_STORES
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.lock_service import LockService
from ebooklet.ports.remote_store import RemoteStore

__all__ = ["failed", "guarded"]

_MAKES: Final[Mapping[str, str]] = {
    REMOTE_STORES: "a RemoteStore and a key",
    LOCAL_STORES: "a LocalStore",
    LOCK_SERVICES: "a LockService",
}


def guarded(
    opener: Callable[..., object], *, group: str, name: str, label: str, package: str
) -> Callable[..., object]:
    """The same function, of which only errors of ours come out, and only what its group makes.

    What ends a program, as `KeyboardInterrupt` and `SystemExit` do, is let through: unlike an
    import, a call may be met by a signal that is meant for the program.

    Args:
        opener: what the package registered.
        group: under which entry-point group.
        name: under which name.
        label: how messages call it.
        package: the distribution it is of.
    """

    @wraps(opener, updated=())
    def called(*args: object, **kwargs: object) -> object:
        try:
            made = opener(*args, **kwargs)
        except EBookletError:
            raise
        except Exception as exc:
            raise failed(label, package, name, exc) from exc
        if not _is_made(group, made):
            raise PluginError(
                f"{label} of the package {package!r} returned {type(made).__name__}, not "
                f"{_MAKES[group]}; update or uninstall that package",
                op="open",
                key=name,
            )
        return made

    return called


def failed(label: str, package: str, name: str, cause: Exception) -> PluginError:
    """What is raised from `cause` where a package's own function raised it."""
    return PluginError(
        f"{label} of the package {package!r} failed when it was called ({type(cause).__name__}: "
        f"{cause}); mend what that says, or update or uninstall the package",
        op="open",
        key=name,
    )


def _is_made(group: str, made: object) -> bool:
    if group == LOCAL_STORES:
        return isinstance(made, LocalStore)
    if group == LOCK_SERVICES:
        return isinstance(made, LockService)
    match made:
        case (RemoteStore(), str()):
            return True
    return False
