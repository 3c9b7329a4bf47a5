"""Numpy arrays of any shape, as `numpy.save` writes them, but never an object in one.

Source: numpy.lib.format (NPY version 1.0).
"""

from __future__ import annotations

import io
import math
import re
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer

__all__ = ["NUMPY", "NumpySerializer"]

_KINDS: Final = "biufcmMSU"  # of dtypes: numbers, booleans, times, bytes, text
_PORTABLE: Final = 16  # bytes of the largest number that is the same on every platform
_MAX_HEADER: Final = 4096  # bytes
_MAGIC: Final = b"\x93NUMPY\x01\x00"
# A Python literal, which is matched and never parsed: Python 3.11's parser is not for threads.
_HEADER: Final = re.compile(
    rb"\{'descr': '(?P<descr>[<>|][a-zA-Z][0-9]{1,9}(?:\[[0-9]{0,9}[a-zA-Z]{1,9}\])?)', "
    rb"'fortran_order': (?P<order>True|False), "
    rb"'shape': \((?P<shape>(?:[0-9]{1,19}(?:, [0-9]{1,19})*,?)?)\),? ?\} *\n?"
)
_LAST_CHARACTER: Final = 0x10FFFF


class NumpySerializer:
    """Arrays of numbers, booleans, times, bytes and text, with their dtype, shape and order.

    A scalar comes back as an array without dimensions.
    """

    name: Final = "numpy"
    safe: Final = True

    def dumps(self, value: Any, /) -> bytes:
        """Write a header and the elements, as `numpy.save` does."""
        header, elements = self._parts(value)
        return b"".join((header, elements))

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> NDArray[Any]:
        """Give an array that is read-only: a view of the stored bytes."""
        try:
            return _array(data)
        except Exception as exc:  # numpy's errors
            raise decoding_failed(self.name, data, exc) from exc

    def _parts(self, value: Any) -> tuple[bytes, memoryview]:
        if not isinstance(value, (np.ndarray, np.generic)):
            raise encoding_failed(self.name, value, TypeError("only numpy arrays can"))
        if np.ma.is_masked(value):
            raise encoding_failed(self.name, value, ValueError("masked elements have no value"))
        try:
            array = np.asarray(value)
            _check_dtype(array.dtype)
            turned = array.flags.f_contiguous and not array.flags.c_contiguous
            header = io.BytesIO()
            npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(array))
            flat = np.ascontiguousarray(array.T if turned else array).reshape(-1)
            return header.getvalue(), flat.view("u1").data if flat.size else memoryview(b"")
        except Exception as exc:  # subclasses of arrays may raise anything
            raise encoding_failed(self.name, value, exc) from exc


def _array(data: Buffer) -> NDArray[Any]:
    start = len(_MAGIC) + 2
    if bytes(data[: len(_MAGIC)]) != _MAGIC:
        raise ValueError("it is no array as numpy.save writes it, in version 1.0")
    end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    found = _HEADER.fullmatch(bytes(data[start : min(end, start + _MAX_HEADER)]))
    if found is None:
        raise ValueError("its header does not say what its elements are")
    dtype = np.dtype(found["descr"].decode())
    _check_dtype(dtype)
    shape = tuple(map(int, re.findall(rb"[0-9]+", found["shape"])))
    elements = memoryview(data)[end:]
    if math.prod(shape) * dtype.itemsize != len(elements):
        raise ValueError("its elements are not as many as its shape says")
    flat: NDArray[Any] = np.frombuffer(elements.toreadonly(), dtype)
    _check_elements(flat)
    return flat.reshape(shape, order="F" if found["order"] == b"True" else "C")


def _check_dtype(dtype: np.dtype[Any]) -> None:
    """Refuse what can hold objects, and what other platforms read otherwise."""
    if dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise TypeError(f"elements of {dtype} cannot be stored")
    if dtype.kind in "fc" and dtype.itemsize > (_PORTABLE if dtype.kind == "c" else 8):
        raise TypeError(f"{dtype} differs between platforms; use float64 or complex128")


def _check_elements(flat: NDArray[Any]) -> None:
    """Refuse bytes that are no elements of their dtype, which numpy takes as they come."""
    if not flat.size:
        return
    if flat.dtype.kind == "b" and flat.view("u1").max() > 1:
        raise ValueError("an element is neither true nor false")
    if flat.dtype.kind == "U":
        characters = flat.view(np.dtype("u4").newbyteorder(flat.dtype.byteorder))
        if characters.max() > _LAST_CHARACTER:
            raise ValueError("an element has a character that there is none of")


NUMPY: Final = NumpySerializer()
