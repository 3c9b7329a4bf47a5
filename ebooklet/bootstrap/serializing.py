"""The serializer of a database's values: its name, and whether values may be read with it."""

from __future__ import annotations

from typing import Any

from ebooklet.core.serializer_names import CUSTOM_NAME, canonical_name
from ebooklet.errors import SerializationError
from ebooklet.plugins.registry import Registry
from ebooklet.ports.serializer import Serializer
from ebooklet.serializers.custom import as_serializer


def serializer_name(given: Any) -> str:
    """The registered name of what a caller gave, or that of all classes of their own."""
    return canonical_name(given) if isinstance(given, str) else CUSTOM_NAME


def serializer_of(given: Any, stored: str, registry: Registry) -> Serializer:
    """The serializer of this stored name; `given` is the class, where it is one of the author's."""
    if stored != CUSTOM_NAME:
        return registry.serializer(stored)
    if given is None or isinstance(given, str):
        raise SerializationError(
            "this database's values are serialised by a class of its author's own; pass that "
            "class as value_serializer"
        )
    return as_serializer(given)


def accepted(
    stored: str, given: Any, *, trusted: bool, allow_pickle: bool | None, registry: Registry
) -> Serializer:
    """The serializer of this name, if values may be read with it (decision 0018).

    Args:
        stored: name that the database goes by.
        given: what the caller named, if anything.
        trusted: whoever can write the values could run code here anyway.
        allow_pickle: the caller's word on it; None goes by whether the serializer was named.
        registry: where names are looked up.

    Raises:
        SerializationError: reading could run code of an author who is not trusted.
    """
    serializer = serializer_of(given, stored, registry)
    named = given is not None and serializer_name(given) == serializer.name
    allowed = named if allow_pickle is None else allow_pickle
    if serializer.safe or allowed or trusted:
        return serializer
    raise SerializationError(
        f"values of this remote are serialised with {serializer.name!r}, which can run code, and "
        "it was opened without credentials, or by a group's entry; if you trust its author, pass "
        "allow_pickle=True, or name that serializer as value_serializer",
        op="open",
    )
