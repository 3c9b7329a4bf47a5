"""Credentials and keys, looked for in everything that a whole life of a database leaves behind.

Raw bytes are searched for recognisable secrets in several forms: all that is logged at DEBUG, by whatever library; what
objects and errors show of themselves, tracebacks *with the local variables* of each frame; pickles of what is
said to carry none; every file beside the database's and in the caches; every object in the bucket; what the
command prints.
"""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

import ebooklet
from ebooklet import Encryption, KeyFile, S3Connection
from ebooklet.cli.app import app
from ebooklet.testing.counting_proxy import CountingProxy, Fault, FaultRule
from ebooklet.testing.servers import S3Server
from tests.contract.test_s08_groups import forms, in_the_clear

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

WRONG: Final = "wRoNgKeYwRoNgKeYwRoNgKeYwRoNgKeYwRoNgKeY"
"""A secret of a failure, which is as secret as any."""


OF_THE_CALLER: Final = {f"traceback of a wrong {what}" for what in ("URL", "endpoint", "type")}
"""Where the program itself passes a secret to what refuses it: its own argument is a local variable there."""


def drivers() -> Iterator[Any]:
    for name in ("boto3", "minio", "obstore", "fsspec"):
        mark = pytest.mark.matrix("secrets", name, "seaweedfs", representative=name == "boto3")
        yield pytest.param(name, marks=mark)


@dataclass
class Left:
    """What was left behind, by where."""

    bodies: dict[str, bytearray] = field(default_factory=dict, repr=False)  # or tracebacks show it

    def say(self, where: str, *texts: object) -> None:
        shown = "\n".join(str(text) for text in texts).encode("utf-8", "backslashreplace")
        self.keep(where, shown)

    def keep(self, where: str, body: bytes) -> None:
        held = self.bodies.setdefault(where, bytearray())
        held += body + b"\n"

    def show(self, *objects: object) -> None:
        for each in objects:
            self.say(f"object {type(each).__name__}", repr(each), str(each), f"{each}")

    def fail(self, what: str, attempt: Callable[[], object]) -> None:
        """Have something fail, and keep all that can be told of it."""
        try:
            attempt()
        except (ebooklet.Error, ValueError, TypeError, OSError) as exc:
            told = traceback.TracebackException.from_exception(exc, capture_locals=True)
            self.say(f"traceback of {what}", *told.format())
            self.say(f"error of {what}", exc, repr(exc), vars(exc))
            self.keep(f"pickled error of {what}", pickle.dumps(exc))
        else:
            raise AssertionError(f"{what} did not fail")

    def cleared(self) -> dict[str, bytes]:
        """All of it, with what is compressed in the clear."""
        return {
            where: b"\n".join(in_the_clear(bytes(body)))
            for where, body in self.bodies.items()
            if where not in OF_THE_CALLER
        }


def holding(bodies: dict[str, bytes], secret: str | bytes) -> list[str]:
    """Where a secret is, in any form."""
    wanted = list(forms(secret if isinstance(secret, str) else secret.decode("latin-1")))
    return sorted(where for where, body in bodies.items() if any(form in body for form in wanted))


class Noting(logging.Handler):
    """Everything that anybody logs, formatted as a program would, under the library's name."""

    def __init__(self, left: Left) -> None:
        super().__init__(logging.DEBUG)
        self._left = left

    def emit(self, record: logging.LogRecord) -> None:
        self._left.say(f"log of {record.name.partition('.')[0]}", self.format(record), record.args)


