"""Bytes as strangers send them: random ones, and valid ones that were tampered with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st

_HUGE: Final = (
    *(b"\xff" * n for n in (1, 2, 4, 8)),
    *(b"\x7f" + b"\xff" * n for n in (1, 3, 7)),  # the largest with a sign, big endian
    *(b"\xff" * n + b"\x7f" for n in (1, 3, 7)),
    b"\x00\x00\x00\x80",
    bytes(8),
)
"""What a length field is overwritten with."""


@st.composite
def tampered(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed with bytes flipped, lengths made huge, parts cut out, put in or taken from another."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("flip", "huge", "cut", "extend", "drop", "splice"))):
            case "flip" if data:
                data[at] ^= draw(st.integers(1, 255))
            case "huge":
                claim = draw(st.sampled_from(_HUGE))
                data[at : at + len(claim)] = claim
            case "cut":
                del data[at:]
            case "extend":
                data += draw(st.binary(min_size=1, max_size=20))
            case "drop":
                del data[at : at + draw(st.integers(1, 9))]
            case "splice":
                other = draw(st.sampled_from(seeds))
                start = draw(st.integers(0, len(other)))
                data[at:at] = other[start : start + 64]
    return bytes(data)


def hostile(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Any bytes, or `tampered` ones, which come more often as they get further."""
    return st.one_of(tampered(seeds), tampered(seeds), tampered(seeds), st.binary(max_size=300))
