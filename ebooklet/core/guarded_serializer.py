"""Serializers of others, called under guard: what goes wrong in one is a `SerializationError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.errors import EBookletError
from ebooklet.ports.serializer import (
    Buffer,
    BufferSerializer,
    Dictionary,
    DictionarySource,
    Serializer,
    TrainedSerializer,
)

__all__ = ["GuardedSerializer", "guarded_serializer"]

B = TypeVar("B")
_OURS: Final = "ebooklet"


class GuardedSerializer:
    """The same serializer, of which errors of ours come out and nothing else, and bytes as bytes.

    A `KeyError` from it would read as an absent key, and a text would be stored in some places
    and break others. It has the optional parts of the port that `source` has.

    Args:
        source: what somebody else wrote.
    """

    dumps: Callable[[Any], bytes]
    loads: Callable[[Any], Any]
    dumps_buffer: Callable[[Any], Buffer]  # this and those below: only if `source` has it
    bind: Callable[[DictionarySource], TrainedSerializer]
    train: Callable[..., Dictionary | None]
    rewrite: Callable[[bytes], bytes]

    def __init__(self, source: Serializer) -> None:
        self.source: Final = source
        self.name: Final = source.name
        self.safe: Final = source.safe
        self.dumps = _writing(source.dumps, self.name, (bytes,))
        self.loads = _reading(source.loads, self.name)
        if isinstance(source, BufferSerializer):
            self.dumps_buffer = _writing(
                source.dumps_buffer, self.name, (bytes, bytearray, memoryview)
            )
        if isinstance(source, TrainedSerializer):
            bind = source.bind
            self.bind = lambda dictionaries: GuardedSerializer(bind(dictionaries))
            self.train, self.rewrite = source.train, _reading(source.rewrite, self.name)

    def __reduce__(self) -> tuple[type[GuardedSerializer], tuple[Serializer]]:
        """Travel to another process by the serializer alone."""
        return GuardedSerializer, (self.source,)


def guarded_serializer(source: Serializer) -> Serializer:
    """A serializer of somebody else's under guard; one of ours as it is, for it keeps its word."""
    if type(source).__module__.partition(".")[0] == _OURS:
        return source
    return GuardedSerializer(source)


def _writing(write: Callable[[Any], B], name: str, kinds: tuple[type, ...]) -> Callable[[Any], B]:
    def written(value: Any, /) -> B:
        try:
            data = write(value)
        except EBookletError:
            raise
        except Exception as exc:  # foreign code may raise anything
            raise encoding_failed(name, value, exc) from exc
        if not isinstance(data, kinds):
            wrong = TypeError(f"it gave {type(data).__name__}, not bytes")
            raise encoding_failed(name, value, wrong)
        return data

    return written


def _reading(read: Callable[[Any], B], name: str) -> Callable[[Any], B]:
    def got(data: Any, /) -> B:
        try:
            return read(data)
        except EBookletError:
            raise
        except Exception as exc:  # foreign code may raise anything
            raise decoding_failed(name, data, exc) from exc

    return got
