"""The options of a URL, after its question mark: each adapter says which it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ebooklet.connection import RemoteAddress
from ebooklet.errors import InvalidURLError

__all__ = ["known_options"]


def known_options(address: RemoteAddress, known: Iterable[str] = ()) -> dict[str, str]:
    """The options of a URL, none of them unknown or given twice.

    Args:
        address: the URL.
        known: names of options that its adapter knows.

    Raises:
        InvalidURLError: an option is unknown, or given twice. No message repeats its value.
    """
    options = dict(address.options)
    if unknown := sorted(options.keys() - set(known)):
        names = ", ".join(known) or (
            f"none, as {address.scheme}:// URLs have no options; a '?' in a name is written %3F"
        )
        raise InvalidURLError(f"{address}: unknown options {unknown}; known: {names}")
    if twice := sorted(name for name, n in Counter(n for n, _ in address.options).items() if n > 1):
        raise InvalidURLError(f"{address}: {', '.join(twice)} is given more than once")
    return options
