"""The journal and the resident log: folds, compaction, torn and hostile bytes."""

from __future__ import annotations

import struct
from itertools import accumulate
from pathlib import Path
from zlib import crc32

import cbor2
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.journal import (
    ABSENT,
    UNKNOWN,
    Base,
    JournalRecord,
    Pending,
    PendingDelete,
    PendingMetadata,
    PendingSet,
    PendingState,
    PushSettled,
    PushStarted,
    Rebase,
    ReplaceIntent,
    Settled,
    SettledAll,
    encode_record,
    encode_records,
    replay,
)
from ebooklet.core.resident import (
    Gone,
    Reset,
    Resident,
    ResidentRecord,
    encode_resident,
    replay_resident,
)
from ebooklet.testing.records import damaged, fixed, golden

GOLDEN = Path(__file__).parent / "golden"

keys = st.text("abé", max_size=2)
bases: st.SearchStrategy[Base] = st.sampled_from(
    (UNKNOWN, ABSENT, fixed(16, 1), fixed(16, 2), fixed(32, 3))
)
times = st.integers(0, (1 << 56) - 1)
write_ids = st.sampled_from((fixed(16, 4), fixed(16, 5)))


@st.composite
def based(draw: st.DrawFn) -> tuple[list[str], list[Base]]:
    names = draw(st.lists(keys, max_size=4, unique=True))
    some = draw(st.booleans())
    return names, [draw(bases) for _ in names] if some else []


@st.composite
def deletions(draw: st.DrawFn) -> PendingDelete:
    names, known = draw(based())
    return PendingDelete(names, [draw(times) for _ in names], known)


records: st.SearchStrategy[JournalRecord] = st.one_of(
    based().map(lambda pair: PendingSet(*pair)),
    deletions(),
    based().map(lambda pair: Rebase(pair[0], pair[1] or [UNKNOWN] * len(pair[0]))),
    st.lists(keys, max_size=3).map(Settled),
    st.just(SettledAll()),
    st.booleans().map(PendingMetadata),
    st.booleans().map(ReplaceIntent),
    st.builds(PushStarted, write_ids, st.integers(0, 99)),
    st.builds(PushSettled, write_ids, st.booleans()),
)


class Model:
    """The fold as one would write it down, one key at a time."""

    def __init__(self) -> None:
        self.state = PendingState()

    def take(self, record: JournalRecord) -> None:
        state = self.state
        match record:
            case PendingSet(names, known):
                for name, base in zip(names, known or [UNKNOWN] * len(names), strict=True):
                    state.set(name, base)
            case PendingDelete(names, moments, known):
                known = known or [UNKNOWN] * len(names)
                for name, moment, base in zip(names, moments, known, strict=True):
                    state.delete(name, moment, base)
            case Rebase(names, known):
                for name, base in zip(names, known, strict=True):
                    if name in state.keys:
                        kind, _, moment = state.keys[name]
                        state.keys[name] = Pending(kind, base, moment)
            case Settled(names):
                for name in names:
                    state.keys.pop(name, None)
            case SettledAll():
                state.keys = {}
                state.metadata = state.replace = False
            case PendingMetadata(pending):
                state.metadata = pending
            case ReplaceIntent(on):
                state.replace = on
            case PushStarted(write_id, seq):
                state.in_doubt[write_id] = seq
            case PushSettled(write_id, _):
                state.in_doubt.pop(write_id, None)


@settings(max_examples=150, deadline=None)
@given(st.lists(records, max_size=12))
def test_a_replay_adds_up_to_what_happened(history: list[JournalRecord]) -> None:
    """Records, encoded and replayed, give the state of taking them in one key at a time."""
    model = Model()
    for record in history:
        model.take(record)
    state, intact, _ = replay(encode_records(history))
    assert intact
    assert state == model.state


