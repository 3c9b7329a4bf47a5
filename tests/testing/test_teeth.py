"""The suites have teeth: adapters that break one promise each are caught, by the test of it."""

from __future__ import annotations

import inspect
import os
import pickle
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO
from urllib.parse import unquote

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet import open_store as open_file
from ebooklet.adapters.local.memory import MemoryLocalStore
from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.errors import LockTimeout, ObjectNotFound, SerializationError
from ebooklet.ports import remote_store as port
from ebooklet.ports.lock_service import LockInfo
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.serializers.json import JSON
from ebooklet.testing import (
    ClockContract,
    Contract,
    DurableLocalStoreContract,
    LocalStoreContract,
    LockServiceContract,
    RemoteStoreContract,
    SerializerContract,
)

WAIT_S = 10.0  # for a thread that is there


CLOCK = SystemClock()


class Wrapped:
    """A part with some answers of its own."""

    def __init__(self, part: object, **answers: object) -> None:
        self.part, self.answers = part, answers

    def __getattr__(self, name: str) -> Any:
        return self.answers[name] if name in self.answers else getattr(self.part, name)


def keeps(suite: Contract, test: str, fixtures: Mapping[str, object]) -> bool:
    """Whether a test of a suite passes with these fixtures."""
    method = getattr(suite, test)
    wanted = inspect.signature(method).parameters
    try:
        method(**{name: value for name, value in fixtures.items() if name in wanted})
    except (Exception, pytest.fail.Exception) as exc:  # noqa: BLE001  # whatever it is, it is caught
        print(f"{test}: {exc!r}")  # for whoever doubts that it is for the right reason
        return False
    return True


def named(value: object) -> str:
    """The part of a test's id."""
    return value.__name__ if isinstance(value, type) else str(value)


# Remote stores.


class LosesTheSecondWrite(MemoryRemoteStore):
    def put(self, key: str, body: Any, **options: Any) -> port.ObjectMeta:
        with suppress(ObjectNotFound):
            return self.head(key)
        return super().put(key, body, **options)


class OneByteTooMany(MemoryRemoteStore):
    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> port.StoredObject:
        return super().get(key, start=start, stop=None if stop is None else stop + 1)


class ShortParts(MemoryRemoteStore):
    def get_ranges(self, ranges: Sequence[port.ByteRange]) -> Iterator[Any]:
        for part in ranges:
            try:
                yield self.get(part.key, start=part.start, stop=part.stop).body
            except ObjectNotFound as exc:
                yield exc


class RangesOutOfOrder(MemoryRemoteStore):
    def get_ranges(self, ranges: Sequence[port.ByteRange]) -> Iterator[Any]:
        return super().get_ranges(sorted(ranges, key=lambda part: (part.key, part.start)))


