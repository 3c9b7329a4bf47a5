"""A class of the user's own as a serializer: static `dumps` and `loads`, as Booklet takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ebooklet.core.guarded_serializer import guarded_serializer
from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.core.serializer_names import CUSTOM_NAME
from ebooklet.errors import SerializationError
from ebooklet.ports.serializer import Serializer

__all__ = ["CustomSerializer", "as_serializer"]


class CustomSerializer:
    """Wraps a class with static `dumps(value) -> bytes` and `loads(bytes) -> value`.

    Neither a head nor a local file can name it: whoever opens the database passes it again, and
    by that vouches for it. `safe` is what the class says of itself, False when it says nothing.

    Args:
        source: the class, or any object with the two functions.

    Raises:
        TypeError: one of the two is missing.
    """

    name: Final = CUSTOM_NAME

    def __init__(self, source: object) -> None:
        self.source = source
        self.safe = getattr(source, "safe", False) is True
        self._dumps = _function(source, "dumps")
        self._loads = _function(source, "loads")

    def __reduce__(self) -> tuple[type[CustomSerializer], tuple[object]]:
        """Travel to another process by the class alone, which may hold what cannot be pickled."""
        return CustomSerializer, (self.source,)

    def dumps(self, value: Any, /) -> bytes:
        """Call the class's `dumps`, which must give bytes."""
        try:
            data = self._dumps(value)
        except SerializationError:
            raise
        except Exception as exc:  # foreign code may raise anything
            raise encoding_failed(self._label, value, exc) from exc
        if not isinstance(data, bytes):
            kind = type(data).__name__
            raise encoding_failed(self._label, value, TypeError(f"dumps gave {kind}, not bytes"))
        return data

    def loads(self, data: bytes, /) -> Any:
        """Call the class's `loads`."""
        try:
            return self._loads(data)
        except SerializationError:
            raise
        except Exception as exc:  # foreign code may raise anything
            raise decoding_failed(self._label, data, exc) from exc

    @property
    def _label(self) -> str:
        return getattr(self.source, "__name__", type(self.source).__name__)


def as_serializer(source: object) -> Serializer:
    """Take what a caller passed in place of a name: a serializer, under guard, or a class, wrapped.

    Raises:
        TypeError: neither.
    """
    if not isinstance(source, type) and isinstance(source, Serializer):
        return guarded_serializer(source)
    return CustomSerializer(source)


def _function(source: object, name: str) -> Callable[..., Any]:
    function = getattr(source, name, None)
    if not callable(function):
        raise TypeError(
            "value_serializer must be a name, or a class with static dumps and loads; "
            f"{source!r} has no {name}"
        )
    return function  # type: ignore[no-any-return]  # narrowed to a callable of unknown signature
