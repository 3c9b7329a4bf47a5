"""Whether the labels of a frame come back as they are: Arrow has texts only, and changes in silence.

Beside the texts it notes one type for all labels of a level, which says too little of some kinds.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

__all__ = ["check_labels"]

_NUMBERS: Final = (np.dtype(np.int64), np.dtype(np.float64))


def check_labels(frame: pd.DataFrame) -> None:
    """Refuse labels that would be other ones when they are read, or could not be read.

    Raises:
        TypeError: those of the columns, or the name of a level of the index.
    """
    if not _are_texts(frame.index.names):
        raise TypeError("the name of its index, or of a level of it, is no text")
    columns = frame.columns
    plain = columns.dtype in _NUMBERS or (type(columns) is pd.Index and _are_texts(columns))
    if plain and _are_texts(columns.names):
        return
    levels = columns.levels if isinstance(columns, pd.MultiIndex) else [columns]
    if any(level.inferred_type.startswith("mixed") for level in levels):
        raise TypeError("the labels of its columns are of several types")
    try:
        back = pa.Table.from_pandas(pd.DataFrame(columns=columns)).to_pandas().columns
    except Exception as exc:  # Arrow's and pandas' errors
        raise TypeError("the labels of its columns could not be read again") from exc
    if not back.equals(columns) or _types(back) != _types(columns) or back.names != columns.names:
        raise TypeError("the labels of its columns would not come back as they are")


def _are_texts(labels: Any) -> bool:
    return all(label is None or isinstance(label, str) for label in labels)


def _types(labels: pd.Index[Any]) -> list[object]:
    return [
        type(part)
        for label in labels.tolist()
        for part in (label if isinstance(label, tuple) else (label,))
    ]
