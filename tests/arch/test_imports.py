"""The arrow points inward: who may import what, and what `import ebooklet` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ebooklet

ROOT = Path(ebooklet.__file__).parent
OURS = {"ebooklet"}
LIBRARIES = {  # part of the package: what it may import beside the standard library and ourselves
    "errors.py": set[str](),
    "connection.py": OURS,
    "ports": OURS,
    "core": OURS | {"cbor2", "zstandard"},
    "services": OURS | {"orjson"},  # Booklet's dialect of JSON for metadata is what orjson says
    "views.py": OURS,
    "mapping.py": OURS,
    "database.py": OURS,
    "session.py": OURS,
    "group.py": OURS,
    "plugins": OURS | {"pluggy"},
    "cli": OURS | {"rich", "typer"},
}
INSIDE = [
    (path, part)
    for part in LIBRARIES
    for path in sorted([ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.py"))
    if path.exists()
]
NEVER_AT_IMPORT = (
    *(
        "booklet",
        "boto3",
        "botocore",
        "cbor2",
        "cryptography",
        "fasteners",
        "fsspec",
        "geopandas",
        "lmdb",
        "minio",
    ),
    *("numpy", "obstore", "orjson", "pandas", "pluggy", "pyarrow", "rich", "shapely", "sqlite3"),
    *("typer", "urllib3", "zstandard"),
    *("asyncio", "importlib.metadata", "multiprocessing", "ssl"),
)


def imported_roots(path: Path) -> Iterator[str]:
    """The top-level package of every import in a module, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize(
    ("path", "part"), INSIDE, ids=[str(path.relative_to(ROOT)) for path, _ in INSIDE]
)
def test_inside_imports_only_what_is_allowed(path: Path, part: str) -> None:
    """An allow-list: a dependency that nobody thought to forbid fails too."""
    assert set(imported_roots(path)) <= sys.stdlib_module_names | LIBRARIES[part]


def fresh(code: str) -> str:
    """What a new interpreter prints; it must end well and warn of nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_no_client_library() -> None:
    """`import ebooklet` loads nothing that only an adapter, a format or the command needs."""
    loaded = set(fresh("import ebooklet, sys; print(*sys.modules, sep='\\n')").split())
    assert "ebooklet" in loaded
    assert not loaded & set(NEVER_AT_IMPORT)


def test_import_is_small() -> None:
    """`import ebooklet` adds a handful of modules: counted, as a clock would depend on the machine."""
    count = "import sys; n = len(sys.modules); import ebooklet; print(len(sys.modules) - n)"
    assert int(fresh(count)) <= 12


def test_errors_and_connections_stay_light() -> None:
    """Catching an error or making a connection loads no client library either."""
    code = (
        "import ebooklet, sys; ebooklet.ConflictError; ebooklet.S3Connection('a','b','c','d');"
        "print(*sys.modules, sep='\\n')"
    )
    assert not set(fresh(code).split()) & set(NEVER_AT_IMPORT)


def test_work_on_a_whole_remote_loads_no_booklet() -> None:
    """Looking at a remote needs no local file, so not Booklet, which loads pandas where it can."""
    code = "import ebooklet, sys; ebooklet.fsck('memory://nothing'); print(*sys.modules, sep='\\n')"
    assert not set(fresh(code).split()) & {"booklet", "pandas"}


def test_the_commands_help_loads_what_it_prints_with() -> None:
    """`ebooklet --help` loads typer, and neither rich nor what its commands work with."""
    code = (
        "import sys; n = len(sys.modules); sys.argv = ['ebooklet', '--help']\n"
        "from ebooklet.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(len(sys.modules) - n, *sys.modules, sep='\\n')"
    )
    printed = fresh(code).split()
    assert not set(printed) & {"ebooklet.bootstrap", "orjson", "pygments", "rich", "urllib3"}
    assert next(int(word) for word in printed if word.isdecimal()) <= 160


class TestPublicFace:
    """`ebooklet` itself."""

    @pytest.mark.parametrize("name", ebooklet.__all__)
    def test_every_public_name_resolves(self, name: str) -> None:
        """Each name of `__all__` is there, and the same object when asked again."""
        assert getattr(ebooklet, name) is getattr(ebooklet, name)

    def test_all_is_complete(self) -> None:
        """`__all__`, which ruff keeps sorted, has no doubles, and every error class is in it."""
        assert len(ebooklet.__all__) == len(set(ebooklet.__all__))
        assert set(ebooklet.errors.__all__) <= set(ebooklet.__all__)
        assert set(ebooklet.__all__) <= set(dir(ebooklet))

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        """A typo is an AttributeError, so that `hasattr` and completion work."""
        assert not hasattr(ebooklet, "opne")

    def test_a_star_import_works(self) -> None:
        """`from ebooklet import *` binds every public name."""
        code = (
            "from ebooklet import *; import ebooklet;"
            "print([n for n in ebooklet.__all__ if n not in globals()])"
        )
        assert fresh(code).strip() == "[]"

    def test_the_version_has_one_home(self) -> None:
        """The version of the module is that of the installed package."""
        from importlib.metadata import version

        assert version("ebooklet") == ebooklet.__version__
