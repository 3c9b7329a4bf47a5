"""Contract tests of versions, and of writes on condition."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from ebooklet.errors import EBookletError, ObjectNotFound, PreconditionFailed, UnsupportedOperation
from ebooklet.ports.remote_store import IfAbsent, IfMatch, ObjectMeta, RemoteStore
from ebooklet.testing.contract import Contract
from ebooklet.testing.remote_store.listed import keys_of
from ebooklet.testing.remote_store.racing import RACERS, together
from ebooklet.testing.remote_store.wire import Wire

__all__ = ["ConditionsContract"]


class ConditionsContract(Contract):
    """Versions and conditions."""

    def test_all_answers_name_one_version(self, store: RemoteStore) -> None:
        """Promise 2: put, get, a part, head and list agree on the ETag and the size."""
        put = store.put("k", b"body")
        (listed,) = store.list("k")
        answers = [
            store.get("k").meta,
            store.get("k", start=1, stop=2).meta,
            store.head("k"),
            listed,
        ]
        assert [(m.key, m.size, m.etag) for m in answers] == [("k", 4, put.etag)] * 4

    def test_another_body_has_another_etag(self, store: RemoteStore) -> None:
        """Bodies of one size, put one right after the other, are told apart by their ETags."""
        etags = {store.put("k", b"body %02d" % i).etag for i in range(20)}
        assert len(etags) == 20

    def test_if_absent_creates(self, store: RemoteStore) -> None:
        """Promise 3: where nothing stands, `IfAbsent` writes."""
        self._needs_conditions(store)
        assert store.put("k", b"first", condition=IfAbsent()).etag == store.head("k").etag
        assert store.get("k").body == b"first"

    def test_if_absent_admits_one_writer(self, store: RemoteStore) -> None:
        """Promises 1, 3: the second creator is refused and the first body stays."""
        self._needs_conditions(store)
        store.put("k", b"first", condition=IfAbsent())
        with pytest.raises(PreconditionFailed):
            store.put("k", b"second", condition=IfAbsent())
        assert store.get("k").body == b"first"

    def test_if_absent_after_delete(self, store: RemoteStore) -> None:
        """Promise 3: a deleted object is absent."""
        self._needs_conditions(store)
        store.put("k", b"first")
        store.delete(["k"])
        store.put("k", b"second", condition=IfAbsent())
        assert store.get("k").body == b"second"

    def test_if_match_replaces(self, store: RemoteStore) -> None:
        """Promise 3: a chain of replacements, each naming the version before, goes through."""
        self._needs_conditions(store)
        etag = store.put("k", b"0").etag
        for body in (b"1", b"2", b"3"):
            etag = store.put("k", body, condition=IfMatch(etag)).etag
        assert store.get("k").body == b"3"
        assert store.get("k").meta.etag == etag

    def test_if_match_takes_the_etag_of_any_answer(self, store: RemoteStore) -> None:
        """Promise 3: the ETag of a get, a head or a list names the version as that of a put."""
        self._needs_conditions(store)
        store.put("k", b"0")
        store.put("k", b"1", condition=IfMatch(store.get("k").meta.etag))
        store.put("k", b"2", condition=IfMatch(store.head("k").etag))
        (listed,) = store.list("k")
        store.put("k", b"3", condition=IfMatch(listed.etag))
        assert store.get("k").body == b"3"

    def test_if_match_refuses_a_stale_version(self, store: RemoteStore) -> None:
        """Promises 1, 3: a version that was replaced is never replaced again."""
        self._needs_conditions(store)
        stale = store.put("k", b"first").etag
        store.put("k", b"second")
        with pytest.raises(PreconditionFailed):
            store.put("k", b"third", condition=IfMatch(stale))
        assert store.get("k").body == b"second"

    def test_if_match_refuses_a_missing_object(self, store: RemoteStore) -> None:
        """Promise 3: nothing to replace is refused, and nothing is created."""
        self._needs_conditions(store)
        etag = store.put("k", b"first").etag
        store.delete(["k"])
        with pytest.raises(PreconditionFailed):
            store.put("k", b"second", condition=IfMatch(etag))
        with pytest.raises(ObjectNotFound):
            store.get("k")

    def test_raced_creation_has_one_winner(self, store: RemoteStore) -> None:
        """Promise 3: of creators at the same moment one is told of success, and its body stays."""
        self._needs_conditions(store)
        self._race(store, IfAbsent())

    def test_raced_replacement_has_one_winner(self, store: RemoteStore) -> None:
        """Promise 3: of replacers of one version one is told of success, and its body stays."""
        self._needs_conditions(store)
        self._race(store, IfMatch(store.put("k", b"before").etag))

    def test_conditions_are_sent_or_refused(self, store: RemoteStore, wire: Wire | None) -> None:
        """`conditional_put` tells the truth: conditions cross the wire, or are refused unsent."""
        if not store.capabilities.conditional_put:
            store.put("k", b"body")
            for condition in (IfAbsent(), IfMatch(store.head("k").etag or '"etag"')):
                for key in ("k", "new"):
                    with pytest.raises(UnsupportedOperation):
                        store.put(key, b"other", condition=condition)
            assert keys_of(store.list("")) == ["k"]
            assert store.get("k").body == b"body"
        if wire is not None:
            before = wire.conditions_sent()
            with suppress(UnsupportedOperation):
                etag = wire.store.put("k", b"body", condition=IfAbsent()).etag
                wire.store.put("k", b"other", condition=IfMatch(etag))
            sent = wire.conditions_sent() - before
            assert sent == (2 if store.capabilities.conditional_put else 0)

    def _needs_conditions(self, store: RemoteStore) -> None:
        if not store.capabilities.conditional_put:
            pytest.skip("this store cannot send conditions, and says so")

    def _race(self, store: RemoteStore, condition: IfAbsent | IfMatch) -> None:
        def job(racer: int) -> Callable[[], ObjectMeta]:
            return lambda: store.put("k", b"racer %d" % racer, condition=condition)

        results = together([job(i) for i in range(RACERS)])
        winners = [i for i, result in enumerate(results) if isinstance(result, ObjectMeta)]
        losers = [result for result in results if isinstance(result, EBookletError)]
        assert len(winners) == 1, results
        assert all(isinstance(loser, PreconditionFailed) for loser in losers), losers
        assert store.get("k").body == b"racer %d" % winners[0]
