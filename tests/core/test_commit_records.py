"""Commit records: round trips, ids, hostile bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cbor2
import pytest
from hypothesis import given, settings

from ebooklet.core.commit import Commit, commit_id, decode_commit, encode_commit
from ebooklet.errors import RemoteIntegrityError
from ebooklet.testing.records import commits, damaged, example_commit, golden

GOLDEN = Path(__file__).parent / "golden"


def test_bytes_never_change() -> None:
    """The stored record decodes to the same commit, and the commit encodes to the stored bytes."""
    data = encode_commit(example_commit())
    assert golden(GOLDEN / "commit.hex", data) == data
    assert golden(GOLDEN / "commit-id.hex", commit_id(data)) == commit_id(data)
    assert decode_commit(golden(GOLDEN / "commit.hex", data)) == example_commit()


@settings(max_examples=60, deadline=None)
@given(commits())
def test_round_trip(commit: Commit) -> None:
    """A record comes back whole, under its own id, fields of newer versions included."""
    data = encode_commit(commit)
    assert decode_commit(data, commit_id(data)) == commit


def test_damage_is_found_by_the_id() -> None:
    """Any change of any byte is refused when the id is known."""
    data = encode_commit(example_commit())
    for bad in damaged(data):
        with pytest.raises(RemoteIntegrityError):
            decode_commit(bad, commit_id(data))


def test_damage_without_an_id_raises_only_our_error() -> None:
    """Hostile bytes either are another valid record or raise `RemoteIntegrityError`."""
    data = encode_commit(example_commit())
    for bad in damaged(data):
        try:
            other = decode_commit(bad)
        except RemoteIntegrityError:
            continue
        assert encode_commit(other) == bad


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, -1),
        (1, [b"\0" * 32] * 3),
        (1, [b"\0" * 31]),
        (2, 1 << 48),
        (4, "x" * 4097),
        (5, None),
        (5, [1, 2]),
        (6, 5),
        (8, [[b"\0" * 16, 1, 1, 1]] * 2),
        (9, b""),
        (10, 3),
    ],
)
def test_impossible_fields_are_refused(field: int, value: object) -> None:
    """A record that is well-formed CBOR but says something impossible is refused."""
    fields = cbor2.loads(encode_commit(example_commit()))
    fields[field] = value
    with pytest.raises(RemoteIntegrityError):
        decode_commit(cbor2.dumps(fields, canonical=True))


def test_a_missing_field_is_refused() -> None:
    """Each of the twelve fields is needed."""
    for field in range(12):
        fields = cbor2.loads(encode_commit(example_commit()))
        del fields[field]
        with pytest.raises(RemoteIntegrityError, match=str(field)):
            decode_commit(cbor2.dumps(fields, canonical=True))


@pytest.mark.parametrize(
    "change",
    [
        {"message": "é" * 2049},
        {"author": "a" * 257},
        {"parents": (bytes(32),) * 3},
        {"message": "\ud800"},
    ],
)
def test_what_no_reader_would_accept_is_not_written(change: dict[str, object]) -> None:
    """Texts above their limits are refused before they are written."""
    with pytest.raises(ValueError):
        encode_commit(replace(example_commit(), **change))  # type: ignore[arg-type]  # wrong on purpose


def test_an_oversized_record_is_refused_unread() -> None:
    """Bytes above the limit are not even decoded."""
    with pytest.raises(RemoteIntegrityError, match="limit"):
        decode_commit(bytes(1 << 20))
