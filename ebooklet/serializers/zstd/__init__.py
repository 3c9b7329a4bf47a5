"""Zstandard around any other serializer, with a level and, if asked for, a trained dictionary."""

from __future__ import annotations

from ebooklet.core.serializer_names import ZstdOptions
from ebooklet.ports.serializer import Serializer
from ebooklet.serializers.zstd.plain import ZstdSerializer
from ebooklet.serializers.zstd.trained import TrainedZstdSerializer

__all__ = ["TrainedZstdSerializer", "ZstdSerializer", "wrap"]


def wrap(inner: Serializer, options: str = "") -> Serializer:
    """Put zstd around `inner`: the entry point `+zstd`.

    Raises:
        UnknownNameError: zstd has no such option.
    """
    level, dictionary = ZstdOptions.parse(options)
    return TrainedZstdSerializer(inner, level) if dictionary else ZstdSerializer(inner, level)
