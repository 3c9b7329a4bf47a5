"""What authors of plugins import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ebooklet.testing
from ebooklet.adapters import objects
from ebooklet.testing import fixtures, servers
from tests.test_docs import REPOSITORY

SUITES = {
    "ClockContract",
    "DurableLocalStoreContract",
    "LocalStoreContract",
    "LockServiceContract",
    "RemoteStoreContract",
    "S3StoreContract",
    "SerializerContract",
}


@pytest.mark.parametrize("name", ebooklet.testing.__all__)
def test_every_name_of_the_kit_resolves(name: str) -> None:
    """Each name of `__all__` is there, and the same object when asked again."""
    assert getattr(ebooklet.testing, name) is getattr(ebooklet.testing, name)
    assert name in dir(ebooklet.testing)


def test_every_suite_is_in_one_place() -> None:
    """`ebooklet.testing` has every suite, each a subclass of `Contract`, and no misspelt name."""
    suites = {name for name in ebooklet.testing.__all__ if name.endswith("Contract")} - {"Contract"}
    assert suites == SUITES
    contract = ebooklet.testing.Contract
    assert all(issubclass(getattr(ebooklet.testing, name), contract) for name in suites)
    assert not hasattr(ebooklet.testing, "RemoteStoreContrat")


def test_the_helpers_of_stores_are_there() -> None:
    """The names that docs/writing-plugins.md tells authors of stores to use stay."""
    promised = {"check_key", "check_span", "no_copy", "read_body", "read_part"}
    assert promised <= set(objects.__all__)


def test_every_fixture_and_server_is_explained() -> None:
    """The page for authors names each fixture of the kit, and what starts each server without one."""
    page = (REPOSITORY / "docs" / "writing-plugins.md").read_text(encoding="utf-8")
    assert [name for name in fixtures.__all__ if f"\n| `{name}` | " not in page] == []
    assert [n for n in servers.__all__ if n[:6] == "start_" and f"`{n}`" not in page] == []


@pytest.mark.parametrize("missing", ["pytest", "hypothesis"])
def test_without_the_extra(missing: str) -> None:
    """Where pytest or hypothesis is missing, importing a suite names the extra to install."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from ebooklet.testing import FaultyRemoteStore\n"
        "try:\n    from ebooklet.testing import SerializerContract\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == (
        f"ebooklet.testing.SerializerContract needs {missing}, which is not installed: "
        "pip install 'ebooklet[testing]'"
    )
