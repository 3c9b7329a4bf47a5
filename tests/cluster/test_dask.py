"""Staged writers on a real Dask cluster, one of whose workers is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ebooklet
from ebooklet.testing.servers import S3Server

PROGRAM = Path(__file__).parent / "dask_program.py"
EXAMPLES = Path(__file__).parents[2] / "examples"
LEAN = Path(__file__).parents[1] / "lean"


@pytest.mark.parametrize(
    "n_keys", [2_000, pytest.param(200_000, marks=[pytest.mark.large, pytest.mark.timeout(600)])]
)
def test_a_worker_is_killed_and_nothing_is_lost_or_double(
    seaweedfs: S3Server, tmp_path: Path, n_keys: int
) -> None:
    """Keys computed by tasks are one commit; the killed worker's task runs again, and counts once.

    `map(executor=…, write=True)` then writes some of them anew, by the same cluster, and the example runs on it.
    """
    bucket = seaweedfs.new_bucket()
    fifo = tmp_path / "fifo"
    done = subprocess.run(
        [sys.executable, PROGRAM, str(n_keys), fifo],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(EXAMPLES), str(LEAN))),
            "S3_ENDPOINT_URL": seaweedfs.endpoint_url,
            "S3_BUCKET": bucket,
            "S3_ACCESS_KEY_ID": seaweedfs.access_key_id,
            "S3_ACCESS_KEY": seaweedfs.access_key,
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    *example, counts = done.stdout.splitlines()
    assert example == [
        "staged: 16000 keys; anybody sees 0",
        "commit 2: 16000 keys at once",
        "13255 takes 275 steps",
    ]
    assert json.loads(counts) == [2, n_keys, 3, 100]
    assert (tmp_path / "fifo.done").exists()  # its worker had been killed
    with ebooklet.open(seaweedfs.connection(bucket, "db"), None) as db:
        assert len(db) == n_keys
        numbers = 0
        for n, (key, value) in enumerate(db.items()):
            assert key == f"k{n:07}"
            assert value["text"] == f"{abs(value['number']):080}"
            assert (value["number"] <= 0) == (n < 100)
            numbers += abs(value["number"])
        assert numbers == n_keys * (n_keys - 1) // 2  # each of them once
        report = db.fsck(check_objects=True)
        assert report.ok
        assert report.skipped_young  # what the killed worker had sent, which a sweep will take
