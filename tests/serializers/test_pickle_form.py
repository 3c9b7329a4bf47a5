"""The form of a pickle, told without loading it."""

from __future__ import annotations

import os
import pickle

import pytest

from ebooklet.errors import SerializationError
from ebooklet.serializers.pickleform import PICKLE_FORM


def test_pickles_are_told_from_others() -> None:
    """Of every protocol from 2 on, of any length; what they name is not even imported."""
    for value in (None, {"a": [1, "é"]}, b"x" * 70_000, os.system):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            PICKLE_FORM.loads(pickle.dumps(value, protocol))
    PICKLE_FORM.loads(b"\x80\x05cno_such_module\nname\n.")


@pytest.mark.parametrize(
    "data", [b"", b'{"a":1}', b"\x80", b"\x80.", b"\x80\x05N", b"\x80\x05N.N.", b"\x80abc."]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    """`SerializationError`, as of any serializer."""
    with pytest.raises(SerializationError, match="pickle"):
        PICKLE_FORM.loads(data)
