"""Dictionaries of values: trained by a push, kept in the bucket and beside the local file.

Decision 0027 says why so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from ebooklet.core.dictionaries import (
    MAX_DICTIONARY_BYTES,
    MAX_SAMPLE,
    MAX_VALUE_BYTES,
    decode_dictionaries,
    encode_dictionaries,
)
from ebooklet.core.head import DictionaryRef, Head
from ebooklet.core.headfields import MAX_DICTIONARIES
from ebooklet.core.sealing import Content
from ebooklet.errors import RemoteIntegrityError, SerializationError
from ebooklet.ports.serializer import Dictionary, Serializer, TrainedSerializer
from ebooklet.services.parts import read_block
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.push")

_SLOT: Final = "dictionaries"
_CHUNK_KEYS: Final = 4_000  # whose values are rewritten at once, while other threads wait to set


def bind(copy: WorkingCopy, serializer: Serializer) -> Serializer:
    """The serializer for the values of this database, with the dictionaries that it has."""
    if not isinstance(serializer, TrainedSerializer):
        return serializer
    copy.dictionaries.add(_stored(copy))
    copy.dictionaries.more = partial(_more, copy)
    copy.trained = serializer.bind(copy.dictionaries)
    return copy.trained


def train_at_next_push(copy: WorkingCopy) -> None:
    """Have the next push train a dictionary, whatever there are.

    Raises:
        ReadOnlyError: the database was opened with flag "r".
        ValueError: its serializer uses none, or there are as many as a head lists.
    """
    copy.require_writable("train_dictionary")
    if copy.trained is None:
        raise ValueError(
            f"the values of this database are written without dictionaries "
            f"({copy.settings.value_serializer!r}); create one with a value_serializer as "
            "'json+zstd:dict'"
        )
    if len(copy.dictionaries.all) >= MAX_DICTIONARIES:
        raise ValueError(f"a database may have {MAX_DICTIONARIES} dictionaries, and this one has")
    copy.retrain = True


def take_dictionaries(copy: WorkingCopy, current: Snapshot) -> None:
    """Keep locally what values of this commit need, so that they can be read offline.

    Raises:
        RemoteIntegrityError: one of them is damaged.
        EBookletError: one cannot be fetched.
    """
    listed = current.head.dictionaries
    if not listed:
        return
    known = copy.dictionaries
    known.add(_stored(copy))
    stored = {each.id for each in known.all}
    known.add(_fetched(copy, current.head))
    newest = known.newest
    # One that was trained here and not pushed yet: what is pending was written with it.
    if newest is None or any(row.id == newest.id for row in listed):
        known.write_with(listed[-1].id)
    if not stored.issuperset(row.id for row in listed):
        _store(copy)


def learn(copy: WorkingCopy) -> None:
    """Before a push: train a dictionary if it is time to, and write what is pending with it.

    Durable before any value needs it. A crash while values are rewritten leaves all of them
    readable and pending, some with it and some without; the next push goes on.
    """
    if copy.trained is None:
        return
    with copy.lock:
        copy.pending.absorb()
        unpushed = _is_unpushed(copy)
        anew = copy.retrain or (copy.pending.replace and not unpushed)
        trains = anew or copy.dictionaries.newest is None
        keys = sorted(copy.pending.sets) if trains or unpushed else []
    if trains:
        _train(copy, copy.trained, keys)
        copy.retrain = False
    if _is_unpushed(copy):
        _rewrite(copy, copy.trained, keys)


def dictionaries_of(
    copy: WorkingCopy, last: Head | None, uploader: SegmentUploader, *, anew: bool
) -> tuple[DictionaryRef, ...]:
    """What the next head lists: what the last one does, and those that it does not have yet.

    With `anew`, all of them are laid down, so that they lie under the current key.
    """
    listed = last.dictionaries if last is not None else ()
    if copy.trained is None:
        return listed
    if anew and copy.sealer.seals:
        for row in listed:
            copy.dictionaries.find(row.id)
        listed = ()
    known = {row.id for row in listed}
    new = tuple(
        DictionaryRef(
            each.id,
            uploader.add_dictionary(bytes(copy.sealer.seal(Content.DICTIONARY, each.data))),
        )
        for each in copy.dictionaries.all
        if each.id not in known
    )
    return (*listed, *new)


def _train(copy: WorkingCopy, serializer: TrainedSerializer, keys: Sequence[str]) -> None:
    if len(copy.dictionaries.all) >= MAX_DICTIONARIES:
        logger.warning(
            "no dictionary was trained: the database has %d, and older values need them; copy its "
            "values into a new database to start anew",
            MAX_DICTIONARIES,
        )
        return
    step = max(1, -(-len(keys) // MAX_SAMPLE))
    found = (value.value for _, value in copy.local.get_many(keys[::step]))
    sample = [value for value in found if len(value) <= MAX_VALUE_BYTES]
    trained = serializer.train(sample, len(keys))
    if trained is None:
        logger.info("no dictionary was trained: it would not have paid for %d values", len(keys))
        return
    copy.dictionaries.add((trained,))
    copy.dictionaries.write_with(trained.id)
    _store(copy)
    logger.info("a dictionary of %d bytes was trained (%d)", len(trained.data), trained.id)


def _rewrite(copy: WorkingCopy, serializer: TrainedSerializer, keys: Sequence[str]) -> None:
    """Write pending values with the newest dictionary, timestamps kept."""
    for start in range(0, len(keys), _CHUNK_KEYS):
        chunk = keys[start : start + _CHUNK_KEYS]
        with copy.lock:
            pending = [key for key in chunk if key in copy.pending.sets]
            changed = []
            for key, (timestamp, value) in copy.local.get_many(pending):
                if len(value) > MAX_VALUE_BYTES:
                    continue  # it gains little, and many of them would not fit in memory
                with suppress(SerializationError):  # raw bytes, set with `encode_value=False`
                    if (rewritten := serializer.rewrite(value)) is not value:
                        changed.append((key, rewritten, timestamp))
            copy.local.set_many(changed)


def _is_unpushed(copy: WorkingCopy) -> bool:
    """Whether the newest dictionary is not in the bucket yet."""
    newest = copy.dictionaries.newest
    listed = copy.base.head.dictionaries if copy.base is not None else ()
    return newest is not None and newest.id not in {row.id for row in listed}


def _stored(copy: WorkingCopy) -> tuple[Dictionary, ...]:
    data = copy.local.read_slot(_SLOT)
    try:
        return () if data is None else decode_dictionaries(data)
    except RemoteIntegrityError:
        return ()  # the bucket has them, and a value whose dictionary it has not says so


def _more(copy: WorkingCopy) -> Iterator[Dictionary]:
    """Those that came since: taken in by another process, or listed by the base."""
    yield from _stored(copy)
    if copy.base is not None:
        yield from _fetched(copy, copy.base.head)


def _store(copy: WorkingCopy) -> None:
    copy.local.write_slot(_SLOT, encode_dictionaries(copy.dictionaries.all))


def _fetched(copy: WorkingCopy, head: Head) -> Iterable[Dictionary]:
    """Those of a head that are not known yet."""
    for row in head.dictionaries:
        if not copy.dictionaries.has(row.id):
            sealer = copy.keyring.sealer_of(head)
            data = read_block(
                *(copy.segments, copy.db_key, row.block, sealer, Content.DICTIONARY),
                limit=MAX_DICTIONARY_BYTES,
            )
            yield Dictionary(row.id, data)
