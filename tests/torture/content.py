"""What writers write: values that tell by themselves who wrote them when, and whether all is there.

A writer sets all keys of its group in rounds. The mark of a round, as "x12", is in each of its values,
so that whoever reads two marks in one group reads a mixture, and the bytes follow from key and mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

WRITERS: Final = ("x", "o")  # the exclusive and the optimistic one
SHARED: Final = "both"
LOGS_KEPT: Final = 3  # rounds
_SIZES: Final = (
    12,
    30,
    50,
    90,
    400,
    1500,
    4000,
    9000,
    30_000,
)  # bytes: within the index and beside it
_N_SHARED: Final = 3
_N_BALLAST: Final = 400
BALLAST_MARK: Final = "b0"


class Seen(NamedTuple):
    """What stands in a database, as far as it matters."""

    marks: dict[str, list[str]]  # by group, each mark found there, sorted
    logs: dict[str, list[int]]  # by writer
    wrong: list[str]  # keys whose bytes nobody wrote, or that are not there

    def as_facts(self) -> dict[str, object]:
        """For the ledger."""
        return self._asdict()


def mark(writer: str, number: int) -> str:
    """The mark of a round."""
    return f"{writer}{number}"


def number_of(one: str) -> int:
    """The round of a mark."""
    return int(one[1:])


def group_keys(group: str) -> list[str]:
    """The keys that are written together."""
    if group == SHARED:
        return [f"{group}/{n}" for n in range(_N_SHARED)]
    return [f"{group}/{n:02}" for n in range(len(_SIZES))]


def log_key(writer: str, number: int) -> str:
    """A key that is there for a few rounds only."""
    return f"log-{writer}/{number:06}"


def value_of(key: str, one: str) -> bytes:
    """The one value that a round writes under a key."""
    group, _, rest = key.partition("/")
    size = _SIZES[int(rest)] if group in WRITERS else 100
    head = f"{one}\n".encode()
    filler = blake2b(f"{key} {one}".encode()).digest()
    return (head + filler * (size // len(filler) + 1))[: max(size, len(head))]


def mark_in(key: str, value: bytes) -> str | None:
    """The mark of the round that wrote it; None if these bytes were written by none."""
    try:
        one = value[: value.index(b"\n")].decode("ascii")
        known = one[0] in (*WRITERS, BALLAST_MARK[0]) and one[1:].isdigit()
    except (ValueError, IndexError):
        return None
    return one if known and value == value_of(key, one) else None


def ballast() -> Iterator[tuple[str, bytes]]:
    """What is there from the beginning, and makes the index a tree."""
    for n in range(_N_BALLAST):
        key = f"ballast/{n:03}"
        yield key, value_of(key, BALLAST_MARK)


def round_of(writer: str, number: int) -> Iterator[tuple[str, bytes]]:
    """All that a round sets."""
    one = mark(writer, number)
    for key in (log_key(writer, number), *group_keys(writer), *group_keys(SHARED)):
        yield key, value_of(key, one)


def look(content: Mapping[str, bytes]) -> Seen:
    """Read all of a database's content."""
    wrong = []
    marks: dict[str, set[str]] = {group: set() for group in (*WRITERS, SHARED)}
    logs: dict[str, list[int]] = {writer: [] for writer in WRITERS}
    for key, value in content.items():
        found = mark_in(key, value)
        group, _, rest = key.partition("/")
        if found is None:
            wrong.append(f"{key}: {len(value)} bytes {value[:20]!r}")
        elif group in marks:
            marks[group].add(found)
        elif group.startswith("log-"):
            logs[group[-1]].append(int(rest))
    expected = [key for key, _ in ballast()]
    expected += [key for group, found in marks.items() if found for key in group_keys(group)]
    wrong += [f"{key}: not there" for key in expected if key not in content]
    return Seen({group: sorted(found) for group, found in marks.items()}, logs, wrong)
