"""Whether an Arrow file may be given to pandas: what it needs, what is in it, what pandas is told.

Nothing in Feather is a pickle. But Arrow follows offsets that it has not checked unless told to,
some of its types hold much more than they take up, and what pandas is told about columns is text
that it evaluates: as the name of a dtype, as a Python literal.

Source: "Security Considerations" of Arrow's format documents, which asks for full validation of
what is not trusted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ebooklet.core.serialization import inflated_limit
from ebooklet.ports.serializer import Buffer
from ebooklet.serializers.feather.claims import batches

__all__ = ["checked_table", "needed_bytes"]

_FLAT: Final = 8  # bytes that an element takes in pandas
_BOXED: Final = 128  # the same, of one that becomes a Python object
_MAX_TYPE_CHARS: Final = 200  # of a dtype's name
_MAX_ELEMENT: Final = 32  # bytes that a dtype may give an element
_MAX_LITERAL_CHARS: Final = 1000  # Python's parser takes any literal of so many
_EXTENSIONS: Final = frozenset({"pandas.period", "pandas.interval"})
_FLAT_TYPES: Final = (
    *(pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating),
    *(pa.types.is_timestamp, pa.types.is_duration),
)
_BOXED_TYPES: Final = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary),
    *(pa.types.is_fixed_size_binary, pa.types.is_decimal, pa.types.is_date, pa.types.is_time),
)
_LIST_TYPES: Final = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def needed_bytes(data: Buffer) -> int:
    """How much memory a file needs in pandas, as it says itself; nothing of it is allocated.

    Raises:
        ValueError, TypeError: it is no Arrow file, or has a column of a type that is not taken.
        pyarrow.ArrowException: Arrow cannot read it.
    """
    found = list(batches(data))  # before Arrow looks at anything
    schema = pa.ipc.open_file(pa.py_buffer(data)).schema
    weights = [weight for field in schema for weight in _weights(field.type)]
    needed = 0
    for batch in found:
        if batch.is_dictionary:
            needed += _BOXED * sum(batch.lengths)
        else:
            pairs = zip(weights, batch.lengths, strict=True)
            needed += sum(weight * length for weight, length in pairs)
        needed += batch.buffer_bytes
    return needed


def checked_table(data: Buffer) -> pa.Table:
    """Read the columns of a file whose every offset and number is in order.

    Raises:
        ValueError, TypeError, pyarrow.ArrowException: they are not, or take up too much memory.
    """
    needed, limit = needed_bytes(data), inflated_limit(len(data))
    if needed > limit:
        raise ValueError(f"it needs {needed} bytes; at most {limit} are allowed for its length")
    reader = pa.ipc.open_file(pa.py_buffer(data))
    _check_pandas_metadata(reader.schema)
    table = reader.read_all()
    table.validate(full=True)
    return table


def _weights(kind: pa.DataType) -> Iterator[int]:
    """Bytes an element of each array of a column: the column's own, then those inside it.

    Types of which one element can stand for many stored ones (views, runs, unions, maps) are
    none that pandas writes by itself.
    """
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name in _EXTENSIONS:
        kind = kind.storage_type
    if any(is_flat(kind) for is_flat in _FLAT_TYPES):
        yield _FLAT
    elif any(is_boxed(kind) for is_boxed in _BOXED_TYPES):
        yield _BOXED
    elif pa.types.is_dictionary(kind):
        if len([*_weights(kind.value_type)]) != 1:
            raise TypeError(f"a column of {kind} cannot be used")
        yield _FLAT
    elif any(is_list(kind) for is_list in _LIST_TYPES):
        yield _BOXED
        yield from _weights(kind.value_type)
    elif pa.types.is_struct(kind):
        yield 2 * _BOXED
        for field in kind:
            yield from _weights(field.type)
    else:
        raise TypeError(f"a column of {kind} cannot be used")


def _check_pandas_metadata(schema: pa.Schema) -> None:
    text = (schema.metadata or {}).get(b"pandas")
    if text is None:
        return
    told = json.loads(text)
    levels = told.get("column_indexes", [])
    for column in (*told.get("columns", []), *levels):
        for part in ("pandas_type", "numpy_type"):
            _check_dtype(column.get(part))
    if len(levels) > 1 and any(len(name) > _MAX_LITERAL_CHARS for name in schema.names):
        raise ValueError("the name of a column is too long")


def _check_dtype(name: Any) -> None:
    """Refuse a dtype of which one element is large, as `S1000000000`."""
    if name is None:
        return
    if not isinstance(name, str) or len(name) > _MAX_TYPE_CHARS:
        raise ValueError("the dtype of a column is no name of one")
    try:
        element = np.dtype(name).itemsize
    except (TypeError, ValueError, SyntaxError):
        return  # a dtype of pandas
    if element > _MAX_ELEMENT:
        raise ValueError(f"an element of a column would take {element} bytes")
