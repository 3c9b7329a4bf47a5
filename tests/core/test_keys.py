"""Which strings may be keys, and names of branches and tags."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.keys import MAX_KEY_BYTES, RESERVED_KEYS, check_key, check_ref_name
from ebooklet.errors import InvalidKeyError


class Text(str):
    """A subclass is as good as its base."""

    __slots__ = ()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "\0",
        "/",
        "..",
        "%2F",
        "?",
        "#",
        "é",
        "a" * 65_535,
        "é" * 32_767,
        "𝄞" * 16_383,
        Text("k"),
    ],
)
def test_every_encodable_string_is_a_key(key: str) -> None:
    """Nothing but length, surrogates and Booklet's names limits keys."""
    assert check_key(key) is None


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(), max_size=50))
def test_a_key_is_valid_exactly_when_it_has_utf_8(key: str) -> None:
    """Lone surrogates are refused, everything else short is accepted."""
    try:
        key.encode()
    except UnicodeEncodeError:
        with pytest.raises(InvalidKeyError, match="surrogate"):
            check_key(key)
    else:
        check_key(key)


@pytest.mark.parametrize("key", ["a" * 65_536, "é" * 32_768, "𝄞" * 16_384, "a" * 10**6])
def test_long_keys_are_refused_by_their_bytes(key: str) -> None:
    """The limit counts UTF-8 bytes; the message is short and says what the limit is."""
    with pytest.raises(InvalidKeyError, match=str(MAX_KEY_BYTES)) as caught:
        check_key(key)
    assert len(str(caught.value)) < 200
    assert isinstance(caught.value, ValueError)


def test_a_lone_surrogate_can_be_reported() -> None:
    """The message of a key that cannot be encoded can itself be encoded."""
    with pytest.raises(InvalidKeyError) as caught:
        check_key("\ud800" * 70_000)
    assert str(caught.value).encode()


@pytest.mark.parametrize("key", sorted(RESERVED_KEYS))
def test_names_of_booklet_are_refused(key: str) -> None:
    """Writing one would corrupt the local file."""
    for spelled in (key, Text(key)):
        with pytest.raises(InvalidKeyError, match="reserved"):
            check_key(spelled)


@pytest.mark.parametrize("key", [None, 1, b"k", ("k",), True])
def test_other_types_are_refused(key: object) -> None:
    """A key is a string."""
    with pytest.raises(TypeError, match=type(key).__name__):
        check_key(key)


@pytest.mark.parametrize("name", ["main", "v1.0", "feature/x", "été", "a" * 200])
def test_ordinary_names_may_be_refs(name: str) -> None:
    """Names come back as they were."""
    assert check_ref_name(name) == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "\0", "é" * 101, "\ud800"])
def test_names_that_would_mislead_are_refused(name: str) -> None:
    """Empty, invisible and overlong names are refused."""
    with pytest.raises(ValueError):
        check_ref_name(name)


def test_a_ref_name_is_a_string() -> None:
    """Another type is a mistake of the caller."""
    with pytest.raises(TypeError):
        check_ref_name(5)
