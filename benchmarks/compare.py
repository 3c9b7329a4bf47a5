"""The life of data in a bucket, by every peer, on one server behind a counting proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.child import Child, StepFailed, running
from benchmarks.measurements import Measurements, Sample, Where
from benchmarks.peers.peer import Place
from benchmarks.roster import CannotInstall, Peer, python_of
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import REGION, S3Server

PREPARE: Final = "get ready"
WRITE_ALL: Final = "write all"
CHANGE: Final = "change 10"
ONE: Final = "open cold, 1 key"
HUNDRED: Final = "100 scattered keys"
THOUSAND: Final = "1,000 scattered keys"
NEAR: Final = "1,000 neighbouring keys"
LIST: Final = "list all keys"
LIST_AGAIN: Final = "list all keys again"
READ_ALL: Final = "read all"
LOAD_ALL: Final = "load all into the local file"
PUSH: Final = {1: "push 1", 10: "push 10", 1000: "push 1,000"}
NO_CHANGES: Final = "changes() with none"
CHANGES: Final = "changes() with 10"

# In this order. Those without a title are done, and not told.
STEPS: Final[tuple[tuple[str | None, Mapping[str, Any]], ...]] = (
    (PREPARE, {"step": "prepare"}),
    (WRITE_ALL, {"step": "write all"}),
    (CHANGE, {"step": "change", "n": 10}),
    (ONE, {"step": "get", "n": 1, "near": False}),
    (HUNDRED, {"step": "get", "n": 100, "near": False}),
    (THOUSAND, {"step": "get", "n": 1000, "near": False}),
    (NEAR, {"step": "get", "n": 1000, "near": True}),
    (LIST, {"step": "list"}),
    (None, {"step": "know"}),
    (LIST_AGAIN, {"step": "list again"}),
    (READ_ALL, {"step": "read all"}),
    (LOAD_ALL, {"step": "load"}),
    # Last, as nobody else does so: what they leave behind would be in the way of the reads above.
    (None, {"step": "resume"}),
    (NO_CHANGES, {"step": "changes", "n": 0}),
    *((title, {"step": "push", "n": n}) for n, title in PUSH.items()),
    (CHANGES, {"step": "changes", "n": 10}),
)
COMPARED: Final = (WRITE_ALL, CHANGE, ONE, HUNDRED, THOUSAND, NEAR, LIST, READ_ALL)
OWN: Final = (*PUSH.values(), NO_CHANGES, CHANGES, LIST_AGAIN, LOAD_ALL)  # what no other peer has


@dataclass(frozen=True)
class Stage:
    """Peers to be compared under the same circumstances."""

    where: Where
    peers: Sequence[Peer]
    rounds: int


class Comparison:
    """One server, one proxy; stages one after the other.

    Args:
        server: whose new bucket is used.
        proxy: before it.
        results: to add to.
        cache: folder in which libraries remember servers, from one process to the next.
    """

    def __init__(
        self, server: S3Server, proxy: CountingProxy, results: Measurements, cache: Path
    ) -> None:
        self._server = server
        self._proxy = proxy
        self._results = results
        self._cache = cache
        self._bucket = server.new_bucket()
        self._lives = 0

    def run(self, stage: Stage, patience_s: float) -> None:
        """Rounds of all peers in turn.

        Args:
            stage: who, how often, and where.
            patience_s: one whose life took longer than this is not asked again.
        """
        waiting = list(stage.peers)
        for number in range(stage.rounds):
            # Who goes first changes from round to round.
            for peer in waiting if number % 2 == 0 else waiting[::-1]:
                try:
                    spent = self._live(peer, stage.where)
                except CannotInstall as error:
                    spent = self._without(peer.name, error)
                except StepFailed as error:
                    where = f"{stage.where.n_keys:,} keys, {stage.where.latency_ms} ms"
                    spent = self._without(f"{peer.name} ({where})", error)
                if spent > patience_s:
                    waiting = [other for other in waiting if other is not peer]

    def _without(self, who: str, error: Exception) -> float:
        """Say why somebody is missing, who is not asked again."""
        self._results.missing[who] = str(error)
        print(f"{who}: {error}", flush=True)
        return float("inf")

    def _live(self, peer: Peer, where: Where) -> float:
        python = python_of(peer)
        with running(python, peer.module, "Remote", self._cache) as (child, folder):
            child.start(self._place(peer, where, folder))
            self._proxy.latency_s = where.latency_ms / 1000
            spent = 0.0
            for title, step in STEPS:
                sample = self._measured(child, step)
                if sample is None or title is None:
                    continue
                spent += sample.seconds
                self._results.add(where, peer.name, title, sample)
            self._proxy.latency_s = 0.0
        print(
            f"{where.n_keys:>9,} keys, {where.latency_ms:>2} ms  {peer.name:20}{spent:8.1f} s",
            flush=True,
        )
        return spent

    def _place(self, peer: Peer, where: Where, folder: Path) -> Place:
        self._lives += 1
        return Place(
            endpoint_url=self._proxy.url,
            access_key_id=self._server.access_key_id,
            access_key=self._server.access_key,
            region=REGION,
            bucket=self._bucket,
            prefix=f"life-{self._lives}",
            folder=str(folder),
            n_keys=where.n_keys,
            value_bytes=self._results.value_bytes,
            options=peer.options,
        )

    def _measured(self, child: Child, step: Mapping[str, Any]) -> Sample | None:
        child.run({"step": "pause" if step["step"] == "change" else "settle"})
        self._proxy.reset()
        answer = child.run(step)
        if answer is None:
            return None
        depth = self._proxy.depth()  # of what was waited for
        child.run({"step": "settle"})
        counts = self._proxy.counts()
        seconds, parts = answer
        return Sample(
            seconds, counts.requests, counts.bytes_up, counts.bytes_down, depth, dict(parts)
        )
