"""Flat numpy arrays of integers as their bytes, little endian, as Booklet's `numpy_int1` to `8`.

Nothing but the elements is stored: no shape, no dtype, and never numpy's own file format, which
can hold pickles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer

__all__ = ["NUMPY_INT1", "NUMPY_INT2", "NUMPY_INT4", "NUMPY_INT8", "NumpyIntegerSerializer"]


@dataclass(frozen=True, slots=True)
class NumpyIntegerSerializer:
    """Arrays whose elements are whole numbers of `width` bytes.

    An array of several dimensions comes back flat, in C order. Elements that Booklet would cut
    off or let wrap around are refused.
    """

    width: int  # bytes an element

    @property
    def name(self) -> str:
        """Booklet's name: `numpy_int1`, …."""
        return f"numpy_int{self.width}"

    @property
    def safe(self) -> bool:
        """True: the bytes are the elements, whatever they are."""
        return True

    def dumps(self, value: Any, /) -> bytes:
        """Store the elements of an array, or of a numpy scalar, each of which has to fit."""
        return self._elements(value).tobytes()

    def dumps_buffer(self, value: Any, /) -> Buffer:
        """The memory of the array itself, where its elements are as they are stored."""
        return np.ascontiguousarray(self._elements(value)).reshape(-1).view("u1").data

    def _elements(self, value: Any) -> NDArray[Any]:
        if not isinstance(value, (np.ndarray, np.generic)):
            raise encoding_failed(self.name, value, TypeError("only numpy arrays can"))
        try:
            array = _whole_numbers(np.asanyarray(value), self._dtype)
        except Exception as exc:  # subclasses of arrays may raise anything
            raise encoding_failed(self.name, value, exc) from exc
        return array

    def loads(self, data: Buffer, /) -> NDArray[np.signedinteger[Any]]:
        """Give the elements as a flat array, which is read-only: a view of the stored bytes."""
        try:
            return np.frombuffer(data, self._dtype)
        except ValueError as exc:
            raise decoding_failed(self.name, data, exc) from exc

    @property
    def _dtype(self) -> np.dtype[np.signedinteger[Any]]:
        return np.dtype(f"<i{self.width}")


def _whole_numbers(array: NDArray[Any], wanted: np.dtype[Any]) -> NDArray[Any]:
    """The array in the wanted dtype, with every element as it was."""
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of {array.dtype} has no whole numbers")
    if np.ma.is_masked(array):
        raise ValueError("masked elements have no number")
    if not np.can_cast(array.dtype, wanted, "safe") and array.size:
        # As Python's own numbers, which compare exactly, floats with integers too.
        low, high = array.min().item(), array.max().item()
        bounds = np.iinfo(wanted)
        if not (bounds.min <= low and high <= bounds.max):
            raise OverflowError(f"elements from {low} to {high} do not fit")
        if array.dtype.kind == "f" and not np.array_equal(np.trunc(array), array):
            raise ValueError("fractions would be cut off")
    return array.astype(wanted, copy=False)


NUMPY_INT1: Final = NumpyIntegerSerializer(1)
NUMPY_INT2: Final = NumpyIntegerSerializer(2)
NUMPY_INT4: Final = NumpyIntegerSerializer(4)
NUMPY_INT8: Final = NumpyIntegerSerializer(8)
