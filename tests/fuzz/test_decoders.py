"""Whatever bytes come, a decoder gives a value or its own error, in bounded memory, and no more."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.guard import measured, watched
from tests.fuzz.mutations import hostile
from tests.fuzz.target import Target
from tests.fuzz.targets import targets, warm

EXAMPLES: Final = int(os.environ.get("EBOOKLET_FUZZ_EXAMPLES", "18"))
FOUND: Final = Path(__file__).parent / "found"
_FOLDER: Final = Path(tempfile.mkdtemp(prefix="ebooklet-fuzz-"))
TARGETS: Final = targets(_FOLDER)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of plain http URLs


def attempt(target: Target, data: bytes, folder: Path) -> str:
    """Decode, and say what went wrong; "" where nothing did."""
    with watched(folder) as seen, measured() as peak:
        try:
            target.decode(data, folder)
        except target.errors as exc:
            if len(str(exc)) > 2000:
                return f"a message of {len(str(exc))} characters"
        except MemoryError:
            return "out of memory"
    if seen:
        return f"while decoding: {seen}"
    allowed = target.room + target.factor * len(data)
    return f"{peak.used} bytes of memory, {allowed} allowed" if peak.used > allowed else ""


@pytest.fixture(autouse=True)
def _no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever unpickles fails, even where the pickle names no class."""

    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("something was unpickled")

    for name in ("loads", "load", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_bytes_do_no_harm(name: str, tmp_path: Path) -> None:
    """A value or the target's errors; no import, no pickle, no file but its own, memory as stated."""
    target = TARGETS[name]
    warm(target, tmp_path)

    @settings(
        max_examples=EXAMPLES // 6 if target.is_slow else EXAMPLES,
        deadline=None,
        derandomize="EBOOKLET_FUZZ_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(hostile(target.seeds))
    def run(data: bytes) -> None:
        assert attempt(target, data, tmp_path) == ""

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_valid(name: str, tmp_path: Path) -> None:
    """At least one seed of each target decodes: mutations of what never did would find nothing."""
    target = TARGETS[name]
    failures = 0
    for seed in target.seeds:
        try:
            target.decode(seed, tmp_path)
        except target.errors:
            failures += 1
    assert failures < len(target.seeds)


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*.hex")), ids=lambda path: path.stem)
def test_what_fuzzing_found_stays_mended(path: Path, tmp_path: Path) -> None:
    """Each input that once did harm does none any more."""
    target = TARGETS[path.parent.name]
    warm(target, tmp_path)
    assert attempt(target, bytes.fromhex(path.read_text()), tmp_path) == ""


@given(st.sampled_from((b"[" * 2000, b"{" * 2000, b'{"a":' * 2000, b"9" * 5000, b"\x81" * 5000)))
@settings(max_examples=5, deadline=None)
def test_depth_is_no_way_out(deep: bytes) -> None:
    """What nests or counts without end is refused by every quick target as any other bytes."""
    for target in TARGETS.values():
        if target.is_slow:
            continue
        assert attempt(target, deep, _FOLDER) == "", target.name


def test_the_guard_sees(tmp_path: Path) -> None:
    """A foreign file, an import, a pickled class and too much memory are noticed."""
    with watched(tmp_path) as seen, measured() as peak:
        Path(__file__).read_bytes()
        (tmp_path / "own").write_bytes(b"")
        with pytest.raises(ImportError):
            __import__("ebooklet_no_such_module")
        bytearray(1 << 22)
    events = [event.split()[0] for event in seen]
    # An import may have to look into the folders of the path, which are remembered afterwards.
    assert [event for event in events if event != "os.listdir"] == ["open", "import"]
    assert peak.used >= 1 << 22
