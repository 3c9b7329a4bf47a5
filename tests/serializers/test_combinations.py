"""Every registered format, plain and in every wrapper that fits: a value comes back, noise does not."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from ebooklet.errors import SerializationError, UnknownNameError
from ebooklet.plugins.groups import SERIALIZERS
from ebooklet.plugins.registry import Registry
from ebooklet.ports.serializer import BufferSerializer

REGISTRY = Registry()
WRAPPERS = ("", "+zstd", "+zstd:19", "+zstd:dict", "+zstd:3,dict")
FORMATS = [name for name in REGISTRY.names(SERIALIZERS) if not name.startswith("+")]
SAMPLES: dict[str, Any] = {
    "bytes": b"some bytes",
    "str": "some text",
    "numpy": np.arange(6.0).reshape(2, 3),
    "pd_zstd": pd.DataFrame({"a": [1, 2]}),
    "gpd_zstd": gpd.GeoDataFrame(geometry=[shapely.Point(1, 2)]),
    "wkb": shapely.Point(1, 2),
}


def sample(name: str) -> Any:
    """A value that the format holds."""
    if name.startswith("numpy_int"):
        return np.array([1, -2, 3])
    if name.startswith(("int", "uint")):
        return 7
    return SAMPLES.get(name, {"a": [1, "two", None]})


@pytest.mark.parametrize("name", FORMATS)
def test_every_wrapper_that_fits_is_sound(name: str) -> None:
    """The name leads back to it, the value comes back from bytes and buffers, noise is refused."""
    value = sample(name)
    for wrapper in WRAPPERS:
        if wrapper and name in ("pd_zstd", "gpd_zstd"):
            with pytest.raises(UnknownNameError, match="compresses by itself"):
                REGISTRY.serializer(name + wrapper)
            continue
        serializer = REGISTRY.serializer(name + wrapper)
        assert REGISTRY.serializer(serializer.name) is serializer
        assert serializer.safe is (name != "pickle")
        stored = serializer.dumps(value)
        assert isinstance(serializer, BufferSerializer)
        assert bytes(serializer.dumps_buffer(value)) == stored
        for data in (stored, memoryview(stored)):
            back = serializer.loads(data)
            assert type(back) is type(value)
            assert serializer.dumps(back) == stored
        if wrapper:
            with pytest.raises(SerializationError):
                serializer.loads(b"noise" * 9)
