"""Names: one canonical spelling, and nonsense is refused."""

from __future__ import annotations

import pytest

from ebooklet.core.serialization import BOOKLET_NAMES, canonical_name, split_name
from ebooklet.errors import UnknownNameError


@pytest.mark.parametrize(
    ("given", "canonical", "parts"),
    [
        (None, "bytes", ("bytes", None)),
        ("bytes", "bytes", ("bytes", None)),
        ("json", "json", ("json", None)),
        ("json+zstd", "json+zstd", ("json", "zstd")),
        ("bytes+zstd", "zstd", ("bytes", "zstd")),
        ("zstd", "zstd", ("bytes", "zstd")),
        ("pickle+zstd", "pickle_zstd", ("pickle", "zstd")),
        ("pickle_zstd", "pickle_zstd", ("pickle", "zstd")),
        ("orjson_zstd", "orjson_zstd", ("orjson", "zstd")),
        ("pd_zstd", "pd_zstd", ("pd_zstd", None)),
        ("uint4", "uint4", ("uint4", None)),
        ("x+lz4", "x+lz4", ("x", "lz4")),
    ],
)
def test_each_format_has_one_spelling(
    given: str | None, canonical: str, parts: tuple[str, str | None]
) -> None:
    """Different spellings of one format compare equal, and split alike."""
    assert canonical_name(given) == canonical
    assert split_name(given) == parts


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
