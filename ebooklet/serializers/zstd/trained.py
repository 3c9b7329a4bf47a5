"""Zstandard with a dictionary of the database's own, for many small values."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

import zstandard

from ebooklet.core.dictionaries import Dictionaries, train
from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.core.serializer_names import BOOKLET_LEVEL, ZstdOptions, wrapped_name
from ebooklet.errors import SerializationError
from ebooklet.ports.serializer import Buffer, Dictionary, DictionarySource, Serializer
from ebooklet.serializers.zstd.frames import decompress, padded, written_by

__all__ = ["TrainedZstdSerializer"]

_NONE: Final = 0  # the id of a frame that needs no dictionary


class TrainedZstdSerializer:
    """Compresses what another serializer writes, with the newest dictionary there is.

    The header of each frame names its dictionary. Until one is trained, frames are plain.

    Args:
        inner: the other one.
        level: 1 to 22.
        dictionaries: of the database; none by default, see `bind`.
    """

    def __init__(
        self,
        inner: Serializer,
        level: int = BOOKLET_LEVEL,
        dictionaries: DictionarySource | None = None,
    ) -> None:
        self.inner: Final = inner
        self.level: Final = level
        self._dictionaries: DictionarySource = (
            Dictionaries() if dictionaries is None else dictionaries
        )
        self._written = written_by(inner)
        self._contexts = _Contexts()

    def __reduce__(
        self,
    ) -> tuple[type[TrainedZstdSerializer], tuple[Serializer, int, DictionarySource]]:
        """Travel to another process with the dictionaries known by now."""
        return TrainedZstdSerializer, (self.inner, self.level, self._dictionaries)

    @property
    def name(self) -> str:
        """The canonical name: `json+zstd:dict`, `json+zstd:9,dict`."""
        return wrapped_name(self.inner.name, "zstd", str(ZstdOptions(self.level, dictionary=True)))

    @property
    def safe(self) -> bool:
        """As safe as what it wraps."""
        return self.inner.safe

    def bind(self, dictionaries: DictionarySource) -> TrainedZstdSerializer:
        """The same serializer for the values of one database."""
        return TrainedZstdSerializer(self.inner, self.level, dictionaries)

    def dumps(self, value: Any, /) -> bytes:
        """Serialise, then compress."""
        plain = self._written(value)
        try:
            return self._compressed(plain)
        except (zstandard.ZstdError, MemoryError) as exc:
            raise encoding_failed(self.name, value, exc) from exc

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> Any:
        """Decompress with the dictionary that the frame names, then deserialise."""
        return self.inner.loads(self._plain(data))

    def train(self, sample: Sequence[bytes], count: int) -> Dictionary | None:
        """Learn a dictionary from stored values; those written with `encode_value=False` may be none."""
        plain = []
        for stored in sample:
            try:
                plain.append(self._plain(stored))
            except SerializationError:
                continue
        return train(plain, count, level=self.level)

    def rewrite(self, stored: bytes) -> bytes:
        """Compress a stored value with the newest dictionary, unless it is by now."""
        newest = self._dictionaries.newest
        if newest is None or _dictionary_id(stored) == newest.id:
            return stored
        return self._compressed(self._plain(stored))

    def _compressed(self, plain: Buffer) -> bytes:
        frame = self._contexts.compressor(self._dictionaries.newest, self.level).compress(plain)
        return padded(frame, len(plain))

    def _plain(self, data: Buffer) -> bytes:
        number = _dictionary_id(data)
        dictionary = None if number == _NONE else self._dictionaries.find(number)
        if number != _NONE and dictionary is None:
            missing = ValueError(
                f"the dictionary {number} that it needs is none of this database's"
            )
            raise decoding_failed(self.name, data, missing)
        try:
            return decompress(self._contexts.decompressor(dictionary), data)
        except (zstandard.ZstdError, ValueError, MemoryError) as exc:
            raise decoding_failed(self.name, data, exc) from exc


class _Contexts(threading.local):
    """The compressor and decompressors of one thread."""

    def __init__(self) -> None:
        self._compressor: tuple[Dictionary | None, zstandard.ZstdCompressor] | None = None
        self._decompressors: dict[int, zstandard.ZstdDecompressor] = {}

    def compressor(self, dictionary: Dictionary | None, level: int) -> zstandard.ZstdCompressor:
        """One for this dictionary; kept until another one is asked for."""
        if self._compressor is None or self._compressor[0] is not dictionary:
            loaded = _loaded(dictionary)
            if loaded is not None:
                loaded.precompute_compress(level=level)
            made = zstandard.ZstdCompressor(level=level, dict_data=loaded)
            self._compressor = dictionary, made
        return self._compressor[1]

    def decompressor(self, dictionary: Dictionary | None) -> zstandard.ZstdDecompressor:
        """One for this dictionary, of which there are few."""
        number = _NONE if dictionary is None else dictionary.id
        made = self._decompressors.get(number)
        if made is None:
            made = zstandard.ZstdDecompressor(dict_data=_loaded(dictionary))
            self._decompressors[number] = made
        return made


def _loaded(dictionary: Dictionary | None) -> zstandard.ZstdCompressionDict | None:
    if dictionary is None:
        return None
    return zstandard.ZstdCompressionDict(dictionary.data, zstandard.DICT_TYPE_FULLDICT)


def _dictionary_id(data: Buffer) -> int:
    """The dictionary that a frame needs; bytes that are no frame need none to be refused."""
    try:
        return zstandard.get_frame_parameters(data).dict_id
    except zstandard.ZstdError:
        return _NONE
