"""Stores in a process that was forked after their first use, for each client library."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ebooklet.testing.servers import S3Server

CODE = """
import json, os, sys, warnings
from ebooklet.connection import S3Connection
from ebooklet.errors import ForkedProcessError
from ebooklet.plugins.registry import Registry
from ebooklet.ports.remote_store import ByteRange

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: what is tested
address = S3Connection(**json.loads(sys.argv[1])).address()
store, key = Registry().remote_store(address.scheme)(address)
store.put(key, b"0123456789")
parts = [ByteRange(key, i, i + 1) for i in range(10)]
assert list(store.get_ranges(parts)) == [b"%d" % i for i in range(10)]
child = os.fork()
if child == 0:
    try:
        assert list(store.get_ranges(parts)) == [b"%d" % i for i in range(10)]
        said = store.get(key).body
    except ForkedProcessError:
        said = b"refused"
    except AssertionError:
        said = b"refused" if isinstance(next(iter(store.get_ranges(parts))), ForkedProcessError) else b""
    os.write(1, said)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert store.get(key).body == b"0123456789"
store.close()
os._exit(0)
"""


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        ("boto3", "0123456789"),
        ("minio", "0123456789"),
        ("fsspec", "0123456789"),
        ("obstore", "refused"),
    ],
)
def test_a_forked_child(moto: S3Server, driver: str, said: str) -> None:
    """The child works on connections and threads of its own, or is told that it cannot."""
    connection = moto.connection(moto.new_bucket(), "db", driver=driver)
    names = ("access_key_id", "access_key", "db_key", "bucket", "endpoint_url", "region", "driver")
    parameters = json.dumps({name: getattr(connection, name) for name in names})
    done = subprocess.run(
        [sys.executable, "-c", CODE, parameters],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == (said, 0), done.stderr
