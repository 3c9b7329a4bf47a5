"""Names: one canonical spelling, and nonsense is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ebooklet.core.serializer_names import (
    BOOKLET_NAMES,
    ZstdOptions,
    canonical_name,
    split_name,
    wrapped_name,
)
from ebooklet.errors import UnknownNameError


@pytest.mark.parametrize(
    ("given", "canonical", "parts"),
    [
        (None, "bytes", ["bytes"]),
        ("bytes", "bytes", ["bytes"]),
        ("json", "json", ["json"]),
        ("json+zstd", "json+zstd", ["json", "zstd"]),
        ("bytes+zstd", "zstd", ["bytes", "zstd"]),
        ("zstd", "zstd", ["bytes", "zstd"]),
        ("pickle+zstd", "pickle_zstd", ["pickle", "zstd"]),
        ("pickle_zstd", "pickle_zstd", ["pickle", "zstd"]),
        ("orjson_zstd", "orjson_zstd", ["orjson", "zstd"]),
        ("pd_zstd", "pd_zstd", ["pd_zstd"]),
        ("uint4", "uint4", ["uint4"]),
        ("x+lz4", "x+lz4", ["x", "lz4"]),
        ("json+zstd:9", "json+zstd:9", ["json", "zstd:9"]),
        ("zstd:9+json", "json+zstd:9", ["json", "zstd:9"]),
        ("zstd+json", "json+zstd", ["json", "zstd"]),
        ("zstd+pickle", "pickle_zstd", ["pickle", "zstd"]),
        ("pickle+zstd:1", "pickle_zstd", ["pickle", "zstd"]),
        ("pickle+zstd:3", "pickle+zstd:3", ["pickle", "zstd:3"]),
        ("zstd:9", "zstd:9", ["bytes", "zstd:9"]),
        ("bytes+zstd:09", "zstd:9", ["bytes", "zstd:9"]),
        ("json+zstd:dict", "json+zstd:dict", ["json", "zstd:dict"]),
        ("zstd:dict,9+json", "json+zstd:9,dict", ["json", "zstd:9,dict"]),
        ("zstd:1,dict", "zstd:dict", ["bytes", "zstd:dict"]),
        ("x:a,b=1+lz4:fast", "x:a,b=1+lz4:fast", ["x:a,b=1", "lz4:fast"]),
        ("json+delta+zstd", "json+delta+zstd", ["json", "delta", "zstd"]),
        ("zstd:3+delta+json", "json+delta+zstd:3", ["json", "delta", "zstd:3"]),
        ("pickle+zstd+sealed", "pickle+zstd+sealed", ["pickle", "zstd", "sealed"]),
        ("bytes+zstd+sealed", "bytes+zstd+sealed", ["bytes", "zstd", "sealed"]),
        ("pd_zstd+sealed", "pd_zstd+sealed", ["pd_zstd", "sealed"]),
    ],
)
def test_each_format_has_one_spelling(given: str | None, canonical: str, parts: list[str]) -> None:
    """Different spellings of one format compare equal, and split alike."""
    assert canonical_name(given) == canonical
    assert canonical_name(canonical) == canonical
    assert [str(part) for part in split_name(given)] == parts


@given(st.text("jz+:,19_ dictzstdjson", max_size=30))
@example("zstd+bytes+zstd")
def test_the_canonical_spelling_is_its_own(name: str) -> None:
    """Whatever was typed: what is stored reads as it was meant, and is spelled once."""
    try:
        canonical = canonical_name(name)
    except UnknownNameError:
        return
    assert canonical_name(canonical) == canonical
    assert split_name(canonical) == split_name(name)


@pytest.mark.parametrize("level", range(1, 23))
@pytest.mark.parametrize("dictionary", [False, True])
def test_options_of_zstd_have_one_spelling(level: int, dictionary: bool) -> None:
    """What is written down is what was meant, and Booklet's level 1 needs no words."""
    options = ZstdOptions(level, dictionary)
    assert ZstdOptions.parse(str(options)) == options
    assert "1" not in str(options).split(",")


def test_wrappers_find_the_name_around_a_name() -> None:
    """Authors of wrappers need not know how Booklet spells what they wrap."""
    assert wrapped_name("json", "zstd") == "json+zstd"
    assert wrapped_name("zstd", "sealed", "2") == "bytes+zstd+sealed:2"
    assert wrapped_name("pickle_zstd", "sealed") == "pickle+zstd+sealed"
    with pytest.raises(UnknownNameError):
        wrapped_name("pickle_zstd", "zstd")


def test_booklets_names_are_canonical() -> None:
    """What Booklet stores is what we compare with, except that its None is bytes."""
    assert [canonical_name(name) for name in BOOKLET_NAMES[1:]] == list(BOOKLET_NAMES[1:])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "+",
        "+zstd",
        "json+",
        "json+zstd+zstd",
        "zstd+zstd",
        "pickle_zstd+zstd",
        *("zstd+json+zstd", "json+zstd:9+zstd", "x+lz4+lz4:fast"),
        *("pickle_zstd:9", "pd_zstd+zstd", "gpd_zstd+zstd:3"),
        *("json+zstd:0", "json+zstd:23", "json+zstd:-1", "json+zstd:fast", "json+zstd:3,4"),
        *("json+zstd:dict,dict", "json+zstd:", "json:", "json+zstd:9,", ":9", "json+zstd:9:9"),
        *("json+zstd:dict+sealed", "json +zstd"),
        "a" * 65,
        "a\nb",
        "é",
        7,
    ],
)
def test_nonsense_is_refused(name: object) -> None:
    """A head may hold anything; what is not a name raises, and the message stays short."""
    with pytest.raises(UnknownNameError) as caught:
        canonical_name(name)  # type: ignore[arg-type]  # what a hostile head may hold
    assert len(str(caught.value)) < 300


def test_a_refusal_says_why() -> None:
    """Whoever made up a name learns what there is in its place."""
    for name, why in [
        ("json+zstd:99", "1 to 22"),
        ("json+zstd:quick", "'json\\+zstd:9,dict'"),
        ("pickle_zstd:9", "'pickle\\+zstd'"),
        ("zstd+zstd", "gains nothing"),
        ("pd_zstd+zstd", "compresses by itself"),
        ("json+zstd:dict+sealed", "outermost"),
    ]:
        with pytest.raises(UnknownNameError, match=why):
            canonical_name(name)
