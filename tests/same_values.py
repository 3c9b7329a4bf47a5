"""Whether a value came back as it was, where its library has no plain `==`."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
from geopandas.testing import assert_geodataframe_equal


def assert_same(one: object, other: object) -> None:
    """Compare what has no plain `==` as its library does."""
    if isinstance(other, gpd.GeoDataFrame):
        assert_geodataframe_equal(one, other)
    elif isinstance(other, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(other, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other
        assert type(one) is type(other)
