"""Whether one read sees all of a push or none of it: what counts as an atomic peer, found out.

    python -m benchmarks.atomicity

Ours and the existing EBooklet, each by its own library in processes of its own. A reader asks for
ten values that one push changes, at a proxy; before the second of its requests for values goes on
to the server, a writer makes that push, whole. What the reader then has is printed.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.roster import EXISTING, OURS, REMOTE, python_of
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.faults import Fault, FaultRule, RequestInfo
from ebooklet.testing.servers import S3Server, start_seaweedfs

# A megabyte of values in groups of 64 KiB, so that no library reads all of them by one request.
WRITER: Final = """
import json, sys, ebooklet
connection, path, word = json.loads(sys.argv[1]), *sys.argv[2:]
first = word == "old"
with ebooklet.open_ebooklet(ebooklet.S3Connection(**connection), path, "n" if first else "w",
                            value_serializer="bytes", group_bytes=1 << 16) as db:
    for n in range(0, 1000, 1 if first else 100):
        db[f"key-{n:04}"] = word.encode() * 333
    assert db.changes().push()
"""
READER: Final = """
import collections, json, sys, ebooklet
connection, path = json.loads(sys.argv[1]), sys.argv[2]
with ebooklet.open_ebooklet(ebooklet.S3Connection(**connection), path, "r") as db:
    got = dict(db.get_items([f"key-{n:04}" for n in range(0, 1000, 100)]))
print(dict(collections.Counter(value[:3].decode() for value in got.values())))
"""


def main() -> None:
    """Print what a reader of each sees."""
    for peer in REMOTE:
        if peer.name in (OURS, EXISTING):
            print(f"{peer.name}: {seen(python_of(peer))}", flush=True)


def seen(python: Path) -> str:
    """What a read has of a push that was made while it lasted."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary,
        start_seaweedfs(Path(temporary) / "server") as server,
        CountingProxy(server.endpoint_url) as proxy,
    ):
        folder, bucket = Path(temporary), server.new_bucket()
        direct, through = (
            json.dumps(_connection(s, bucket)) for s in (server, server.at(proxy.url))
        )
        _run(python, WRITER, direct, str(folder / "writer"), "old")
        asked = 0

        def push_before_the_second(request: RequestInfo) -> bool:
            nonlocal asked
            if request.method == "GET" and "/db/" in request.path.replace("/db.d/", "/db/"):
                asked += 1
                if asked == 2:
                    _run(python, WRITER, direct, str(folder / "writer"), "new")
            return False

        proxy.inject(FaultRule(Fault.SLOW, when=push_before_the_second))
        found = _run(python, READER, through, str(folder / "reader"))
        return found if asked > 1 else "all by one request: nothing was found out"


def _connection(server: S3Server, bucket: str) -> dict[str, object]:
    return {
        "access_key_id": server.access_key_id,
        "access_key": server.access_key,
        "db_key": "db",
        "bucket": bucket,
        "endpoint_url": server.endpoint_url,
        "threads": 1,
    }


def _run(python: Path, program: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd=tempfile.gettempdir(),
        check=True,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
