"""Whether bytes have the form of a pickle, told without loading them: nothing of them runs."""

from __future__ import annotations

import pickle
import pickletools
from typing import Final

from ebooklet.core.serialization import decoding_failed, encoding_failed

__all__ = ["PICKLE_FORM", "PickleForm"]

_PROTO: Final = 0x80  # the first opcode of protocols 2 and up, of which Booklet's is one
_WALKED_BYTES: Final = 64 * 1024  # a longer one is looked at at its two ends


class PickleForm:
    """A reader of pickles that makes no object of them."""

    name: Final = "pickle"
    safe: Final = True

    def dumps(self, value: object, /) -> bytes:
        """Make none: what is told of others is all that this is for."""
        raise encoding_failed(self.name, value, TypeError("this only reads"))

    def loads(self, data: bytes, /) -> None:
        """Walk over the opcodes up to STOP, which has to be the last byte.

        Raises:
            SerializationError: it is no pickle.
        """
        try:
            self._check(data)
        except Exception as exc:  # an opcode's argument may be no number, no text, or cut off
            raise decoding_failed(self.name, data, exc) from exc

    def _check(self, data: bytes) -> None:
        if data[:1] != bytes((_PROTO,)) or data[-1:] != pickle.STOP:
            raise ValueError("it does not begin and end as a pickle does")
        if len(data) > _WALKED_BYTES:
            return
        end = max(at or 0 for _, _, at in pickletools.genops(data))
        if end != len(data) - 1:
            raise ValueError(f"it ends as a pickle after {end + 1} of {len(data)} bytes")


PICKLE_FORM: Final = PickleForm()
