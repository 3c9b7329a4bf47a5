"""How serializers are named: one canonical spelling for each, whatever was typed.

A name is a format and the wrappers around it, inside out, each with options of its own after a colon:
`json`, `json+zstd`, `json+zstd:9`, `pickle+sealed:fast,2+zstd`. zstd may also be written first, as it is said
(`zstd:9+json`). Booklet has names of its own for some pairs (`pickle_zstd`), which its file header stores
as a number; those stay the canonical spelling, so that plain Booklet opens the same file.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ebooklet.errors import UnknownNameError

__all__ = [
    "BOOKLET_NAMES",
    "CUSTOM_NAME",
    "Part",
    "ZstdOptions",
    "canonical_name",
    "split_name",
    "wrapped_name",
]

MAX_NAME_CHARS: Final = 64
LEVELS: Final = range(1, 23)
BOOKLET_LEVEL: Final = 1

BOOKLET_NAMES: Final = (
    None,  # 1
    *("str", "pickle", "json", "orjson"),  # 2 to 5
    *("uint1", "int1", "uint2", "int2", "uint4", "int4", "uint5", "int5", "uint8", "int8"),
    *("pickle_zstd", "orjson_zstd"),  # 16, 17
    *("numpy_int1", "numpy_int2", "numpy_int4", "numpy_int8"),
    *("numpy_int2_zstd", "numpy_int4_zstd", "numpy_int8_zstd"),
    *("pd_zstd", "gpd_zstd", "zstd", "wkb", "wkb_zstd", "msgpack", "msgpack_zstd", "bytes"),
)
"""Booklet's serializers; the number in its file header is the place in this list, from 1."""

CUSTOM_NAME: Final = "custom"
"""Stands in heads for a class of the user's own, which nothing stored can name."""

_ZSTD: Final = "zstd"
_DICTIONARY: Final = "dict"
# Booklet's own spellings of "format, then zstd level 1". Its pd_zstd and gpd_zstd are formats that
# compress inside, and so bases of their own.
_COMPRESSED: Final = frozenset({"pd_zstd", "gpd_zstd"})
_WRAPPED: Final = {
    "zstd": "bytes",
    "pickle_zstd": "pickle",
    "orjson_zstd": "orjson",
    "msgpack_zstd": "msgpack",
    "wkb_zstd": "wkb",
    "numpy_int2_zstd": "numpy_int2",
    "numpy_int4_zstd": "numpy_int4",
    "numpy_int8_zstd": "numpy_int8",
}
_SPELLED: Final = {base: name for name, base in _WRAPPED.items()}


class Part(NamedTuple):
    """A format or a wrapper, with its options as text, "" for none."""

    word: str
    options: str = ""

    def __str__(self) -> str:
        return f"{self.word}:{self.options}" if self.options else self.word


class ZstdOptions(NamedTuple):
    """What zstd is told."""

    level: int = BOOKLET_LEVEL  # 1 to 22
    dictionary: bool = False  # whether to compress with a trained dictionary

    def __str__(self) -> str:
        level = [str(self.level)] if self.level != BOOKLET_LEVEL else []
        return ",".join(level + [_DICTIONARY] * self.dictionary)

    @classmethod
    def parse(cls, text: str) -> ZstdOptions:
        """Read `9`, `dict` or `9,dict`, in any order; "" is Booklet's level without a dictionary.

        Raises:
            UnknownNameError: an option there is none of, or a level out of range.
        """
        level, dictionary = None, False
        for option in text.split(",") if text else ():
            if option == _DICTIONARY and not dictionary:
                dictionary = True
            elif level is None and option.isdecimal() and int(option) in LEVELS:
                level = int(option)
            else:
                raise UnknownNameError(
                    f"zstd has no option {option!r} here; it takes one level from {LEVELS[0]} to "
                    f"{LEVELS[-1]} and the word {_DICTIONARY!r}, as in 'json+zstd:9,dict'"
                )
        return cls(BOOKLET_LEVEL if level is None else level, dictionary)


