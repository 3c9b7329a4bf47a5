"""The state slot: what the local half was last in step with."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.state import LocalState, decode_state, encode_state
from ebooklet.testing.records import commit_refs, counts, damaged, example_head, golden, ids, names

GOLDEN = Path(__file__).parent / "golden"

states = st.builds(
    LocalState,
    st.builds(UUID, bytes=ids(16)),
    names,
    st.none() | commit_refs,
    counts,
    st.none() | ids(16),
)


@settings(max_examples=60, deadline=None)
@given(states)
def test_round_trip(state: LocalState) -> None:
    """What was stored comes back."""
    assert decode_state(encode_state(state)) == state


def test_damage_reads_as_absent() -> None:
    """A damaged slot is no slot: the open then reconciles, and nothing is raised."""
    head = example_head()
    state = LocalState(head.uuid, "main", head.branch.commit, head.seq, head.write_id)
    data = encode_state(state)
    assert golden(GOLDEN / "state.hex", data) == data
    assert (state.base_seq, state.base_commit_id) == (7, head.branch.commit.id)
    assert decode_state(None) is None
    for bad in (*damaged(data), b"", bytes(8000)):
        assert decode_state(bad) is None


def test_a_half_without_a_base_says_so() -> None:
    """Before the first push or pull there is no base commit."""
    state = LocalState(UUID(int=1), "main", None, 0, None)
    assert (state.base_seq, state.base_commit_id) == (0, None)
    assert decode_state(encode_state(state)) == state
