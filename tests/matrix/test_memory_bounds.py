"""What an adapter holds in memory of a large body: the parts under way, not the whole."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from ebooklet.connection import RemoteAddress
from tests.matrix.homes import DRIVERS

MIB: Final = 1 << 20
SIZE: Final = 320 * MIB

# The kernel's high-water mark of the program itself. What the library takes for its first request
# is not counted.
PROGRAM: Final = """
import hashlib, json, pickle, sys
from ebooklet.plugins.registry import Registry

def peak():
    with open("/proc/self/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) << 10

address, path = pickle.loads(bytes.fromhex(sys.argv[1]))
store, _ = Registry().remote_store(address.scheme)(address)
store.put("small", bytes(100_000))
store.get("small")
before = peak()
with open(path, "rb") as file:
    size = store.put("large", file).size
sent = peak()
digest = hashlib.sha256()
for start in range(0, size, 1 << 24):
    digest.update(store.get("large", start=start, stop=min(start + (1 << 24), size)).body)
in_parts = peak()
whole = store.get("large").body
at_once = peak()
store.close()
print(json.dumps([size, sent - before, in_parts - before, at_once - before, digest.hexdigest()]))
assert hashlib.sha256(whole).hexdigest() == digest.hexdigest()
"""


@pytest.mark.parametrize(
    ("adapter", "server"),
    [
        pytest.param(
            adapter,
            server,
            marks=pytest.mark.matrix(
                "memory", adapter, server, representative=adapter == "filesystem"
            ),
            id=f"{adapter}-{server}",
        )
        for adapter, server in (
            *((driver, "seaweedfs") for driver in DRIVERS),
            ("fsspec", "(folder)"),
            ("filesystem", "(folder)"),
        )
    ],
)
def test_a_large_body_is_streamed(
    adapter: str, server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Sent from a file, and read in parts, in less than half of it; read at once, as one copy."""
    path = tmp_path / "body"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(SIZE // MIB):
            part = os.urandom(MIB)
            digest.update(part)
            file.write(part)
    address = address_of(adapter, server, request, tmp_path)
    argv = [sys.executable, "-c", PROGRAM, pickle.dumps((address, str(path))).hex()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    size, sent, in_parts, at_once, found = json.loads(done.stdout)
    assert (size, found) == (SIZE, digest.hexdigest())
    print(f"MiB resident: {[taken // MIB for taken in (sent, in_parts, at_once)]}")
    assert sent < SIZE // 2
    assert in_parts < SIZE // 2
    assert at_once < SIZE + SIZE // 2


def address_of(
    adapter: str, server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> RemoteAddress:
    """A place that nobody else uses."""
    if server == "(folder)":
        root = tmp_path / "root"
        root.mkdir()
        scheme = "file" if adapter == "filesystem" else "fsspec+file"
        return RemoteAddress.parse(f"{scheme}://{root}/db")
    found = request.getfixturevalue(server)
    address: RemoteAddress = found.connection(found.new_bucket(), "db", driver=adapter).address()
    return address