def canonical_name(name: str | None) -> str:
    """Spell a serializer's name in the one way in which names may be compared and stored.

    Raises:
        UnknownNameError: not a name at all, whatever is installed.

    Example:
        >>> [canonical_name(n) for n in (None, "json", "pickle+zstd", "zstd:9+json")]
        ['bytes', 'json', 'pickle_zstd', 'json+zstd:9']
    """
    return _spell(split_name(name))


def split_name(name: str | None) -> tuple[Part, ...]:
    """Take a name apart: the format, then its wrappers from the inside out.

    Raises:
        UnknownNameError: not a name at all, or a combination without sense, whatever is installed.
    """
    if name is None:
        return (Part("bytes"),)
    if not isinstance(name, str):
        raise UnknownNameError(f"a serializer's name is a str, not {type(name).__name__}")
    if len(name) > MAX_NAME_CHARS or not name.isascii() or not name.isprintable():
        raise UnknownNameError(f"not a serializer's name: {name[:MAX_NAME_CHARS]!r}")
    if name in _WRAPPED:
        return Part(_WRAPPED[name]), Part(_ZSTD)
    parts = [_part(text, name) for text in name.split("+")]
    if parts[0].word == _ZSTD:
        parts = [Part("bytes"), *parts] if len(parts) == 1 else parts[::-1]
    _check_combination(parts, name)
    return (parts[0], *(_normal(part) for part in parts[1:]))


def wrapped_name(inner: str, wrapper: str, options: str = "") -> str:
    """The canonical name of a wrapper around the serializer of another name.

    For authors of wrappers: whatever the inner name's own spelling, this one leads back to both.

    Raises:
        UnknownNameError: the combination makes no sense.

    Example:
        >>> wrapped_name("pickle_zstd", "sealed")
        'pickle+zstd+sealed'
    """
    parts = [*split_name(inner), Part(wrapper, options)]
    _check_combination(parts, "+".join(map(str, parts)))
    return _spell((*parts[:-1], _normal(parts[-1])))


def _part(text: str, name: str) -> Part:
    word, colon, options = text.partition(":")
    if not word or (colon and not all(options.split(","))) or ":" in options or " " in text:
        raise UnknownNameError(
            f"not a serializer's name: {name!r}; give a format and the wrappers around it, each "
            "perhaps with options, as in 'json', 'json+zstd' or 'json+zstd:9'"
        )
    return Part(word, options)


def _normal(part: Part) -> Part:
    if part.word == _ZSTD:
        return Part(_ZSTD, str(ZstdOptions.parse(part.options)))
    return part


def _check_combination(parts: list[Part], name: str) -> None:
    base, wrappers = parts[0], parts[1:]
    words = [part.word for part in wrappers]
    why = None
    if base.word == _ZSTD or len(set(words)) < len(words):
        why = "one wrapper around itself gains nothing"
    elif base.word in _WRAPPED:
        why = (
            f"{base.word!r} is wrapped already and takes nothing more; write "
            f"'{_WRAPPED[base.word]}+zstd' in its place, options after a colon"
        )
    elif base.word in _COMPRESSED and _ZSTD in words:
        why = f"{base.word!r} compresses by itself"
    elif any(
        part.word == _ZSTD and ZstdOptions.parse(part.options).dictionary for part in wrappers[:-1]
    ):
        why = "zstd with a dictionary has to be the outermost wrapper"
    if why is not None:
        raise UnknownNameError(f"not a serializer's name: {name!r}; {why}")


def _spell(parts: tuple[Part, ...]) -> str:
    base, *wrappers = parts
    if not base.options and wrappers == [Part(_ZSTD)] and base.word in _SPELLED:
        return _SPELLED[base.word]
    if base == Part("bytes") and len(wrappers) == 1 and wrappers[0].word == _ZSTD:
        return str(wrappers[0])
    return "+".join(map(str, parts))
