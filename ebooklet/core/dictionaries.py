"""Dictionaries for small values: trained on some of them, kept as bytes, found by their ids.

Source: RFC 8878 §5 (dictionary format), §3.1.1.1.3 (the id in a frame).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import zstandard

from ebooklet.core import cbor
from ebooklet.core.cbor import Malformed
from ebooklet.core.headfields import MAX_DICTIONARIES, MAX_LISTED_DICTIONARIES
from ebooklet.errors import RemoteIntegrityError
from ebooklet.ports.serializer import Dictionary

__all__ = ["Dictionaries", "decode_dictionaries", "encode_dictionaries", "id_of", "train"]

MAX_DICTIONARY_BYTES: Final = 128 * 1024
MAX_SAMPLE: Final = 2_000  # values
# Measured on 100,000 JSON values of 150 bytes, whose zstd frames take 13.4 MB: 5.3 MB with 4, 8 and
# 16 KiB alike, 5.5 MB with 110 KiB. Larger values gain from a larger one.
_LARGEST: Final = 16 * 1024
_SMALLEST: Final = 1024
_SHARE: Final = 16  # it takes no more than one byte in so many of the values that it is for
_MAX_SAMPLE_BYTES: Final = 2 * 1024 * 1024
MAX_VALUE_BYTES: Final = 16 * 1024  # larger ones compress well enough by themselves
_MIN_SAMPLE: Final = 64  # values
_TRIED: Final = 4  # one of so many is not trained on, but tried on
_LEAST_GAIN: Final = 0.1
_MAX_KEPT: Final = MAX_LISTED_DICTIONARIES + MAX_DICTIONARIES  # with those not pushed yet


class Dictionaries:
    """The dictionaries of one database, usable from many threads.

    Attributes:
        more: asked for those that came meanwhile, when one is not known.
    """

    def __init__(self) -> None:
        self.more: Callable[[], Iterable[Dictionary]] = tuple
        self._adding = threading.Lock()
        self._known: dict[int, Dictionary] = {}  # replaced as a whole, and so read without a lock
        self._newest: Dictionary | None = None

    def __reduce__(self) -> tuple[Callable[..., Dictionaries], tuple[tuple[Dictionary, ...]]]:
        """Travel to another process with what is known by now."""
        return _with, (self.all,)

    @property
    def all(self) -> tuple[Dictionary, ...]:
        """Every one that is known, the newest at the end."""
        newest = self._newest
        if newest is None:
            return ()
        return (*(each for each in self._known.values() if each != newest), newest)

    @property
    def newest(self) -> Dictionary | None:
        """The one to write with."""
        return self._newest

    def find(self, number: int) -> Dictionary | None:
        """The one of this id; asks for more when it is not known."""
        if number not in self._known:
            self.add(self.more())
        return self._known.get(number)

    def has(self, number: int) -> bool:
        """Whether the one of this id is known, without asking for more."""
        return number in self._known

    def add(self, dictionaries: Iterable[Dictionary]) -> None:
        """Know these as well; the last is the newest, if there was none.

        Raises:
            RemoteIntegrityError: one has the id of another.
        """
        with self._adding:
            known = dict(self._known)
            last = self._newest
            for each in dictionaries:
                if known.setdefault(each.id, each) != each:
                    raise RemoteIntegrityError(
                        f"this database has two dictionaries of the id {each.id}, and what was "
                        "written with one of them cannot be read; run fsck"
                    )
                last = each
            self._known = known
            self._newest = self._newest or last

    def write_with(self, number: int) -> None:
        """From now on, the known one of this id is the newest."""
        self._newest = self._known[number]


def train(sample: Sequence[bytes], count: int, *, level: int) -> Dictionary | None:
    """Learn a dictionary from values, and try it on others.

    Args:
        sample: some of the values, before compression, from all over; at most `MAX_SAMPLE` count.
        count: how many there are in all.
        level: that they are compressed with.

    Returns:
        None where there is too little to learn from, or too little to gain: a tenth of what they
        take without it, and twice its own size.
    """
    fitting = [value for value in sample if len(value) <= MAX_VALUE_BYTES][:MAX_SAMPLE]
    tried = fitting[::_TRIED]
    learnt: list[bytes | bytearray | memoryview] = [
        *_bounded(value for n, value in enumerate(fitting) if n % _TRIED)
    ]
    if len(learnt) < _MIN_SAMPLE:
        return None
    total = sum(map(len, learnt)) * count // len(learnt)
    size = min(_LARGEST, max(_SMALLEST, total // _SHARE))
    try:
        # Without its parameters it tries several, and takes the best.
        trained = zstandard.train_dictionary(size, learnt)
    except zstandard.ZstdError:
        return None  # they are too short, or have nothing in common
    without = zstandard.ZstdCompressor(level=level).compress
    with_it = zstandard.ZstdCompressor(level=level, dict_data=trained).compress
    before = sum(len(without(value)) for value in tried)
    gain = before - sum(len(with_it(value)) for value in tried)
    data = trained.as_bytes()
    if gain < _LEAST_GAIN * before or gain * count < 2 * len(data) * len(tried):
        return None
    return Dictionary(trained.dict_id(), data)


def encode_dictionaries(dictionaries: Iterable[Dictionary]) -> bytes:
    """What is kept locally."""
    return cbor.encode([[each.id, each.data] for each in dictionaries])


def decode_dictionaries(data: bytes) -> tuple[Dictionary, ...]:
    """Read what was kept locally.

    Raises:
        RemoteIntegrityError: it is damaged.
    """
    try:
        rows = cbor.rows(cbor.decode(data), "dictionaries", _MAX_KEPT)
        return tuple(_dictionary(item) for item in rows)
    except Malformed as exc:
        raise RemoteIntegrityError(f"the dictionaries kept locally are damaged: {exc}") from exc


def _dictionary(item: object) -> Dictionary:
    number, data = cbor.row(item, "a dictionary", 2)
    return Dictionary(
        cbor.uint(number, "a dictionary's id"),
        cbor.blob(data, "a dictionary", limit=MAX_DICTIONARY_BYTES),
    )


def _bounded(values: Iterable[bytes]) -> Iterable[bytes]:
    room = _MAX_SAMPLE_BYTES
    for value in values:
        room -= len(value)
        if room < 0:
            return
        yield value


def _with(known: tuple[Dictionary, ...]) -> Dictionaries:
    made = Dictionaries()
    made.add(known)
    return made


def id_of(data: bytes) -> int:
    """The id that a dictionary says of itself; 0 for what is none."""
    return zstandard.ZstdCompressionDict(data).dict_id()
