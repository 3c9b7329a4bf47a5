"""Serializers of others, as objects: what goes wrong in one is told as of a class."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.memory import open_store
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.dictionaries import Dictionaries
from ebooklet.core.guarded_serializer import GuardedSerializer, guarded_serializer
from ebooklet.errors import SerializationError
from ebooklet.plugins.registry import Registry, installed_entry_points
from ebooklet.ports.serializer import BufferSerializer, TrainedSerializer
from ebooklet.serializers.json import JSON
from ebooklet.serializers.zstd import TrainedZstdSerializer

FAILURES: tuple[type[Exception], ...] = (KeyError, RuntimeError, ebooklet.AccessDenied)


class Odd:
    """Gives its value as it is, and fails to read any."""

    name = "odd"
    safe = True

    def dumps(self, value: Any, /) -> bytes:
        """Give no bytes for what is none."""
        if value is None:
            raise KeyError("oops")
        return value

    def loads(self, data: bytes, /) -> Any:
        """Raise what the first byte says."""
        raise FAILURES[data[0]]("oops")


class OddTrained(TrainedZstdSerializer):
    """A package's own, with every optional part."""


ODD = Odd()
ODD_POINT = EntryPoint("odd", f"{__name__}:ODD", "ebooklet.serializers")


def passed() -> ebooklet.EBooklet[Any]:
    """As an object given to `open`."""
    return ebooklet.open("memory://odd-passed", flag="n", value_serializer=ODD)


def registered() -> ebooklet.EBooklet[Any]:
    """By its entry point's name."""
    registry = Registry(lambda: [*installed_entry_points(), ODD_POINT])
    return ebooklet.open("memory://odd", flag="n", value_serializer="odd", registry=registry)


def embedded() -> ebooklet.EBooklet[Any]:
    """As a built part."""
    clock = SystemClock()
    return ebooklet.Database(
        local=ebooklet.LocalHalf(open_store=open_store, path=None, clock=clock),
        remote=MemoryRemoteStore("odd-embedded"),
        serializer=ODD,
        clock=clock,
    )


@pytest.mark.parametrize("opened", [passed, registered, embedded])
def test_what_it_raises_is_a_serialization_error(
    opened: Callable[[], ebooklet.EBooklet[Any]],
) -> None:
    """Reading names serializer and key, and no key looks absent; what gives no bytes leaves none."""
    with opened() as db:
        for value in (None, "text"):
            for write in (db.__setitem__, db.set, db.setdefault):
                with pytest.raises(SerializationError, match=r"stored as odd.*key 'a'"):
                    write("a", value)
            with pytest.raises(SerializationError, match=r"stored as odd.*key 'a'"):
                db.update({"a": value})
        assert len(db) == 0
        assert not list(db.changes())
        reads: list[Callable[[], object]] = [
            lambda: db["a"],
            lambda: db.get("a", "default"),
            lambda: db.setdefault("a", b"\x00"),
            lambda: db.pop("a", "default"),
            lambda: list(db.items()),
            lambda: list(db.values()),
            lambda: list(db.get_items(["a"])),
            lambda: list(db.timestamps(include_value=True)),
            lambda: db.get_timestamp("a", include_value=True),
        ]
        for raw in (b"\x00", b"\x01"):
            db["a"] = raw
            for read in reads:
                with pytest.raises(SerializationError, match=r"read as odd.*oops.*key 'a'") as got:
                    read()
                assert type(got.value.__cause__) is FAILURES[raw[0]]
        db["a"] = b"\x02"
        with pytest.raises(ebooklet.AccessDenied):
            db.get("a")
        assert db.push()


def test_optional_parts_stay() -> None:
    """Under guard it has what it had, another process too; the built-in ones are as they were."""
    assert guarded_serializer(JSON) is JSON
    plain = guarded_serializer(ODD)
    assert not isinstance(plain, BufferSerializer)
    assert not isinstance(plain, TrainedSerializer)
    trained = guarded_serializer(OddTrained(JSON))
    assert guarded_serializer(trained) is trained
    for each in (trained, pickle.loads(pickle.dumps(trained))):
        assert isinstance(each, GuardedSerializer)
        assert isinstance(each, BufferSerializer)
        assert isinstance(each, TrainedSerializer)
        bound = each.bind(Dictionaries())
        assert bound.loads(bound.rewrite(bytes(each.dumps_buffer(["a"])))) == ["a"]
