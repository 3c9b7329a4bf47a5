"""The demo runs, on every server; `make demo` runs it with the whole data set."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import S3Server

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of the demo, imported as a script's folder would let it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    yield importlib.import_module("demo")
    for name in ("demo", "ucd"):
        sys.modules.pop(name, None)


@pytest.fixture
def few_characters(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> int:
    """A data set of the first characters and the edited ones, in place of all; its size."""
    ucd = demo.ucd
    some = list(dict.fromkeys([*islice(ucd.characters(), 1500), *demo.NOTED]))
    monkeypatch.setattr(ucd, "characters", lambda: iter(some))
    return len(some)


@pytest.mark.parametrize("server", ["moto", "rclone"])
def test_the_demo_runs(
    demo: ModuleType,
    few_characters: int,
    server: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """The life of a database holds what it verifies, and each of its steps is measured."""
    running: S3Server = request.getfixturevalue(server)
    with CountingProxy(running.endpoint_url) as proxy:
        measured = demo.Measurements(proxy)
        connection = running.at(proxy.url).connection(running.new_bucket(), "demo/ucd")
        assert demo.life(connection, tmp_path, measured) == few_characters
    assert measured.table("").row_count == len(measured.rows) == 16


@pytest.mark.usefixtures("few_characters")
def test_a_wrong_result_fails_it(
    demo: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A value that comes back different ends it with exit code 1, and its folder is removed."""
    properties = demo.ucd.properties
    monkeypatch.setattr(demo.ucd, "properties", lambda c: {**properties(c), "pair": (1, 2)})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert demo.main(["--server", "moto"]) == 1  # JSON makes a list of the tuple
    assert "failed: WrongResult: one key, read cold" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_every_assigned_character_is_there(demo: ModuleType) -> None:
    """Letters, controls and emoji are characters; surrogates, private use and gaps are not."""
    keys = {demo.ucd.key_of(character) for character in demo.ucd.characters()}
    assert {"U+0000", "U+0041", "U+1F600", "U+10FFFF"} & keys == {"U+0000", "U+0041", "U+1F600"}
    assert not keys & {"U+D800", "U+E000", "U+0378"}
    assert len(keys) > 144_000
