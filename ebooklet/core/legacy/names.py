"""Objects of single values: the layout per key, and the names that 0.11 did not say unchanged.

0.11 put keys into the path of a URL, where `.` and `..` are resolved on the way and many servers
join doubled slashes. So an object may lie under another name than its key's, and two keys may have
shared one: who reads it there has to compare timestamps.
"""

from __future__ import annotations

from typing import Final

MAX_KEY_BYTES: Final = 1024  # S3's own limit


def value_key(db_key: str, key: str) -> str | None:
    """The object that holds the value of `key`; None when no object of the database can.

    Example:
        >>> [value_key("db", key) for key in ("a/b", "a//b", "./a", "..", "", "a/")]
        ['db/a/b', 'db/a/b', 'db/a', None, None, None]

    Source: RFC 3986 §5.2.4 (dot segments).
    """
    parts: list[str] = []
    for part in key.split("/"):
        if part == "..":
            if not parts:
                return None  # outside of the database
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts or key.rpartition("/")[2] in ("", ".", ".."):
        return None  # a name that ends in a slash, which no store of ours can say
    name = f"{db_key}/{'/'.join(parts)}"
    try:
        return name if len(name.encode()) <= MAX_KEY_BYTES else None
    except UnicodeEncodeError:
        return None
