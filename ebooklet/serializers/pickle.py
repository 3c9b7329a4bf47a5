"""Python's pickle, protocol 5, as Booklet's `pickle`. Loading runs whatever the bytes say."""

from __future__ import annotations

import pickle
from typing import Any, Final

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer

__all__ = ["PICKLE", "PickleSerializer"]

_PROTOCOL: Final = 5  # Booklet's; equal bytes whichever of the two wrote them


class PickleSerializer:
    """Nearly any Python object, for those who trust every writer of the database."""

    name: Final = "pickle"
    safe: Final = False

    def dumps(self, value: Any, /) -> bytes:
        """Pickle with protocol 5."""
        try:
            return pickle.dumps(value, _PROTOCOL)
        except Exception as exc:  # an object's own __reduce__ may raise anything
            raise encoding_failed(self.name, value, exc) from exc

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> Any:
        """Unpickle. Runs code that the bytes choose: only for bytes of a trusted writer."""
        try:
            return pickle.loads(data)  # noqa: S301  # nosec B301  # the caller asked for it by name, see `safe`
        except Exception as exc:  # damaged pickles raise nearly every class
            raise decoding_failed(self.name, data, exc) from exc


PICKLE: Final = PickleSerializer()
