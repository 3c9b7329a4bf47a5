"""No decoder without a row: whoever takes bytes or text apart is called by the seeds of the table."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import pytest

import ebooklet
from tests.fuzz.targets import targets

_ROOT: Final = Path(ebooklet.__file__).parent
_TAKES_APART: Final = frozenset(
    (
        *("b64decode", "decompress", "from_wkb", "frombuffer", "fromhex", "fromisoformat"),
        *("loads", "open_file", "parse_qsl", "parsedate_to_datetime", "read_table"),
        *("unpack", "unpack_from", "unpackb", "unquote", "urlsafe_b64decode"),
    )
)
"""Functions and methods of libraries, and our own of the same names."""

_OTHERWISE: Final = {
    "adapters/httpanswers.py": "an answer's own decoding is turned off: see 'http whole'",
    "adapters/local/booklet/handles.py": "hands bytes through",
    "adapters/local/booklet/rebuild.py:_is_json": "a salvage of metadata: test_damage.py",
    "adapters/local/booklet/store.py:BookletLocalStore.set_metadata": "what the program itself sets",
    "adapters/locks/file/service.py": "the path in the program's own URL",
    "adapters/remote/http/client.py": "of the user's own URL, and of redirects: test_remote_http.py",
    "plugins/registry.py": "names of serializers: see 'serializer name'",
    "serializers/custom.py": "a class of the user's own program",
    "serializers/pickle.py": "never for strangers: docs/trust.md, 'Pickles'",
    "services/resolving.py": "hands bytes to the serializer",
    "services/workers.py": "hands bytes to the serializer",
    "services/writing.py": "hands bytes to the serializer",
    "views.py": "hands bytes to the serializer",
}
"""Modules, and functions of modules, that no seed need call, and why."""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def _decoders() -> Iterator[tuple[str, str]]:
    """Module and qualified name of each function that calls one of `_TAKES_APART`."""
    for path in sorted(_ROOT.rglob("*.py")):
        module = path.relative_to(_ROOT).as_posix()
        if module.startswith("testing/") or module in _OTHERWISE:
            continue
        for name, function in _functions(ast.parse(path.read_text("utf-8")), ""):
            if f"{module}:{name}" in _OTHERWISE:
                continue
            if any(_is_taking_apart(node) for node in ast.walk(function)):
                yield module, name


def _functions(node: ast.AST, within: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield within + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{within}{child.name}.")


def _forget_results() -> None:
    """A decoder that remembers what another test had it decode would not run."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ebooklet.core."):
            for each in vars(module).values():
                if hasattr(each, "cache_clear"):
                    each.cache_clear()


def _is_taking_apart(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in _TAKES_APART


def test_every_decoder_has_a_row(tmp_path: Path) -> None:
    """Each function of the library that takes bytes or text apart runs when the seeds are decoded."""
    ran: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            ran.add(frame.f_code)

    table = targets(tmp_path)
    _forget_results()
    sys.setprofile(note)
    try:
        for target in table.values():
            for seed in target.seeds:
                with suppress(*target.errors):
                    target.decode(seed, tmp_path)
    finally:
        sys.setprofile(None)
    called = {
        (Path(code.co_filename).relative_to(_ROOT).as_posix(), code.co_qualname)
        for code in ran
        if code.co_filename.startswith(str(_ROOT))
    }
    missing = sorted(set(_decoders()) - called)
    assert missing == [], f"give each a row, or a reason in `_OTHERWISE`: {missing}"
