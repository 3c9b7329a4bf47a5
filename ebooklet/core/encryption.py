"""The keys of encrypted databases, as callers give them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeAlias

from ebooklet.ports.cipher import KEY_BYTES, KeySource

KeyOf: TypeAlias = Callable[[str], bytes]
EncryptionLike: TypeAlias = KeySource | KeyOf
"""What `open` takes as `encryption`."""

MAX_KEY_ID_BYTES: Final = 64
MAX_KEY_IDS: Final = 64
"""Most keys that a head, or the record of a commit, can name."""


class Encryption:
    """Keys from wherever the caller has them: a mapping, or a function such as a key service's.

    Args:
        keys: what has the key of each id, 32 bytes.
        current: id of the key that new data are sealed under; None uses the one that the database
            was last written with, so that only its creation needs to name one.

    Raises:
        ValueError: `current` is no id, or the mapping has no key for it.

    Example:
        >>> import secrets
        >>> from ebooklet import Encryption
        >>> Encryption({"2026": secrets.token_bytes(32)}, current="2026")
        <Encryption, current key '2026'>
    """

    __slots__ = ("_keys", "current")

    def __init__(self, keys: Mapping[str, bytes] | KeyOf, current: str | None = None) -> None:
        if not isinstance(keys, Mapping) and not callable(keys):
            raise TypeError(f"keys are a mapping or a function, not {type(keys).__name__}")
        if current is not None:
            check_key_id(current)
            if isinstance(keys, Mapping) and current not in keys:
                raise ValueError(f"there is no key {current!r} among those given")
        self._keys = keys
        self.current: Final = current

    def key(self, key_id: str) -> bytes:
        """The key of this id; raises `LookupError` if there is none."""
        keys = self._keys
        return keys[key_id] if isinstance(keys, Mapping) else keys(key_id)

    def __repr__(self) -> str:
        which = "no current key" if self.current is None else f"current key {self.current!r}"
        return f"<Encryption, {which}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are not pickled: open the database anew where it is needed")


def key_source(given: EncryptionLike) -> KeySource:
    """What a caller gave as `encryption`, a bare function included.

    Raises:
        TypeError: it is neither a source of keys nor a function.
    """
    if isinstance(given, KeySource):
        return given
    if callable(given):
        return Encryption(given)
    raise TypeError(
        "encryption is a KeyFile, an Encryption or a function from key id to key, not "
        f"{type(given).__name__}{_meant(given)}"  # nothing of its content, which may be a key
    )


def _meant(given: object) -> str:
    if isinstance(given, (str, os.PathLike)):
        return "; keys in a file are KeyFile(path)"
    if isinstance(given, (bytes, Mapping)):
        return "; keys at hand are Encryption({id: key}, current=id)"
    return ""


def check_key_id(key_id: object) -> str:
    """Raise `ValueError` for what cannot be the id of a key."""
    if not isinstance(key_id, str) or not key_id.isprintable():
        raise ValueError(f"a key id is printable text, not {key_id!r}")
    if not 0 < len(key_id.encode()) <= MAX_KEY_ID_BYTES:
        raise ValueError(f"a key id has 1 to {MAX_KEY_ID_BYTES} bytes of UTF-8: {key_id[:80]!r}")
    return key_id


def check_key(key: object) -> bytes:
    """Raise `ValueError` for what cannot be a key; says nothing of its content."""
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        what = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise ValueError(f"a key is {KEY_BYTES} bytes, not {what}")
    return key
