"""Which strings may be keys, and which names branches and tags (CONTRACT §5, §12)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeGuard

from ebooklet.errors import InvalidKeyError

__all__ = [
    "MAX_KEY_BYTES",
    "RESERVED_KEYS",
    "check_key",
    "check_keys",
    "check_ref_name",
    "checked_key",
    "is_key",
]

MAX_KEY_BYTES: Final = 65_535
MAX_REF_NAME_BYTES: Final = 200
# Where Booklet keeps metadata and slots: writing them as keys would corrupt the local file.
RESERVED_KEYS: Final = frozenset(
    ("adb01ebc1ba3433eb043527", "7c40d2ea915b4f3a8e6d201", "f19a5c3d7e2b48069ab34c5")
)
_SHOWN: Final = 40  # characters of a key in a message


def check_key(key: object) -> None:
    """Refuse what cannot be a key; every other string is one, `""` and NUL included.

    Raises:
        TypeError: not a string.
        InvalidKeyError: above 65,535 bytes of UTF-8, a lone surrogate, or a name of Booklet's.
    """
    checked_key(key)


def checked_key(key: object) -> str:
    """Return what is stored for `key`: its text, without what a subclass of str adds.

    Raises:
        TypeError, InvalidKeyError: see `check_key`.
    """
    if (
        type(key) is str
        and key.isascii()
        and len(key) <= MAX_KEY_BYTES
        and key not in RESERVED_KEYS
    ):
        return key
    return _checked_slowly(key)


def is_key(key: object) -> TypeGuard[str]:
    """Whether `key` could ever be stored; what could not is absent from every database."""
    try:
        check_key(key)
    except (TypeError, InvalidKeyError):
        return False
    return True


def check_keys(keys: Iterable[str]) -> Iterable[str]:
    """Return `keys`, unless it is one string, whose letters nobody means.

    Raises:
        TypeError: a single string where keys are expected.
    """
    if isinstance(keys, str):
        raise TypeError(f"keys are expected, not one string; pass [{keys[:_SHOWN]!r}]")
    return keys


def _checked_slowly(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys are strings, not {type(key).__name__}")
    if key in RESERVED_KEYS:
        raise InvalidKeyError("this name is reserved by Booklet; choose another key", key=key)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKeyError(
            "the key holds a lone surrogate and has no UTF-8 form; encode it in another way",
            key=ascii(key[:_SHOWN]),
        ) from None
    if size > MAX_KEY_BYTES:
        raise InvalidKeyError(
            f"the key has {size} bytes of UTF-8, the limit is {MAX_KEY_BYTES}; shorten it",
            key=f"{key[:_SHOWN]}…",
        )
    return str.__str__(key)


def check_ref_name(name: object) -> str:
    """Return `name` if it can name a branch or a tag.

    Raises:
        TypeError: not a string.
        ValueError: empty, above 200 bytes of UTF-8, or with spaces or control characters.
    """
    if not isinstance(name, str):
        raise TypeError(f"names of branches and tags are strings, not {type(name).__name__}")
    if not name or not name.isprintable() or any(c.isspace() for c in name):
        raise ValueError(f"{name[:_SHOWN]!r} cannot name a branch or tag: no spaces, not empty")
    if len(name.encode()) > MAX_REF_NAME_BYTES:
        raise ValueError(f"the name of a branch or tag may have {MAX_REF_NAME_BYTES} bytes")
    return name
