"""Walks along the keys are noticed, and nothing else is taken for one."""

from __future__ import annotations

import random

from ebooklet.core.walks import Walks

KEYS = [f"{n:05}" for n in range(10_000)]
LEAF = 145


def read(walks: Walks, key: str) -> int:
    """Read one key that is not here, as the library does; how many keys that took."""
    at = KEYS.index(key)
    first = at - at % LEAF
    run = walks.run_from(KEYS[first : first + LEAF], at - first)
    end = min(at + run, len(KEYS)) - 1
    walks.note(KEYS[end], run, rest=LEAF - 1 - end % LEAF)
    return run


def cost(walks: Walks, keys: list[str]) -> int:
    """Reads that find nothing here, when each brings what follows along."""
    here: set[str] = set()
    reads = 0
    for key in keys:
        if key not in here:
            reads += 1
            at = KEYS.index(key)
            here.update(KEYS[at : at + read(walks, key)])
    return reads


def test_a_walk_takes_twice_as_much_each_time() -> None:
    """From one key to 1,024 at once, over the borders of index nodes too."""
    assert cost(Walks(), KEYS[:100]) == 7
    assert cost(Walks(), KEYS) == 10 + 9
    assert cost(Walks(), KEYS[100:400:4]) <= 9


def test_reads_here_and_there_take_one_key_each() -> None:
    """Scattered keys, backward walks and large steps bring nothing along."""
    scattered = random.Random(7).sample(KEYS[::20], 200)
    walks = Walks()
    assert sum(read(walks, key) for key in scattered) <= 210
    assert {read(Walks(), key) for key in scattered} == {1}
    walks = Walks()
    assert {read(walks, key) for key in reversed(KEYS[1000:1100])} == {1}
    walks = Walks()
    assert {read(walks, key) for key in KEYS[:5000:10]} == {1}


def test_several_walks_at_once() -> None:
    """As many as eight are told apart; a walk that was left alone long is forgotten."""
    walks = Walks()
    starts = range(0, 8000, 1000)
    together = [KEYS[start + step] for step in range(100) for start in starts]
    assert cost(walks, together) == 8 * 7
    assert len(walks._reads) == 8


def test_a_walk_goes_on_after_a_pause() -> None:
    """Reads elsewhere in between do not end it."""
    walks = Walks()
    taken = 0
    for turn in range(6):
        at = taken
        taken += read(walks, KEYS[at])
        read(walks, KEYS[9000 - 100 * turn])
    assert taken == 63
