"""CONTRACT §1: the names that `import ebooklet` gives, and what they name."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

import ebooklet
import ebooklet.remote
from ebooklet.bootstrap import OpenOptions
from tests.contract.conftest import Place

NAMES = (
    *("open", "open_ebooklet", "open_rcg", "S3Connection", "EVariableLengthValue", "EBooklet"),
    *("RemoteConnGroup", "PushResult", "fsck", "FsckReport", "DEFAULT_GROUP_BYTES", "__version__"),
    *("Error", "ReadOnlyError", "UUIDMismatchError", "RemoteMissingError", "OfflineError"),
    *("UnsupportedFormatError", "GroupTooLargeError", "RemoteIntegrityError", "LockLostError"),
    *("PushInProgressError", "ConcurrentCompactionError"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_exported(name: str) -> None:
    """As an attribute, in `__all__`, and from `ebooklet import`."""
    namespace: dict[str, Any] = {}
    exec(f"from ebooklet import {name}", namespace)
    assert namespace[name] is getattr(ebooklet, name)
    assert name in ebooklet.__all__
    assert name in dir(ebooklet)


def test_what_the_names_are() -> None:
    """Classes where classes are due, one class under its two names, a size, a version."""
    assert ebooklet.EVariableLengthValue is ebooklet.EBooklet
    assert issubclass(ebooklet.EVariableLengthValue, MutableMapping)
    assert issubclass(ebooklet.RemoteConnGroup, ebooklet.EVariableLengthValue)
    assert ebooklet.DEFAULT_GROUP_BYTES == 32 * 1024 * 1024
    assert isinstance(ebooklet.__version__, str)
    assert ebooklet.__version__
    assert ebooklet.remote.S3Connection is ebooklet.S3Connection
    assert issubclass(ebooklet.Error, Exception)


@pytest.mark.parametrize(
    "statement",
    [
        "from ebooklet.remote import S3Connection",
        "import ebooklet; ebooklet.remote.S3Connection",
        "import ebooklet.remote as r; r.S3Connection",
    ],
)
def test_the_import_path_of_older_programs(statement: str) -> None:
    """`ebooklet.remote.S3Connection` works in a program that imported nothing else before."""
    subprocess.run([sys.executable, "-W", "error", "-c", statement], check=True, timeout=60)


@pytest.mark.parametrize("place", ["memory"], indirect=True)
def test_what_the_functions_return(place: Place) -> None:
    """Instances of the two classes, which say by `type` which they are."""
    with ebooklet.open(place.connect("db"), None, "c") as db:
        assert type(db) is ebooklet.EVariableLengthValue
        assert isinstance(db, MutableMapping)
        assert db.type == "EVariableLengthValue"
    with ebooklet.open(place.connect("group"), None, "c", remote_conn_group=True) as group:
        assert type(group) is ebooklet.RemoteConnGroup
        assert isinstance(group, ebooklet.EVariableLengthValue)
        assert group.type == "RemoteConnGroup"
    with ebooklet.open_ebooklet(place.connect("db"), None, "c") as db:
        assert type(db) is ebooklet.EVariableLengthValue
    with ebooklet.open_rcg(place.connect("group"), None, "c") as group:
        assert type(group) is ebooklet.RemoteConnGroup


def test_the_order_of_parameters() -> None:
    """By position as ever; whatever came later by keyword only, and by the right name."""
    older = ["remote_conn", "file_path", "flag", "value_serializer", "n_buckets", "buffer_size"]
    orders: dict[Callable[..., Any], list[str]] = {
        ebooklet.open: [*older, "remote_conn_group"],
        ebooklet.open_ebooklet: older,
        ebooklet.open_rcg: [name for name in older if name != "value_serializer"],
    }
    for function, expected in orders.items():
        parameters = inspect.signature(function).parameters
        named = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert named == expected
        defaults = {name: parameters[name].default for name in expected[2:]}
        assert defaults["flag"] == "r"
        assert (defaults["n_buckets"], defaults["buffer_size"]) == (12007, 2**22)
        assert defaults.get("value_serializer") is None
        keyword_only = {name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
        assert keyword_only == set(OpenOptions.__annotations__)  # spelled out, for `help`
        assert len(parameters) == len(expected) + len(keyword_only)
        with pytest.raises(TypeError, match=r"'lok'; did you mean 'lock'\? .*\bvalue_serializer\b"):
            function("memory://misspelt", lok="optimistic")
    options = inspect.signature(ebooklet.open).parameters
    assert keyword_only >= {
        *("group_bytes", "lock_timeout", "force_lock", "offline", "push_packers", "num_groups")
    }
    assert options["lock_timeout"].default == 300
    assert options["push_packers"].default == 1
