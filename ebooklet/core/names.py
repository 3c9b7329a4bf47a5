"""Names of objects in the bucket, and the ids of segments (FORMAT §1)."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ebooklet.errors import InvalidKeyError

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32, lower case
_VALUE: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_SID_TEXT: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")
_MS_BITS: Final = 48
MAX_MS: Final = (1 << _MS_BITS) - 1
MAX_COMPONENT_BYTES: Final = 200
_SHOWN: Final = 80  # characters of a key that messages show
MAX_KEY_BYTES: Final = 900  # S3 allows 1024; what we append needs at most 40


def mint_sid(ms: int, randomness: bytes) -> bytes:
    """Make a segment id from a minting time and 80 random bits.

    Args:
        ms: Unix ms, at most 48 bits; the only part of an id that is ever compared.
        randomness: 10 bytes.

    Returns:
        16 bytes.
    """
    if len(randomness) != 10:
        raise ValueError("a segment id takes 10 random bytes")
    return ms.to_bytes(6, "big") + randomness


def sid_ms(sid: bytes) -> int:
    """The minting time of a segment id, in Unix ms."""
    return int.from_bytes(sid[:6], "big")


def sid_text(sid: bytes) -> str:
    """Spell a segment id as 26 lower-case base32 characters."""
    number = int.from_bytes(sid, "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def parse_sid(text: str) -> bytes:
    """Read the spelling of `sid_text`; `ValueError` for anything else."""
    if not _SID_TEXT.fullmatch(text):
        raise ValueError(f"not a segment id: {text!r}")
    number = 0
    for letter in text:
        number = number << 5 | _VALUE[letter]
    return number.to_bytes(16, "big")


def segment_key(db_key: str, sid: bytes) -> str:
    """The object that holds a segment of the database `db_key`."""
    return segment_prefix(db_key) + sid_text(sid)


def segment_prefix(db_key: str) -> str:
    """What the names of all segments of the database `db_key` begin with."""
    return f"{db_key}.d/"


def is_segment_key(db_key: str, key: str) -> bool:
    """Whether an object is a segment of the database `db_key`, and not a neighbour's."""
    prefix = segment_prefix(db_key)
    return key.startswith(prefix) and _SID_TEXT.fullmatch(key, len(prefix)) is not None


def lock_key(db_key: str) -> str:
    """The object that holds the lease of the database `db_key`."""
    return f"{db_key}.lock"


def alternate_key(db_key: str) -> str:
    """The second copy of the head, used in mode lock."""
    return f"{db_key}.alt"


def owner_of(key: str) -> str:
    """The key of the database that an object with this name belongs to, as far as names tell."""
    *folders, name = key.split("/")
    if folders and folders[-1].endswith(".d") and _SID_TEXT.fullmatch(name):
        return "/".join(folders).removesuffix(".d")
    name = name.partition(".lock")[0].removesuffix(".alt")
    return "/".join((*folders, name))


def are_namesakes(one: str, other: str) -> bool:
    """Whether two different database keys are one name to some servers and file systems.

    Some fold case, some normalise Unicode, some read a backslash as a slash, some drop dots and
    spaces at a component's end. Stores see more or less of the path to a database (a folder, or
    the whole bucket), so only as many components count as both keys have.

    Source: canonical caseless matching, The Unicode Standard, section 3.13, D145.
    """
    pairs = list(zip(_folded(one)[::-1], _folded(other)[::-1], strict=False))
    ends = [key.split("/")[-len(pairs) :] for key in (one, other)]
    return all(a == b for a, b in pairs) and ends[0] != ends[1]


def _folded(db_key: str) -> list[str]:
    plain = unicodedata.normalize("NFD", db_key.replace("\\", "/")).casefold()
    return [part.rstrip(" .") for part in unicodedata.normalize("NFD", plain).split("/")]


def check_db_key(db_key: str) -> str:
    """Return `db_key` if it can name a database; no name may reach into another's objects.

    Raises:
        InvalidKeyError: says which rule of FORMAT §1 is broken; a `ValueError`, too.
    """
    parts = db_key.split("/")
    try:
        size = len(db_key.encode())
        longest = len(parts[-1].encode())
    except UnicodeEncodeError:
        raise _unfit(db_key, "it cannot be encoded as UTF-8") from None
    if any(part in ("", ".", "..") for part in parts):
        raise _unfit(db_key, "it has an empty, '.' or '..' component")
    # In any case: to some servers `a.ALT` is the second copy of the head of `a`.
    if any(part.endswith((".d", ".alt")) or ".lock" in part for part in map(str.casefold, parts)):
        raise _unfit(
            db_key,
            "no component may end in '.d' or '.alt' or contain '.lock', which name our own objects",
        )
    if longest > MAX_COMPONENT_BYTES or size > MAX_KEY_BYTES:
        raise _unfit(
            db_key,
            f"it is too long: its last component may have {MAX_COMPONENT_BYTES} bytes, the whole "
            f"{MAX_KEY_BYTES}",
        )
    return db_key


def _unfit(db_key: str, why: str) -> InvalidKeyError:
    shown = db_key if len(db_key) <= _SHOWN else f"{db_key[:_SHOWN]}…"
    return InvalidKeyError(
        f"no database can have this key: {why}; choose another db_key", op="open", key=shown
    )
