"""The probe: which verdict each kind of server gets (FORMAT §6, §10 test 12)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.boto3 import open_store
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.adapters.remote.probe import Verdict, probe
from ebooklet.errors import AccessDenied, RemoteUnavailable
from ebooklet.ports.remote_store import Capabilities
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, Manners, StoreFault, StoreRule
from ebooklet.testing.servers import S3Server


def store_with(manners: Manners | None = None) -> FaultyRemoteStore:
    clock = ManualClock()
    return FaultyRemoteStore(MemoryRemoteStore(), manners=manners, sleep=clock.sleep)


@pytest.mark.parametrize(
    ("manners", "mode", "style", "reason"),
    [
        (Manners(), "cas", "quoted", ""),
        (Manners(bare_etags_only=True), "cas", "bare", ""),
        (
            Manners(ignores_if_absent=True, ignores_if_match=True),
            "lock",
            "quoted",
            "it overwrote an object in spite of If-None-Match",
        ),
        (Manners(ignores_if_absent=True), "lock", "quoted", "in spite of If-None-Match"),
        (Manners(ignores_if_match=True), "lock", "quoted", "it accepted a stale ETag in If-Match"),
        (Manners(races=True), "lock", "quoted", "racing conditional writes succeeded"),
        (Manners(always_refuses=True), "lock", "quoted", "refused to create an object"),
        (Manners(matches_absent=True), "lock", "quoted", "accepted If-Match on an absent object"),
        (Manners(unsupported=True), "lock", "quoted", "it knows no conditional writes"),
    ],
    ids=lambda value: str(value) if isinstance(value, Manners) else None,
)
def test_verdicts(manners: Manners, mode: str, style: str, reason: str) -> None:
    """FORMAT 10.12: only a server that keeps every rule is trusted with cas; nothing stays behind.

    Fails without: creating twice; the stale ETag; the absent object; the race; the refusal of a
    first creation; the second form of ETags; 501.
    """
    store = store_with(manners)
    verdict = probe(store, "a/db", ManualClock())
    assert (verdict.mode, verdict.etag_style, verdict.server) == (mode, style, "memory://")
    assert reason in verdict.reason
    assert bool(verdict.reason) == (mode == "lock")
    assert list(store.list("")) == []


def test_only_names_of_its_own_are_touched() -> None:
    """What stands beside the database stays, and every probe object is named like one of ours."""
    store = store_with()
    neighbours = ["db", "db.d/x", "db.lock", "db.alt", "db.lock.id-0", "db2"]
    for key in neighbours:
        store.put(key, key.encode())
    known = len(store.calls)
    probe(store, "db", ManualClock())
    touched = {call.key for call in store.calls[known:]}
    assert touched
    assert all(key.startswith("db.lock.probe-") for key in touched)
    assert sorted(meta.key for meta in store.list("")) == sorted(neighbours)


@pytest.mark.parametrize("fault", [StoreFault.LOSE_ANSWER, StoreFault.REFUSE])
@pytest.mark.parametrize("skip", range(8))
def test_one_bad_moment_is_no_verdict(tmp_path: Path, fault: StoreFault, skip: int) -> None:
    """A lost answer or an overload, whichever request it hits, does not condemn a good server.

    Fails if a verdict is remembered although the probe was disturbed.
    """
    store, path = store_with(), tmp_path / "probes.json"
    store.add(StoreRule(fault, op="cas", skip=skip))
    assert probe(store, "db", ManualClock(), cache=ProbeCache(path)).mode == "cas"
    assert list(store.list("")) == []
    assert not path.exists()


def test_a_server_that_throttles_all_racers() -> None:
    """Sixteen racers who are all sent away, as where a key takes one write a second, try again."""
    store = store_with()
    rule = store.add(StoreRule(StoreFault.REFUSE, op="cas", skip=6, times=48))
    assert probe(store, "db", ManualClock()).mode == "cas"
    assert rule.struck == 48


def test_a_server_that_never_answers_conditions(tmp_path: Path) -> None:
    """Where plain writes are answered and conditional ones never, there is only mode lock."""
    store = store_with()
    store.add(StoreRule(StoreFault.VANISH, op="cas", times=None))
    path = tmp_path / "probes.json"
    verdict = probe(store, "db", ManualClock(), cache=ProbeCache(path))
    assert (verdict.mode, verdict.reason) == ("lock", "it never answers conditional writes")
    assert not path.exists()  # it may be a bad hour


def test_an_outage_is_no_verdict(tmp_path: Path) -> None:
    """A store that cannot be reached or written raises, and nothing is remembered of it."""
    path = tmp_path / "probes.json"
    for fault, error in (
        (StoreFault.REFUSE, RemoteUnavailable),
        (StoreFault.DENY, AccessDenied),
    ):
        store = store_with()
        store.add(StoreRule(fault, op="put", times=None))
        with pytest.raises(error):
            probe(store, "db", ManualClock(), cache=ProbeCache(path))
    assert not path.exists()


@pytest.mark.parametrize(
    ("disturbance", "times"),
    [(StoreFault.VANISH, 4), (StoreFault.HOLD, 1)],
    ids=["unanswered", "late"],
)
@pytest.mark.parametrize("skip", [0, 2])
def test_an_outage_in_the_middle_is_no_verdict(
    tmp_path: Path, disturbance: StoreFault, times: int, skip: int
) -> None:
    """All is tried again, on new objects, and nothing is remembered but what was undisturbed.

    Fails if a refusal after a lost request counts at once.
    """
    store = store_with()
    rule = StoreRule(disturbance, op="cas", skip=skip, times=times)
    if disturbance is StoreFault.HOLD:  # it arrives before its repetition does

        def arrives(_: float) -> None:
            store.release_held()

        clock = ManualClock(on_sleep=arrives)
    else:
        clock = ManualClock()
    store.add(rule)
    path = tmp_path / "probes.json"
    assert probe(store, "db", clock, cache=ProbeCache(path)).mode == "cas"
    assert rule.struck == times
    assert json.loads(path.read_text())["memory://"]["mode"] == "cas"


def test_a_server_that_is_always_disturbed_is_not_judged() -> None:
    """One of its requests fails in each trial, and it refuses what it should not: try later.

    Fails if the last trial's refusal is taken for a verdict.
    """
    store = store_with()
    for _ in range(3):
        store.add(StoreRule(StoreFault.REFUSE, op="cas"))
        store.add(StoreRule(StoreFault.REJECT, op="cas"))
    with pytest.raises(RemoteUnavailable, match="try again later"):
        probe(store, "db", ManualClock())


def test_proof_stands_in_any_weather(tmp_path: Path) -> None:
    """A server that was seen to break a rule is not asked again in the hope of a better answer.

    Fails if a trial with disturbances is repeated whatever it showed.
    """
    store = store_with(Manners(ignores_if_match=True))
    store.add(StoreRule(StoreFault.LOSE_ANSWER, op="cas"))
    verdict = probe(store, "db", ManualClock(), cache=ProbeCache(tmp_path / "probes.json"))
    assert verdict.reason == "it accepted a stale ETag in If-Match"
    assert not (tmp_path / "probes.json").exists()


class Unconditional(FaultyRemoteStore):
    """A client without conditions, of a server that may have them."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, conditional_put=False)


