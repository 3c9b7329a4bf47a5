"""The life of a database on a loopback server, counted by a proxy, beside the existing EBooklet.

python -m benchmarks.life [--keys N] [--value-bytes N] [--server NAME] [--environments DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.peer import peer_python
from ebooklet.testing.servers import S3Server, start_moto, start_rclone, start_seaweedfs

SERVERS = {"seaweedfs": start_seaweedfs, "moto": start_moto, "rclone": start_rclone}
STEPS = Path(__file__).with_name("life_steps.py")


@dataclass(frozen=True)
class Measured:
    """One step of one library."""

    seconds: float
    requests: int
    up: int  # bytes, bodies only
    down: int


def run(python: Path, server: S3Server, keys: int, size: int) -> dict[str, Measured]:
    """Run all steps with one library."""
    measured: dict[str, Measured] = {}
    bucket = server.new_bucket()
    with tempfile.TemporaryDirectory() as folder, CountingProxy(server.endpoint_url) as proxy:
        parameters = {
            "access_key_id": server.access_key_id,
            "access_key": server.access_key,
            "db_key": "bench/db",
            "bucket": bucket,
            "endpoint_url": proxy.url,
        }
        argv = [python, STEPS, json.dumps(parameters), folder, str(keys), str(size)]
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            for line in child.stdout:
                name = json.loads(line)["step"]
                proxy.reset()
                child.stdin.write("go\n")
                child.stdin.flush()
                seconds = json.loads(child.stdout.readline())["seconds"]
                counts = proxy.counts()
                measured[name] = Measured(
                    seconds, counts.requests, counts.bytes_up, counts.bytes_down
                )
        if child.returncode:
            raise SystemExit(f"the steps failed with {python}: status {child.returncode}")
    return measured


def table(ours: dict[str, Measured], peer: dict[str, Measured], title: str) -> Table:
    """Both libraries side by side, with the ratio of their seconds."""
    made = Table(title=title)
    for column in ("step", "s", "requests", "up", "down", "0.11.1: s", "requests", "up", "down"):
        made.add_column(column, justify="left" if column == "step" else "right")
    made.add_column("times faster", justify="right")
    for name, ou in ours.items():
        pe = peer.get(name)
        row = [name, f"{ou.seconds:.3f}", str(ou.requests), f"{ou.up:,}", f"{ou.down:,}"]
        if pe is not None:
            row += [f"{pe.seconds:.3f}", str(pe.requests), f"{pe.up:,}", f"{pe.down:,}"]
            row.append(f"{pe.seconds / max(ou.seconds, 1e-6):.1f}")
        made.add_row(*row)
    return made


def main() -> None:
    """Measure, print, and write the figures as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--value-bytes", type=int, default=1_000)
    parser.add_argument("--server", choices=SERVERS, default="seaweedfs")
    parser.add_argument("--environments", type=Path, help="where the peer's environment is kept")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python = peer_python((options.environments or folder) / "ebooklet-0.11.1")
        (folder / "server").mkdir()
        with SERVERS[options.server](folder / "server") as server:
            ours = run(Path(sys.executable), server, options.keys, options.value_bytes)
            peer = run(python, server, options.keys, options.value_bytes)
    title = f"{options.keys:,} keys of {options.value_bytes:,} B on {options.server}"
    Console(width=140).print(table(ours, peer, title))
    if options.json:
        figures = {
            "title": title,
            **{
                name: {step: vars(m) for step, m in side.items()}
                for name, side in (("ours", ours), ("existing", peer))
            },
        }
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