class TornPuts(MemoryRemoteStore):
    seen: threading.Event | None = None

    def put(self, key: str, body: Any, **options: Any) -> port.ObjectMeta:
        seen = threading.Event()
        if len(body) > 1000 and self._bucket.objects:
            super().put(key, body[: len(body) // 2])
            self.seen = seen
            seen.wait(WAIT_S)
        return super().put(key, body, **options)

    def get(self, key: str, **part: Any) -> port.StoredObject:
        seen, found = self.seen, super().get(key, **part)
        if seen is not None:
            seen.set()
        return found


class IgnoresConditions(MemoryRemoteStore):
    def put(self, key: str, body: Any, **options: Any) -> port.ObjectMeta:
        return super().put(key, body)


class ChecksThenWrites(MemoryRemoteStore):
    def __init__(self) -> None:
        super().__init__()
        self.together = threading.Barrier(2)

    def put(self, key: str, body: Any, *, condition: Any = None, **_: Any) -> port.ObjectMeta:
        if condition is not None:
            self._check(self._bucket.objects.get(key), key, condition)
            with suppress(threading.BrokenBarrierError):
                self.together.wait(WAIT_S)
                self.together.abort()
        return super().put(key, body)


class CreatesWhatItShouldReplace(MemoryRemoteStore):
    def put(self, key: str, body: Any, *, condition: Any = None, **_: Any) -> port.ObjectMeta:
        if isinstance(condition, port.IfMatch) and key not in self._bucket.objects:
            condition = None
        return super().put(key, body, condition=condition)


class Respelt(MemoryRemoteStore):
    """Keys go through a function."""

    spell: Callable[[str], str]

    def put(self, key: str, body: Any, **options: Any) -> port.ObjectMeta:
        return replace(super().put(type(self).spell(key), body, **options), key=key)

    def get(self, key: str, **part: Any) -> port.StoredObject:
        return super().get(type(self).spell(key), **part)


class Composes(Respelt):
    spell = staticmethod(partial(unicodedata.normalize, "NFC"))


class Unquotes(Respelt):
    spell = staticmethod(unquote)


class FoldsCase(Respelt):
    spell = staticmethod(str.lower)


class EtagIsTheSize(MemoryRemoteStore):
    def put(self, key: str, body: Any, **options: Any) -> port.ObjectMeta:
        meta = super().put(key, body, **options)
        return replace(meta, etag=f'"{meta.size}"')


class DeletesByPrefix(MemoryRemoteStore):
    def delete(self, keys: Iterable[str]) -> None:
        super().delete([meta.key for key in keys for meta in self.list(key)])


class StaleLists(MemoryRemoteStore):
    before: tuple[port.ObjectMeta, ...] = ()

    def list(self, prefix: str, *, after: str = "") -> Iterator[port.ObjectMeta]:
        shown, self.before = self.before, tuple(super().list(prefix, after=after))
        return iter(shown)


class ListsFromAKey(MemoryRemoteStore):
    def list(self, prefix: str, *, after: str = "") -> Iterator[port.ObjectMeta]:
        return (meta for meta in super().list(prefix) if meta.key >= after)


class RaisesKeyError(MemoryRemoteStore):
    def _find(self, key: str, op: str) -> port.StoredObject:
        return self._bucket.objects[key]


class TakesAnyKey(MemoryRemoteStore):
    def _find(self, key: str, op: str) -> port.StoredObject:
        if key not in self._bucket.objects:
            raise ObjectNotFound("no such object", op=op, key=key)
        return self._bucket.objects[key]


class TellsItsSecret(MemoryRemoteStore):
    def __repr__(self) -> str:
        return "Store(key='sEcReT')"


class ReadsFilesFromTheStart(MemoryRemoteStore):
    def put(self, key: str, body: port.Body | BinaryIO, **options: Any) -> port.ObjectMeta:
        if not isinstance(body, bytes | bytearray | memoryview):
            body.seek(0)
        return super().put(key, body, **options)


class DeniesItsConditions(MemoryRemoteStore):
    @property
    def capabilities(self) -> port.Capabilities:
        return replace(super().capabilities, conditional_put=False)


class CopiesFromAnywhere(MemoryRemoteStore):
    def copies_from(self, origin: port.Origin | None) -> bool:
        return True


class CopiesNothing(MemoryRemoteStore):
    def copy(self, source: str, target: str, **options: Any) -> port.ObjectMeta:
        try:
            return super().copy(source, target, **options)
        except ObjectNotFound:
            return self.put(target, b"")


REMOTE: dict[type[MemoryRemoteStore], str] = {
    LosesTheSecondWrite: "test_put_replaces",
    OneByteTooMany: "test_parts_of_an_object",
    ShortParts: "test_a_failed_range_stands_in_its_place",
    RangesOutOfOrder: "test_many_ranges_come_in_order",
    TornPuts: "test_a_reader_never_sees_a_mix",
    IgnoresConditions: "test_if_match_refuses_a_stale_version",
    ChecksThenWrites: "test_raced_creation_has_one_winner",
    CreatesWhatItShouldReplace: "test_if_match_refuses_a_missing_object",
    Composes: "test_odd_names",
    Unquotes: "test_odd_names",
    FoldsCase: "test_neighbours_are_separate",
    EtagIsTheSize: "test_another_body_has_another_etag",
    DeletesByPrefix: "test_delete_spares_neighbours",
    StaleLists: "test_list_knows_what_just_happened",
    ListsFromAKey: "test_list_after_a_key",
    RaisesKeyError: "test_absent_objects",
    TakesAnyKey: "test_names_that_are_refused",
    TellsItsSecret: "test_nothing_secret_is_shown",
    ReadsFilesFromTheStart: "test_kinds_of_bodies",
    DeniesItsConditions: "test_conditions_are_sent_or_refused",
    CopiesFromAnywhere: "test_an_origin_out_of_reach",
    CopiesNothing: "test_copy_of_nothing",
}


@pytest.mark.parametrize(("kind", "test"), REMOTE.items(), ids=named)
def test_remote_stores(kind: type[MemoryRemoteStore], test: str, tmp_path: Path) -> None:
    """Each broken store fails the test of the promise it breaks, which the sound one passes."""
    others = {"secrets": ("sEcReT",), "wire": None, "neighbour": None, "tmp_path": tmp_path}
    assert keeps(RemoteStoreContract(), test, {"store": MemoryRemoteStore(), **others})
    assert not keeps(RemoteStoreContract(), test, {"store": kind(), **others})


# Local stores.


class KeepsTheFirst(MemoryLocalStore):
    def set(self, key: str, value: bytes, timestamp: int) -> None:
        if not self.contains(key):
            super().set(key, value, timestamp)


class EmptyIsAbsent(MemoryLocalStore):
    def get(self, key: str) -> bytes | None:
        return super().get(key) or None


class StripsKeys(MemoryLocalStore):
    def set(self, key: str, value: bytes, timestamp: int) -> None:
        super().set(key.strip(), value, timestamp)


class WholeSeconds(MemoryLocalStore):
    def set(self, key: str, value: bytes, timestamp: int) -> None:
        super().set(key, value, timestamp // 1_000_000 * 1_000_000)


class CountsWhatItWasAsked(MemoryLocalStore):
    def delete(self, keys: Iterable[str]) -> int:
        names = list(keys)
        super().delete(names)
        return len(names)


class OrderOfItsOwn(MemoryLocalStore):
    def get_many(self, keys: Sequence[str]) -> Iterator[Any]:
        return super().get_many(sorted(set(keys)))


class LiveIterators(MemoryLocalStore):
    def keys(self) -> Iterator[str]:
        return iter(self._open())


class SwallowsErrors(MemoryLocalStore):
    def set_many(self, items: Iterable[tuple[str, bytes, int]]) -> None:
        with suppress(RuntimeError):
            super().set_many(items)


class ClearsTooMuch(MemoryLocalStore):
    def clear(self) -> None:
        super().clear()
        self._slots.clear()


class OverwritesLogs(MemoryLocalStore):
    def append_log(self, name: str, data: bytes) -> None:
        self.replace_log(name, data)


class LosesLogsWithItsMode(MemoryLocalStore):
    def change_mode(self, mode: Any, *, timeout: float) -> None:
        super().change_mode(mode, timeout=timeout)
        self._logs.clear()


class LosesSlotsWithItsUuid(MemoryLocalStore):
    def adopt_uuid(self, uuid: Any) -> None:
        super().adopt_uuid(uuid)
        self._slots.clear()


class EvictsNothing(MemoryLocalStore):
    def compact(self, *, evict: Iterable[str] = ()) -> int:
        return super().compact()


class WorksOnAfterItsEnd(MemoryLocalStore):
    def close(self) -> None:
        """Keep everything."""


class OneUuidForAll(MemoryLocalStore):
    def __init__(self, *, uuid: Any, **options: Any) -> None:
        from ebooklet.testing.local_store_contract import UUID_GIVEN

        super().__init__(uuid=uuid or UUID_GIVEN, **options)


class WorksInAFork(MemoryLocalStore):
    def refuse(self, reason: Exception) -> None:
        """Keep everything."""


LOCAL: dict[type[MemoryLocalStore], str] = {
    KeepsTheFirst: "test_overwrites",
    EmptyIsAbsent: "test_absent_is_none",
    StripsKeys: "test_takes_any_key",
    WholeSeconds: "test_keeps_extreme_timestamps",
    CountsWhatItWasAsked: "test_deletes",
    OrderOfItsOwn: "test_get_many_keeps_the_order_asked",
    LiveIterators: "test_iterators_are_snapshots",
    SwallowsErrors: "test_set_many_keeps_what_came_before_an_error",
    ClearsTooMuch: "test_clear",
    OverwritesLogs: "test_logs",
    LosesLogsWithItsMode: "test_changing_the_mode_keeps_everything",
    LosesSlotsWithItsUuid: "test_adopting_a_uuid_keeps_everything",
    EvictsNothing: "test_compact",
    WorksOnAfterItsEnd: "test_closing_twice",
    OneUuidForAll: "test_makes_up_uuids",
    WorksInAFork: "test_refuses_after_fork",
}


def opener(kind: type[MemoryLocalStore]) -> Callable[..., MemoryLocalStore]:
    """What the suites call `open_store`."""

    def open_store(place: str = "one", **options: Any) -> MemoryLocalStore:
        return kind(
            uuid=options.get("uuid"),
            value_serializer=options.get("value_serializer", "bytes"),
            writable=options.get("mode", "write") == "write",
        )

    return open_store


@pytest.mark.parametrize(("kind", "test"), LOCAL.items(), ids=named)
def test_local_stores(kind: type[MemoryLocalStore], test: str) -> None:
    """Each broken store fails the test of the promise it breaks, which the sound one passes."""
    for one, passes in ((MemoryLocalStore, True), (kind, False)):
        fixtures = {"open_store": opener(one), "store": opener(one)()}
        assert keeps(LocalStoreContract(), test, fixtures) is passes


DURABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "sync does nothing": ("test_survives_a_kill_after_sync", {"sync": lambda: None}),
    "always clean": ("test_survives_a_kill_after_sync", {"condition": "clean"}),
    "blind to others": (
        "test_a_reader_notices_what_changed_elsewhere",
        {"changed_elsewhere": False},
    ),
    "asks no guard": (
        "test_a_reader_notices_what_changed_elsewhere",
        {"guard": lambda _check: None},
    ),
    "forgets its log": ("test_comes_back_clean", {"append_log": lambda name, data: None}),
    "never the writer": (
        "test_a_reader_becomes_the_writer",
        {"change_mode": lambda *_, **__: None},
    ),
}


@pytest.mark.parametrize(("test", "wrong"), DURABLE.values(), ids=DURABLE)
def test_durable_local_stores(test: str, wrong: dict[str, Any], tmp_path: Path) -> None:
    """Each broken store on disk fails the test of its promise, which the sound one passes."""

    def opener_in(folder: Path, answers: dict[str, Any]) -> Callable[..., Any]:
        folder.mkdir()

        def open_store(place: str = "one", **options: Any) -> Any:
            options = {"lock_timeout": 10.0, **options}
            return Wrapped(open_file(folder / f"{place}.blt", clock=CLOCK, **options), **answers)

        return open_store

    for answers in ({}, wrong):
        fixtures = {"open_store": opener_in(tmp_path / str(len(answers)), answers), "what": "value"}
        assert keeps(DurableLocalStoreContract(), test, fixtures) is not bool(answers)


def test_a_store_that_does_not_last() -> None:
    """A store in memory does not pass for one on disk."""
    fixtures = {"open_store": opener(MemoryLocalStore)}
    assert not keeps(DurableLocalStoreContract(), "test_comes_back_clean", fixtures)


# Lock services.

TIMING = LeaseTiming(poll_first_s=0.01, poll_max_s=0.05)


class Locks(LeaseLockService):
    """Over one store in memory."""

    def __init__(self, remote: RemoteStore) -> None:
        super().__init__(remote, CLOCK, TIMING)


class LetsTwoIn(NullLockService):
    def __init__(self, remote: MemoryRemoteStore) -> None:
        super().__init__(CLOCK)


class RepeatsTokens(Locks):
    def acquire(self, name: str, **options: Any) -> Any:
        return Wrapped(super().acquire(name, **options), token=1)


class IgnoresTheFence(Locks):
    def acquire(self, name: str, *, fence: int = 0, **options: Any) -> Any:
        return super().acquire(name, **options)


class NeverWaits(Locks):
    def acquire(self, name: str, *, timeout: float, **options: Any) -> Any:
        return super().acquire(name, timeout=0, **options)


class NamesNobody(Locks):
    def acquire(self, name: str, **options: Any) -> Any:
        try:
            return super().acquire(name, **options)
        except LockTimeout:
            raise LockTimeout("somebody has it") from None


class ErrorOfItsOwn(Locks):
    def acquire(self, name: str, **options: Any) -> Any:
        try:
            return super().acquire(name, **options)
        except LockTimeout as exc:
            raise RuntimeError("locked") from exc


class KeepsWhatIsReleased(Locks):
    def acquire(self, name: str, **options: Any) -> Any:
        return Wrapped(super().acquire(name, **options), release=lambda: None)


class ReleasesOthers(Locks):
    def acquire(self, name: str, **options: Any) -> Any:
        lease = super().acquire(name, **options)

        def release() -> None:
            lease.release()
            Locks(self._remote).break_lock(name)

        return Wrapped(lease, release=release)


class HeldForEver(Locks):
    def acquire(self, name: str, **options: Any) -> Any:
        return Wrapped(super().acquire(name, **options), lost=False)


class IgnoresForce(Locks):
    def acquire(self, name: str, *, force: bool = False, **options: Any) -> Any:
        return super().acquire(name, **options)


class BreaksTheYoung(Locks):
    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        return super().break_lock(name)


class SeesNobody(Locks):
    def inspect(self, name: str) -> LockInfo | None:
        return None


class FoldsNames(Locks):
    def acquire(self, name: str, **options: Any) -> Any:
        return super().acquire(name.lower(), **options)


LOCKS: dict[type[Any], str] = {
    LetsTwoIn: "test_second_holder_waits_in_vain",
    RepeatsTokens: "test_release_lets_the_next_in",
    IgnoresTheFence: "test_token_is_greater_than_the_fence",
    NeverWaits: "test_a_wait_takes_its_time",
    NamesNobody: "test_timeout_names_the_holder",
    ErrorOfItsOwn: "test_second_holder_waits_in_vain",
    KeepsWhatIsReleased: "test_failed_acquire_leaves_nothing",
    ReleasesOthers: "test_release_twice_frees_once",
    HeldForEver: "test_released_lease_is_lost",
    IgnoresForce: "test_force_takes_it_from_a_live_holder",
    BreaksTheYoung: "test_break_lock_frees_others_only",
    SeesNobody: "test_inspect_tells_the_holder",
    FoldsNames: "test_names_do_not_touch_each_other",
}


@pytest.mark.parametrize(("kind", "test"), LOCKS.items(), ids=named)
def test_lock_services(kind: type[Any], test: str) -> None:
    """Each broken service fails the test of the promise it breaks, which the sound one passes."""
    for one, passes in ((Locks, True), (kind, False)):
        remote = MemoryRemoteStore()

        def open_service(
            brisk: bool, clock: object = None, one: Any = one, at: Any = remote
        ) -> Any:
            return one(at)

        fixtures = {"open_service": open_service, "name": "Db"}
        assert keeps(LockServiceContract(), test, fixtures) is passes


# Serializers.


class Json:
    """As the built-in one."""

    name: str = "json"
    safe: Any = True

    def dumps(self, value: Any, /) -> Any:
        return JSON.dumps(value)

    def loads(self, data: bytes, /) -> Any:
        return JSON.loads(data)


class ChangesValues(Json):
    def loads(self, data: bytes, /) -> Any:
        value = super().loads(data)
        return 0 if value is None else value


class AnotherKindOfBytes(Json):
    def dumps(self, value: Any, /) -> Any:
        return bytearray(super().dumps(value))


class SaltsItsBytes(Json):
    def dumps(self, value: Any, /) -> Any:
        return super().dumps(value) + b" " * (1 + os.urandom(1)[0])


class OtherErrors(Json):
    def dumps(self, value: Any, /) -> Any:
        try:
            return super().dumps(value)
        except SerializationError as exc:
            raise ValueError("no") from exc


class ReadsAnything(Json):
    def loads(self, data: bytes, /) -> Any:
        try:
            return super().loads(data)
        except SerializationError:
            return None


class TrustsBytes(Json):
    def loads(self, data: bytes, /) -> Any:
        text = data.decode()
        return super().loads(text.encode())


class CallsPicklesSafe(Json):
    def loads(self, data: bytes, /) -> Any:
        try:
            return pickle.loads(data)
        except Exception as exc:
            raise SerializationError("no pickle", op="loads") from exc


class EvaluatesText(Json):
    def loads(self, data: bytes, /) -> Any:
        try:
            return eval(data.decode(), {})
        except Exception as exc:
            raise SerializationError("no literal", op="loads") from exc


class AllocatesWhatIsClaimed(Json):
    def loads(self, data: bytes, /) -> Any:
        room = bytearray(min(int.from_bytes(data[:8], "little"), 1 << 28))
        return super().loads(data) if len(room) < 1 << 30 else None


class CopiesNoBuffer(Json):
    def dumps_buffer(self, value: Any, /) -> Any:
        return self.dumps(value)

    def loads(self, data: Any, /) -> Any:
        if not isinstance(data, bytes):
            raise SerializationError("these are no bytes", op="loads")
        return super().loads(data)


class ShowsBytes(Json):
    def loads(self, data: bytes, /) -> Any:
        try:
            return super().loads(data)
        except SerializationError as exc:
            raise SerializationError(f"unreadable: {data!r}", op="loads") from exc


class OneForAllThreads(Json):
    def __init__(self) -> None:
        self.turn = threading.Barrier(2)

    def dumps(self, value: Any, /) -> Any:
        self.value = value
        with suppress(threading.BrokenBarrierError):
            self.turn.wait(0.1)
        return super().dumps(self.value)


class LongName(Json):
    name = "zstd+json+zstd"


class WordForSafe(Json):
    safe = "yes"


SERIALIZERS: dict[type[Json], str] = {
    ChangesValues: "test_values_survive_a_round_trip",
    AnotherKindOfBytes: "test_values_survive_a_round_trip",
    SaltsItsBytes: "test_equal_values_give_equal_bytes",
    OtherErrors: "test_what_it_cannot_hold_is_refused",
    ReadsAnything: "test_what_it_cannot_read_is_refused",
    TrustsBytes: "test_noise_raises_nothing_else",
    CallsPicklesSafe: "test_hostile_bytes_run_nothing",
    EvaluatesText: "test_hostile_bytes_run_nothing",
    AllocatesWhatIsClaimed: "test_hostile_bytes_take_bounded_memory",
    CopiesNoBuffer: "test_buffers_are_as_good_as_bytes",
    ShowsBytes: "test_the_bytes_are_not_in_the_message",
    OneForAllThreads: "test_threads_do_not_disturb_each_other",
    LongName: "test_the_name_is_canonical",
    WordForSafe: "test_it_fits_the_port",
}


@pytest.mark.parametrize(("kind", "test"), SERIALIZERS.items(), ids=named)
def test_serializers(kind: type[Json], test: str) -> None:
    """Each broken serializer fails the test of the promise it breaks, the sound one passes it."""
    suite = SerializerContract()
    suite.refused, suite.unreadable = (object(),), (b"{",)
    assert keeps(suite, test, {"serializer": Json()})
    assert not keeps(suite, test, {"serializer": kind()})


# Clocks.

CLOCKS: dict[str, tuple[str, dict[str, Callable[..., object]]]] = {
    "tells seconds": ("test_wall_time_is_in_microseconds", {"now_us": lambda: 1_700_000_000}),
    "goes back": ("test_monotonic_never_goes_back", {"monotonic": lambda: -CLOCK.monotonic()}),
    "wakes early": ("test_sleep_passes_at_least_its_time", {"sleep": lambda seconds: None}),
    "short tokens": (
        "test_tokens_are_as_long_as_asked_and_differ",
        {"token_bytes": lambda n: os.urandom(n)[1:]},
    ),
    "one token": ("test_tokens_are_as_long_as_asked_and_differ", {"token_bytes": bytes}),
}


@pytest.mark.parametrize(("test", "wrong"), CLOCKS.values(), ids=CLOCKS)
def test_clocks(test: str, wrong: dict[str, Callable[..., object]]) -> None:
    """Each broken clock fails the test of the promise it breaks, which the sound one passes."""
    names = ("now_us", "monotonic", "sleep", "token_bytes")
    sound = {name: getattr(CLOCK, name) for name in names}
    assert keeps(ClockContract(), test, {"clock": SimpleNamespace(**sound)})
    assert not keeps(ClockContract(), test, {"clock": SimpleNamespace(**sound | wrong)})
