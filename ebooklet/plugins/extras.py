"""Which extra of this package installs what a built-in adapter or serializer needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ebooklet.plugins.groups import LOCAL_STORES, REMOTE_STORES, SERIALIZERS

__all__ = ["EXTRAS", "install_command"]

EXTRAS: Final[Mapping[tuple[str, str], str]] = {
    (LOCAL_STORES, "lmdb"): "lmdb",
    (REMOTE_STORES, "fsspec"): "fsspec",
    (REMOTE_STORES, "minio"): "minio",
    (REMOTE_STORES, "obstore"): "obstore",
    (SERIALIZERS, "msgpack"): "msgpack",
    (SERIALIZERS, "numpy"): "numpy",
    **{(SERIALIZERS, f"numpy_int{width}"): "numpy" for width in (1, 2, 4, 8)},
    (SERIALIZERS, "pd_zstd"): "pandas",
    (SERIALIZERS, "gpd_zstd"): "geopandas",
    (SERIALIZERS, "wkb"): "wkb",
}
"""(Entry-point group, name) to the extra in `pyproject.toml`, for each that is registered there."""


def install_command(extra: str) -> str:
    """What a user types to get an extra."""
    return f"pip install 'ebooklet[{extra}]'"
