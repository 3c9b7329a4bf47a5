"""Clients that come back late, or think otherwise of the server (FORMAT 10.3 and 10.11)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ebooklet.adapters.probecache import ProbeCache
from ebooklet.errors import OutcomeUnknown
from ebooklet.ports.remote_store import ObjectMeta
from ebooklet.testing.faulty import StoreFault, StoreRule
from tests.hostile.worlds import LIFE_FACTOR, Mode, World

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MANY = 1000 if LIFE_FACTOR > 1 else 100  # beyond what the head lists of its history


def again(put: Callable[..., ObjectMeta], *args: Any, **options: Any) -> Any:
    """Send a request once more when no answer comes."""
    try:
        return put(*args, **options)
    except OutcomeUnknown:
        return put(*args, **options)


@pytest.mark.parametrize("repeated", [False, True], ids=["unanswered", "repeated"])
@pytest.mark.parametrize("n_commits", [0, 1, 65, MANY])
def test_a_lost_answer_and_others_since(tmp_path: Path, n_commits: int, repeated: bool) -> None:
    """FORMAT 10.3: one commit, no conflict, however many others landed before the client looks.

    So too where a transport repeats the request after all, and reads its own success as a refusal.

    Fails without: the look for the write id where an answer was lost; the look into the log for
    what the head lists no longer.
    """
    world = World(tmp_path, "cas")
    with world.open("first") as first:
        first["k"] = 0
        first.push()
    with world.open("a") as a, world.open("b") as b:

        def others() -> None:
            b.pull()
            for n in range(n_commits):
                b["k"] = -n - 1
                assert b.push()

        a["k"], a["mine"] = 1, 1
        world.store.add(StoreRule(StoreFault.LOSE_ANSWER, op="cas", key="db"))
        if repeated:
            world.store.put = partial(again, world.store.put)  # type: ignore[method-assign]  # a transport of its own
        # The first look is before the write.
        world.store.add(StoreRule(StoreFault.DELAY, op="get", key="db", skip=1, then=others))
        result = a.push()
        assert result.seq == 2
        assert not a.changes()
        assert a.pull().conflicts == ()
        assert (a["k"], a["mine"]) == (-n_commits if n_commits else 1, 1)
        assert a._copy.base is not None
        assert a._copy.base.head.seq == 2 + n_commits


@pytest.mark.parametrize(("made", "thought"), [("cas", "lock"), ("lock", "cas")])
def test_the_head_says_how_it_moves(tmp_path: Path, made: Mode, thought: Mode) -> None:
    """FORMAT 10.11: who found out otherwise about the server commits as the head says all the same.

    So does who found a database where it was about to create one. Fails without: the mode in the
    head, taken over by whoever opens or meets it.
    """
    world = World(tmp_path, made)
    ProbeCache().put(world.store.endpoint, world.clock, thought, "quoted", "")
    with world.open("early", lock="optimistic") as early:
        assert early.commit_mode == thought
        early["early"] = 1
        ProbeCache().put(world.store.endpoint, world.clock, made, "quoted", "")
        with world.open("first", lock="optimistic") as first:
            first["k"] = 2
            assert first.push()
        ProbeCache().put(world.store.endpoint, world.clock, thought, "quoted", "")
        with world.open("late", lock="optimistic") as late:
            assert late.commit_mode == made
            world.store.calls.clear()
            late["mine"] = 1
            assert late.push()
            written = [call for call in world.store.calls if call.key == "db" and call.op == "put"]
            assert [call.conditional for call in written] == [made == "cas"]
            assert late._copy.base is not None
            assert late._copy.base.head.proto.mode == made
        assert early.push()
        assert early.commit_mode == made
    with world.look() as db:
        assert dict(db.items()) == {"k": 2, "mine": 1, "early": 1}
    ProbeCache().put(world.store.endpoint, world.clock, made, "quoted", "")
