"""The probe's verdicts: on fakes that break one rule each, and on real servers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.adapters.remote.probe import probe
from ebooklet.errors import (
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    UnsupportedOperation,
)
from ebooklet.plugins.registry import Registry
from ebooklet.ports.remote_store import Body, Condition, IfAbsent, IfMatch, ObjectMeta
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.servers import S3Server

CLOCK = SystemClock()


class Broken(MemoryRemoteStore):
    """A store in memory that treats conditions as `fault` says."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.puts = 0
        self._slow = threading.Barrier(2, timeout=0.2)

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        self.puts += 1
        match self.fault, condition:
            case "ignores all", _:
                condition = None
            case "ignores If-Match", IfMatch():
                condition = None
            case "501", IfAbsent() | IfMatch():
                raise UnsupportedOperation("not implemented", op="put", key=key)
            case "always 412", IfMatch():
                raise PreconditionFailed("no", op="put", key=key)
            case "no answer", IfMatch():
                raise OutcomeUnknown("no answer", op="put", key=key)
            case "accepts If-Match on absent", IfMatch() if not self._there(key):
                condition = None
            case "bare ETags only", IfMatch(etag):
                if '"' in etag:
                    raise PreconditionFailed("quoted", op="put", key=key)
                condition = IfMatch(f'"{etag}"')
            case "races", IfMatch(etag):
                if not self._there(key) or self.head(key).etag != etag:
                    raise PreconditionFailed("stale", op="put", key=key)
                try:  # look, let another look too, then write: the classic mistake
                    self._slow.wait()
                except threading.BrokenBarrierError:
                    self._slow.reset()
                condition = None
        return super().put(key, body, condition=condition, cache_control=cache_control)

    def _there(self, key: str) -> bool:
        try:
            self.head(key)
        except ObjectNotFound:
            return False
        return True


def test_an_honest_store_gets_mode_cas() -> None:
    """Every rule holds, and nothing is left behind."""
    store = MemoryRemoteStore()
    verdict = probe(store, "folder/db", CLOCK)
    assert (verdict.mode, verdict.etag_style, verdict.reason) == ("cas", "quoted", "")
    assert list(store.list("")) == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("ignores all", "If-None-Match"),
        ("ignores If-Match", "stale"),
        ("501", "knows no conditional writes"),
        ("always 412", "the ETag it had just given"),
        ("no answer", "never answers"),
        ("accepts If-Match on absent", "absent object"),
        ("races", "racing"),
    ],
)
def test_a_store_that_breaks_one_rule_gets_mode_lock(fault: str, says: str) -> None:
    """Each fault is found, named, and leaves nothing behind."""
    store = Broken(fault)
    verdict = probe(store, "db", CLOCK)
    assert verdict.mode == "lock"
    assert says in verdict.reason
    assert list(store.list("")) == []


def test_bare_etags_are_found_out() -> None:
    """Some servers compare the ETag without its quotes."""
    verdict = probe(Broken("bare ETags only"), "db", CLOCK)
    assert (verdict.mode, verdict.etag_style) == ("cas", "bare")


def test_a_verdict_is_remembered_for_30_days(tmp_path: Path) -> None:
    """The second database on a server makes no request; damage only costs a probe."""
    path = tmp_path / "probes.json"
    clock = ManualClock()
    cache = ProbeCache(path)
    store = Broken("ignores all")
    first = probe(store, "db", clock, cache=cache)
    sent = store.puts
    assert probe(store, "other", clock, cache=cache) == first
    assert store.puts == sent
    path.write_text("{damaged", encoding="utf-8")
    assert probe(store, "db", clock, cache=cache) == first
    assert store.puts == 2 * sent
    clock.advance(31 * 24 * 3600)
    probe(store, "db", clock, cache=cache)
    assert store.puts == 3 * sent


def test_real_servers_get_what_they_deserve(s3_server: S3Server, bucket: str) -> None:
    """By what they do, never by their name."""
    connection = s3_server.connection(bucket, "db")
    store, db_key = Registry().remote_store("s3")(connection.address())
    try:
        assert probe(store, db_key, CLOCK).mode == s3_server.mode_expected
        assert list(store.list("")) == []
    finally:
        store.close()