@settings(max_examples=80, deadline=None)
@given(st.lists(records, max_size=12))
def test_compaction_keeps_the_state(history: list[JournalRecord]) -> None:
    """The shortest log replays to the same state as the long one."""
    state = replay(encode_records(history)).state
    again, intact, _ = replay(state.encode())
    assert intact
    assert again == state
    assert bool(again) == bool(state.keys or state.metadata or state.replace)


@settings(max_examples=60, deadline=None)
@given(st.lists(records, min_size=1, max_size=6), st.data())
def test_a_torn_log_gives_what_was_whole(history: list[JournalRecord], data: st.DataObject) -> None:
    """Cut at any byte, the log replays to the frames before the cut and says that it was torn."""
    frames = [encode_record(record) for record in history]
    log = b"".join(frames)
    cut = data.draw(st.integers(0, len(log)))
    ends = [0, *accumulate(map(len, frames))]
    whole = max(i for i, end in enumerate(ends) if end <= cut)
    state, intact, length = replay(log[:cut])
    assert length == ends[whole]
    assert intact == (cut == length)
    assert state == replay(b"".join(frames[:whole])).state


def example_history() -> list[JournalRecord]:
    return [
        ReplaceIntent(on=True),
        PendingSet(["a", "é"], [fixed(16, 1), ABSENT]),
        PendingSet(["b"]),
        PendingDelete(["a"], [1_760_000_000_000_000], [UNKNOWN]),
        Rebase(["b"], [fixed(16, 2)]),
        PendingMetadata(),
        Settled(["é"]),
        PushStarted(fixed(16, 3), 7),
        PushSettled(fixed(16, 4), confirmed=True),
        PendingSet([f"key {i:04}" for i in range(200)]),
        SettledAll(),
        PendingSet(["last"]),
    ]


def test_bytes_never_change() -> None:
    """The stored log replays to the same state; frames without zstd are byte-equal."""
    log = encode_records(example_history())
    stored = golden(GOLDEN / "journal.hex", log)
    assert replay(stored) == replay(log)
    assert replay(stored).state.keys == {"last": Pending("set", UNKNOWN, 0)}
    plain = encode_records(example_history()[:9])
    assert stored[: len(plain)] == plain
    length, crc = struct.unpack(">II", stored[:8])
    assert crc == crc32(stored[8 : 8 + length])
    assert stored[8 : 8 + length] == b"\0" + cbor2.dumps([7, True])


def test_damage_never_raises_and_never_invents_a_key() -> None:
    """Whatever byte changes, replay stops before it: no key appears that was never written."""
    history = example_history()
    log = encode_records(history)
    written = {key for record in history for key in getattr(record, "keys", ())}
    for bad in damaged(log):
        state, _, length = replay(bad)
        assert length <= len(bad)
        assert state.keys.keys() <= written


def frame(payload: bytes) -> bytes:
    return struct.pack(">II", len(payload), crc32(payload)) + payload


bomb = zstandard.ZstdCompressor().compress(bytes(64 * 1024 * 1024))
unsized = zstandard.ZstdCompressor(write_content_size=False).compress(cbor2.dumps([5]))


@pytest.mark.parametrize(
    "payload",
    [
        b"\x00" + cbor2.dumps([99, "of a newer version"]),
        b"\x00" + cbor2.dumps([1, ["a", 5], None]),
        b"\x00" + cbor2.dumps([1, ["a"], [b"\x11", b"short"]]),
        b"\x00" + cbor2.dumps([1, ["a"], [b"\xff", bytes(254)]]),
        b"\x00" + cbor2.dumps([1, ["a"], [b"", b""]]),
        b"\x00" + cbor2.dumps([2, ["a"], None, []]),
        b"\x00" + cbor2.dumps([2, ["a"], None, [-1]]),
        b"\x00" + cbor2.dumps([8, b"short", 1]),
        b"\x00" + cbor2.dumps([]),
        b"\x00" + cbor2.dumps({}),
        b"\x00",
        b"\x02" + cbor2.dumps([5]),
        b"\x01" + cbor2.dumps([5]),
        b"\x01" + bomb,
        b"\x01" + unsized,
    ],
)
def test_a_frame_that_cannot_be_ours_ends_the_log(payload: bytes) -> None:
    """A whole frame with a good checksum but impossible content is not taken in, nor what follows."""
    good = encode_record(PendingSet(["kept"]))
    state, intact, length = replay(good + frame(payload) + encode_record(PendingSet(["after"])))
    assert state.keys.keys() == {"kept"}
    assert (intact, length) == (False, len(good))


