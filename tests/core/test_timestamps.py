"""Timestamps in, microseconds out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.timestamps import MAX_TIMESTAMP, to_datetime, to_microseconds


@settings(max_examples=100, deadline=None)
@given(st.integers(0, MAX_TIMESTAMP), st.integers(-1439, 1439))
def test_all_forms_agree(us: int, offset: int) -> None:
    """An int, a datetime in any zone and its ISO form name one moment, to the microsecond."""
    moment = to_datetime(us).astimezone(timezone(timedelta(minutes=offset)))
    assert to_microseconds(us, 0) == us
    assert to_microseconds(moment, 0) == us
    assert to_microseconds(moment.isoformat(), 0) == us
    assert to_datetime(us).tzinfo is UTC


def test_none_is_now() -> None:
    """Without a timestamp the caller's clock counts."""
    assert to_microseconds(None, 42) == 42


def test_iso_forms_with_z_are_known() -> None:
    """The common spelling of UTC works."""
    assert to_microseconds("1970-01-01T00:00:01.5Z", 0) == 1_500_000


@pytest.mark.parametrize(
    "bad",
    [
        -1,
        1 << 56,
        datetime(2024, 1, 1),
        "2024-01-01T00:00:00",
        "yesterday",
        "",
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(9999, 1, 1, tzinfo=UTC),
    ],
)
def test_what_has_no_moment_in_range_is_a_value_error(bad: int | str | datetime) -> None:
    """Naive, unreadable and out of range."""
    with pytest.raises(ValueError):
        to_microseconds(bad, 0)


@pytest.mark.parametrize("bad", [1.5, True, b"2024", object()])
def test_other_types_are_a_type_error(bad: object) -> None:
    """Floats lose microseconds, and a bool is a mistake."""
    with pytest.raises(TypeError):
        to_microseconds(bad, 0)  # type: ignore[arg-type]  # wrong on purpose
