"""Work on local files: EBooklet beside what it is made of, chunk by chunk in turn.

Every file has the same bucket count and serializer. Chunks of keys alternate between the peers, so
that what else the machine does falls on all alike; writes include what flushing costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from benchmarks.child import Child, StepFailed, running
from benchmarks.measurements import Measurements, Sample, Where
from benchmarks.peers.peer import Place
from benchmarks.roster import CannotInstall, Peer, python_of

CHUNK: Final = 500
BULK: Final = "bulk set"
SET: Final = "set, overwriting"
GET: Final = "get"
KEYS: Final = "keys()"
ALL: Final = "values()"
STEPS: Final = (BULK, SET, GET, KEYS, ALL)


def measure(results: Measurements, peers: Sequence[Peer], n_keys: int, rounds: int) -> None:
    """Add samples of all peers; they are `local`."""
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for peer in peers:
            try:
                python = python_of(peer)
                child, folder = stack.enter_context(running(python, peer.module, "Local"))
                child.start(_place(peer, str(folder), n_keys, results.value_bytes))
            except (CannotInstall, StepFailed) as error:
                results.missing[f"{peer.name} (local work)"] = str(error)
            else:
                children[peer.name] = child
        work = _Local(results, children, n_keys)
        work.prepare()
        for _ in range(rounds):
            work.whole(BULK, {"step": "bulk"})
            for title, step in ((SET, "set"), (GET, "get")):
                work.in_turn(title, step)
            work.whole(KEYS, {"step": "keys"})
            work.whole(ALL, {"step": "all"})


class _Local:
    """The peers that are still there."""

    def __init__(self, results: Measurements, children: dict[str, Child], n_keys: int) -> None:
        self._results = results
        self._children = children
        self._where = Where(n_keys, local=True)

    def prepare(self) -> None:
        """Import what each needs, once."""
        for name in list(self._children):
            self._run(name, {"step": "open"})

    def whole(self, title: str, step: Mapping[str, Any]) -> None:
        """One step by each."""
        for name in list(self._children):
            seconds = self._run(name, step)
            if seconds is not None:
                self._results.add(self._where, name, title, Sample(seconds))

    def in_turn(self, title: str, step: str) -> None:
        """One step by all, a chunk of keys at a time."""
        spent = dict.fromkeys(self._children, 0.0)
        for at in range(0, self._where.n_keys, CHUNK):
            for name in list(self._children):
                seconds = self._run(name, {"step": step, "from": at, "to": at + CHUNK})
                spent[name] += seconds or 0.0
        for name in self._children:
            self._results.add(self._where, name, title, Sample(spent[name]))

    def _run(self, name: str, step: Mapping[str, Any]) -> float | None:
        try:
            answer = self._children[name].run(step)
        except StepFailed as error:
            self._results.missing[f"{name} (local work)"] = str(error)
            del self._children[name]
            return None
        return None if answer is None else answer[0]


def _place(peer: Peer, folder: str, n_keys: int, value_bytes: int) -> Place:
    options = {"n_buckets": str(max(12007, n_keys + n_keys // 4)), **peer.options}
    return Place("", "", "", "", "", "", folder, n_keys, value_bytes, options)