def test_a_tail_of_zeros_is_torn() -> None:
    """Zeros that a file system left after a crash are no empty frames."""
    good = encode_record(PendingSet(["kept"]))
    assert replay(good + bytes(100)) == replay(good)._replace(intact=False)


def test_the_first_known_base_stays() -> None:
    """A base relates to the base commit, so later writes of the key do not move it."""
    state = PendingState()
    for base in (UNKNOWN, fixed(16, 1), fixed(16, 2), ABSENT, UNKNOWN):
        state.apply(PendingSet(["k"], [base]))
    assert state.keys["k"].base == fixed(16, 1)
    state.apply(PendingDelete(["k"], [5]))
    assert state.keys["k"] == Pending("delete", fixed(16, 1), 5)
    state.apply(Rebase(["k"], [ABSENT]))
    assert state.keys["k"].base == ABSENT


def test_many_keys_take_few_bytes_and_come_back() -> None:
    """A large batch is split into bounded frames, compressed, and replays whole."""
    names = [f"sensor/{i:06}" for i in range(40_000)]
    log = encode_record(PendingSet(names))
    assert len(log) < 2 * len(names)
    state, intact, _ = replay(log)
    assert intact
    assert list(state.keys) == names


def test_the_longest_keys_fit() -> None:
    """Keys of 65,535 bytes are split over frames that a reader accepts."""
    names = [f"{i:05}" + "é" * 32_765 for i in range(200)]
    state, intact, _ = replay(encode_record(PendingSet(names, [fixed(16, 1)] * len(names))))
    assert intact
    assert state.keys.keys() == set(names)


@pytest.mark.parametrize(
    "record",
    [PendingSet(["a", "b"], [ABSENT]), PendingDelete(["a"], [1, 2]), Rebase(["a"], [ABSENT] * 2)],
)
def test_columns_of_different_lengths_are_not_written(record: JournalRecord) -> None:
    """A record that would shift bases to other keys is refused."""
    with pytest.raises(ValueError):
        encode_record(record)


resident_records: st.SearchStrategy[ResidentRecord] = st.one_of(
    st.lists(keys, max_size=4).map(Resident),
    st.lists(keys, max_size=4).map(Gone),
    st.just(Reset()),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(resident_records, max_size=10))
def test_resident_keys_add_up(history: list[ResidentRecord]) -> None:
    """The log of resident keys is a set that keys enter and leave."""
    expected: set[str] = set()
    for record in history:
        match record:
            case Resident(names):
                expected |= set(names)
            case Gone(names):
                expected -= set(names)
            case Reset():
                expected = set()
    log = encode_resident(history)
    assert replay_resident(log) == (expected, True, len(log))


def test_a_damaged_resident_log_never_invents_a_key() -> None:
    """Whatever byte changes, only keys that were written come back, and nothing is raised."""
    log = encode_resident([Resident(["a", "b"]), Gone(["a"]), Reset(), Resident(["c"])])
    assert golden(GOLDEN / "resident.hex", log) == log
    for bad in damaged(log):
        found, _, length = replay_resident(bad)
        assert found <= {"a", "b", "c"}
        assert length <= len(bad)
    unknown = frame(b"\x00" + cbor2.dumps([4, ["x"]]))
    assert replay_resident(log + unknown) == ({"c"}, False, len(log))