def test_what_a_client_lacks_is_not_the_servers(tmp_path: Path) -> None:
    """Such a client needs mode lock whatever others found out, and tells them nothing.

    Fails if the cache is asked before the client's abilities, or filled with them.
    """
    cache, clock = ProbeCache(tmp_path / "probes.json"), ManualClock()
    lacking = Unconditional(MemoryRemoteStore())
    assert probe(lacking, "db", clock, cache=cache).mode == "lock"
    assert probe(store_with(), "db", clock, cache=cache).mode == "cas"
    assert probe(lacking, "db", clock, cache=cache).mode == "lock"


def test_a_spurious_refusal_is_a_violation() -> None:
    """A server that refuses the right ETag cannot move heads."""
    store = store_with()
    store.add(StoreRule(StoreFault.REJECT, op="cas", skip=2, times=2))
    verdict = probe(store, "db", ManualClock())
    assert verdict.reason == "it refused If-Match with the ETag it had just given"


def test_a_folder_is_trusted(tmp_path: Path) -> None:
    """The store in a folder honours conditions under a race."""
    assert probe(FilesystemRemoteStore(tmp_path), "db", ManualClock()).mode == "cas"


def test_real_servers(s3_server: S3Server) -> None:
    """Each real server gets the verdict its family is known for, and is left empty."""
    store, key = open_store(s3_server.connection(s3_server.new_bucket(), "a/db").address())
    try:
        verdict = probe(store, key, ManualClock())
        assert verdict.mode == s3_server.mode_expected, verdict.reason
        assert verdict.server == s3_server.endpoint_url
        assert list(store.list("")) == []
    finally:
        store.close()


# The cache.


def test_a_verdict_is_remembered(tmp_path: Path) -> None:
    """Later creations on the same endpoint send nothing, for 30 days."""
    clock = ManualClock()
    cache = ProbeCache(tmp_path / "deep/probes.json")
    store = store_with(Manners(ignores_if_match=True))
    first = probe(store, "db", clock, cache=cache)
    sent = len(store.calls)
    clock.advance(29 * 86_400)
    assert probe(store, "db", clock, cache=ProbeCache(tmp_path / "deep/probes.json")) == first
    assert len(store.calls) == sent
    clock.advance(2 * 86_400)
    assert probe(store, "db", clock, cache=cache) == first
    assert len(store.calls) > sent


def test_the_cache_forgets_what_is_old(tmp_path: Path) -> None:
    """The file does not grow for ever: a new verdict drops those past their time."""
    clock = ManualClock()
    path = tmp_path / "probes.json"
    cache = ProbeCache(path)
    cache.put("http://old", clock, "cas", "quoted", "")
    clock.advance(31 * 86_400)
    cache.put("http://new", clock, "lock", "bare", "why")
    assert list(json.loads(path.read_text())) == ["http://new"]
    assert cache.get("http://new", clock) == ("lock", "bare", "http://new", "why")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"memory://": 1}',
        b'{"memory://": {"mode": "cas"}}',
        b'{"memory://": {"mode": "none", "etag_style": "quoted", "us": 1, "reason": ""}}',
        b'{"memory://": {"mode": "cas", "etag_style": "quoted", "us": 9e99, "reason": ""}}',
        b" " * (2 << 20),
    ],
    ids=range(10),
)
def test_a_damaged_cache_costs_a_probe(tmp_path: Path, content: bytes) -> None:
    """Whatever the file holds, the verdict is right, and stands in the file afterwards."""
    path = tmp_path / "probes.json"
    path.write_bytes(content)
    clock = ManualClock()
    verdict = probe(store_with(), "db", clock, cache=ProbeCache(path))
    assert verdict == Verdict("cas", "quoted", "memory://", "")
    assert ProbeCache(path).get("memory://", clock) == ("cas", "quoted", "memory://", "")


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A place that takes no file costs a probe each time, and no error."""
    (tmp_path / "file").write_text("")
    cache = ProbeCache(tmp_path / "file/probes.json")
    assert probe(store_with(), "db", ManualClock(), cache=cache).mode == "cas"
