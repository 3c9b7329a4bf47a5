"""pandas' data frames, as Booklet's `pd_zstd`."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
import pyarrow as pa

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer
from ebooklet.serializers.feather.checks import checked_table
from ebooklet.serializers.feather.writing import feather

__all__ = ["PANDAS", "PandasSerializer"]


class PandasSerializer:
    """Data frames whose columns Arrow has types for; objects of any other kind are refused."""

    name: Final = "pd_zstd"
    safe: Final = True

    def dumps(self, value: Any, /) -> bytes:
        """Write Feather with zstd at level 1 inside."""
        if getattr(type(value), "to_feather", None) is not pd.DataFrame.to_feather:
            raise encoding_failed(self.name, value, TypeError("only pandas' own data frames can"))
        try:
            return feather(value)
        except Exception as exc:  # Arrow's and pandas' errors, and those of what a cell holds
            raise encoding_failed(self.name, value, exc) from exc

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> pd.DataFrame:
        """Read Feather, once all of it has been checked."""
        try:
            checked_table(data)
            return pd.read_feather(pa.BufferReader(data))
        except Exception as exc:  # Arrow's and pandas' errors
            raise decoding_failed(self.name, data, exc) from exc


PANDAS: Final = PandasSerializer()
