"""The strict CBOR of records: only one encoding of only plain values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core import cbor
from ebooklet.core.cbor import Malformed

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(0, 2**32), inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def tag_head(number: int) -> bytes:
    if number < 24:
        return bytes([0xC0 | number])
    return bytes([0xD8, number]) if number < 256 else b"\xd9" + number.to_bytes(2, "big")


@settings(max_examples=100, deadline=None)
@given(plain)
def test_plain_values_survive(value: object) -> None:
    """What is encoded decodes to the same value."""
    assert cbor.decode(cbor.encode(value)) == value


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_decode_strictly_or_not_at_all(data: bytes) -> None:
    """Accepted bytes are exactly the deterministic encoding of what they decode to."""
    try:
        value = cbor.decode(data)
    except Malformed:
        return
    assert cbor.encode(value) == data


@pytest.mark.parametrize(
    "content", [b"\x00", b"\x20", b"\x40", b"\x60", b"\x80", b"\xa0", b"\x82\x00\x01", b"\x61a"]
)
def test_no_tag_is_ever_acted_upon(content: bytes) -> None:
    """Every tag number cbor2 may know is refused, whatever it holds."""
    for number in range(65536):
        if number > 1100 and number % 97 and number not in (43000, 55799):
            continue
        with pytest.raises(Malformed):
            cbor.decode(tag_head(number) + content)


def test_every_tag_that_cbor2_acts_upon_is_overridden() -> None:
    """A tag for which this cbor2 has a decoder of its own is in our table of refusals."""
    acted = set()
    for number in range(65536):
        try:
            value = cbor2.loads(tag_head(number) + b"\x80")
        except cbor2.CBORError:
            acted.add(number)
            continue
        if not isinstance(value, cbor2.CBORTag):
            acted.add(number)
    assert acted
    assert acted <= cbor._NO_TAGS.keys()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("trailing byte", b"\x00\x00"),
        ("wide integer", b"\x18\x00"),
        ("duplicate keys", b"\xa2\x01\x02\x01\x03"),
        ("unsorted keys", b"\xa2\x02\x00\x01\x00"),
        ("indefinite list", b"\x9f\x00\xff"),
        ("indefinite string", b"\x5f\x41a\xff"),
        ("huge list", b"\x9b\x7f" + b"\xff" * 7),
        ("huge string", b"\x5b\x7f" + b"\xff" * 7),
        ("huge map", b"\xbb\x7f" + b"\xff" * 7),
        ("deep nesting", b"\x81" * 10_000 + b"\x00"),
        ("no UTF-8", b"\x61\xff"),
        ("nothing", b""),
        ("reserved", b"\xfc"),
    ],
)
def test_other_encodings_are_refused(name: str, data: bytes) -> None:
    """Each way to write a value a second time, or to exhaust the reader, is refused."""
    with pytest.raises(Malformed):
        cbor.decode(data)


@pytest.mark.parametrize(
    ("reader", "good", "bad"),
    [
        (lambda v: cbor.uint(v, "x", 9), [0, 9], [True, -1, 10, 1.0, "1", None]),
        (lambda v: cbor.blob(v, "x", 2), [b"ab"], [b"a", b"abc", "ab", None]),
        (lambda v: cbor.blob(v, "x", limit=2), [b"", b"ab"], [b"abc", [1]]),
        (lambda v: cbor.text(v, "x", 4), ["", "abcd", "éé"], ["abcde", "ééé", b"a"]),
        (lambda v: cbor.flag(v, "x"), [True, False], [0, 1, None]),
        (lambda v: cbor.rows(v, "x", 1), [[], [1]], [[1, 2], {}, b""]),
        (lambda v: cbor.row(v, "x", 1), [[1]], [[], [1, 2], None]),
        (lambda v: cbor.mapping(v, "x", 1), [{}, {"a": 1}], [{"a": 1, "b": 2}, {1: 1}, []]),
        (cbor.body, [{}, {1: 2}], [{"a": 1}, {-1: 1}, {True: 1}, []]),
    ],
)
def test_field_readers_let_only_their_kind_through(
    reader: Callable[[Any], object], good: list[Any], bad: list[Any]
) -> None:
    """A field of the wrong type or size is refused; the right one comes back as it was."""
    for value in good:
        assert reader(value) == value
    for value in bad:
        with pytest.raises(Malformed):
            reader(value)
