"""Checked by mypy, never run: every adapter fits its port, and users' code has the right types."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import Any, assert_type

import ebooklet
from ebooklet import errors
from ebooklet.adapters.encryption.aesgcm import AesGcmCipher
from ebooklet.connection import S3Connection
from ebooklet.plugins.hooks import Conflict, HookFailure, HookSpecs, Resolution, hookimpl
from ebooklet.plugins.registry import Registry
from ebooklet.ports.cipher import Cipher, KeySource
from ebooklet.ports.serializer import Serializer
from ebooklet.serializers.cbor import CBOR
from ebooklet.serializers.custom import CustomSerializer, as_serializer
from ebooklet.serializers.json import JSON
from ebooklet.serializers.msgpack import MSGPACK
from ebooklet.serializers.orjson import ORJSON
from ebooklet.serializers.pickle import PICKLE
from ebooklet.serializers.raw import BYTES
from ebooklet.serializers.text import STR
from ebooklet.serializers.zstd import ZstdSerializer, wrap


class Typed(HookSpecs):
    """A hook plugin is held against the specifications."""

    @hookimpl
    def before_push(self, db: ebooklet.EBooklet[Any], message: str | None) -> None: ...

    @hookimpl
    def after_push(self, db: ebooklet.EBooklet[Any], result: ebooklet.PushResult) -> None:
        assert_type(result.hook_failures, tuple[HookFailure, ...])

    @hookimpl
    def on_conflict(self, db: ebooklet.EBooklet[Any], conflict: Conflict) -> Resolution | None:
        return "ours" if conflict.ours is not None else None


class Mistyped(HookSpecs):
    """Strict mypy complains of an ignore that is not needed: each of these is an error."""

    def on_open(self, db: ebooklet.EBooklet[Any], flag: int) -> None: ...  # type: ignore[override]  # no str

    def before_push(self, db: ebooklet.EBooklet[Any]) -> None: ...  # type: ignore[override]  # no message

    def on_conflict(self, db: ebooklet.EBooklet[Any], conflict: Conflict) -> str:  # type: ignore[override]  # any str
        return conflict.key


ebooklet.open("memory://typed", flag="c", plugins=[Typed()])
serializers: list[Serializer] = [
    *(BYTES, STR, PICKLE, JSON, ORJSON, CBOR, MSGPACK),
    *(ZstdSerializer(JSON), wrap(CBOR), CustomSerializer(int), as_serializer(int)),
]
assert_type(Registry().serializer("json+zstd"), Serializer)

cipher: Cipher = AesGcmCipher()
keys: list[KeySource] = [ebooklet.KeyFile("keys.json"), ebooklet.Encryption({}, None)]


def exported(db: ebooklet.EBooklet[int], group: ebooklet.RemoteConnGroup) -> None:
    """The lazy face gives checkers the true classes."""
    mapping: MutableMapping[str, int] = db
    older: ebooklet.EVariableLengthValue[int] = db
    assert_type(db["k"], int)
    assert_type(ebooklet.S3Connection(db_url="https://example.com/db"), S3Connection)
    report = ebooklet.migrate("old.blt", "memory://new")
    assert_type(report, ebooklet.MigrationReport)
    assert_type(report.failures, Mapping[str, str])
    with ebooklet.S3Connection(db_url="https://example.com/db").open("r") as session:
        assert_type(session, ebooklet.RemoteSession)
        assert_type(session.get_timestamp(), int | None)
        assert_type(session.create_lock(), ebooklet.RemoteLock)
    assert_type(ebooklet.errors.Error("x"), errors.EBookletError)
    assert_type(ebooklet.open("memory://g", remote_conn_group=True), ebooklet.RemoteConnGroup)
    assert_type(ebooklet.open("memory://g", remote_conn_group=False), ebooklet.EBooklet[Any])
    assert_type(ebooklet.open("memory://g", None, "c", "json"), ebooklet.EBooklet[Any])
    assert_type(ebooklet.open("memory://g", version=3), ebooklet.EBooklet[Any])
    assert_type(next(db.log()), ebooklet.CommitInfo)
    assert_type(next(db.diff("main", 3)), ebooklet.Difference)
    assert_type(next(db.diff(3))["new_timestamp"], datetime | None)
    assert_type(db.revert("v1", "why"), ebooklet.PushResult)
    assert_type(db.fingerprint(), str)
    assert_type(db.fork(), ebooklet.StagedWriter[int])
    with db.fork() as writer:
        writer["k"] = 1
        writer["k"] = "no int"  # type: ignore[assignment]  # an int is due
    assert_type(db.merge(writer.result), ebooklet.PushResult)
    assert_type(next(db.map(lambda key, value: (key, value), write=True)), ebooklet.Staged)
    assert_type(next(db.map(lambda key, value: [value])), list[int])
    assert_type(ebooklet.__version__, str)
    del mapping, older, group