@pytest.mark.parametrize("driver", list(drivers()))
def test_no_secret_is_left_anywhere(
    driver: str, seaweedfs: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by a life that goes well, nor by failures of every kind."""
    left = Left()
    root, noting = logging.getLogger(), Noting(left)
    monkeypatch.setattr(root, "handlers", [noting])
    monkeypatch.setattr(root, "level", logging.DEBUG)
    keys = KeyFile.generate(tmp_path / "keys.json", "2026")
    bucket = seaweedfs.new_bucket()
    good = replace(seaweedfs.connection(bucket, "db"), driver=driver, retries=0)
    folder = tmp_path / "files"
    folder.mkdir()
    live(left, good, keys, folder)
    fall(left, seaweedfs, good, keys, folder)
    command(left, good, monkeypatch)
    for place in (folder, Path(os.environ["XDG_CACHE_HOME"])):
        for path in place.rglob("*"):
            if path.is_file():
                left.keep(f"file {path.name}", path.read_bytes())
    client = seaweedfs.client()
    for item in client.list_objects_v2(Bucket=bucket)["Contents"]:
        body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        left.keep(f"object {item['Key']}", body)
    kinds = {where.split()[0] for where in left.bodies}
    assert kinds == {"error", "file", "log", "object", "pickle", "pickled", "printed", "traceback"}
    cleared = left.cleared()
    # The search finds what is there.
    assert {"object plain", "file plain.blt"} <= set(holding(cleared, "a known text"))
    for secret in (good.access_key, WRONG, *(keys.key(key_id) for key_id in keys.ids())):
        assert secret
        assert holding(cleared, secret) == []
    # No secret by itself; SECURITY.md says where clients show it, with a signature of one request.
    shown = [where.split()[0] for where in holding(cleared, good.access_key_id or "")]
    assert set(shown) <= {"log", "traceback"}
    assert "log of ebooklet" not in holding(cleared, good.access_key_id or "")


def live(left: Left, good: S3Connection, keys: KeyFile, folder: Path) -> None:
    """What a program does with databases, encrypted and plain, in groups and elsewhere."""
    sealed = Encryption({"k": keys.key("2026")}, current="k")
    left.show(good, good.address(), keys, sealed)
    with ebooklet.open(good, folder / "db.blt", "c", "json", encryption=keys) as db:
        db.update({"a": 1, "b": "b" * 100})
        db.set_metadata({"title": "t"})
        left.show(db, db.changes(), db.push("message"), db.lock, db._copy.remote, db._copy)
        left.show(db.tag("v1"), db.status() if hasattr(db, "status") else "", *db.log())
        with db.fork() as writer:
            writer["c"] = 2
        left.show(writer, writer.result, db.merge(writer.result), db.pull())
        left.keep("pickle of a result", pickle.dumps(writer.result))
        left.keep("pickle of a key file", pickle.dumps(keys))
        left.show(db.gc(), db.compact())
        db["pending"] = 3
    plain = replace(good, db_key="plain")
    with ebooklet.open(plain, folder / "plain.blt", "c", "json") as db:
        db["known"] = "a known text"
        db.push()
        db.copy_remote(replace(good, db_key="copy"))
    with ebooklet.open_rcg(replace(good, db_key="group"), folder / "g.blt", "c") as group:
        group.add(plain)
        left.show(group, dict(group), group.push())
        left.keep("pickle of an entry", pickle.dumps(dict(group)))
    with plain.open("w") as session:
        left.show(session, session.get_uuid(), session.create_lock())
    left.show(ebooklet.fsck(plain, check_objects=True))
    with replace(good, db_key="copy").open("w") as session:
        session.delete_remote()


def fall(left: Left, server: S3Server, good: S3Connection, keys: KeyFile, folder: Path) -> None:
    """Failures of every kind."""

    def opening(connection: S3Connection, **options: Any) -> Callable[[], object]:
        return lambda: ebooklet.open(
            connection, folder / "failing.blt", "c", value_serializer="json", **options
        )

    nowhere = replace(good, endpoint_url="http://127.0.0.1:9", read_timeout=1)
    left.fail("a wrong key", opening(replace(good, access_key=WRONG)))
    left.fail("a wrong id", opening(replace(good, access_key_id="nobody", access_key=WRONG)))
    left.fail("a refused connection", opening(nowhere))
    left.fail("a name", opening(replace(nowhere, endpoint_url="http://nowhere.invalid")))
    left.fail("no bucket", opening(replace(good, bucket="no-such-bucket")))
    left.fail(
        "no TLS", opening(replace(good, endpoint_url=server.endpoint_url.replace("p:", "ps:")))
    )
    left.fail("a missing key", opening(good))
    left.fail("another key", opening(good, encryption=Encryption({"2026": WRONG[:32].encode()})))
    left.fail("a wrong URL", lambda: ebooklet.open(f"s3://id:{WRONG}@bucket/db"))
    left.fail("a wrong endpoint", lambda: replace(good, endpoint_url=f"https://i:{WRONG}@host"))
    text: Any = "many"
    left.fail("a wrong type", lambda: replace(good, access_key=WRONG, threads=text))
    left.fail("a pickle", lambda: pickle.dumps(Encryption({"k": WRONG[:32].encode()})))
    with CountingProxy(server.endpoint_url) as proxy:
        through = replace(good, endpoint_url=proxy.url, db_key="plain")
        with ebooklet.open(through, folder / "cut.blt", "w") as db:
            db["k"] = "v"
            proxy.inject(FaultRule(Fault.CUT_BEFORE, times=1000))
            left.fail("a cut", db.push)
            proxy.clear_faults()


def command(left: Left, good: S3Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line takes credentials from the environment alone: no argument holds any."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", good.access_key_id or "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", good.access_key or "")
    monkeypatch.setenv("AWS_ENDPOINT_URL", good.endpoint_url or "")
    for arguments in (
        [f"s3://{good.bucket}/plain", "--json"],
        [f"s3://{good.bucket}/none"],
        [f"s3://id:{WRONG}@bucket/db"],
    ):
        done = CliRunner().invoke(app, ["fsck", *arguments])
        left.say("printed by fsck", done.output)
