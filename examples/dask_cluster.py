"""A Dask cluster computes the values of a database, and one commit takes them in.

    S3_ENDPOINT_URL=… S3_BUCKET=… S3_ACCESS_KEY_ID=… S3_ACCESS_KEY=… python examples/dask_cluster.py

Two worker processes on this machine; or a cluster that runs elsewhere, whose address is the argument
(`tcp://scheduler:8786`). Its machines reach the bucket by themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster, as_completed
from s3_credentials import check_environment, connection

import ebooklet
from ebooklet import Staged, StagedWriter

STEPS = 2_000
TASKS = 8


def collatz(number: int) -> int:
    """Steps until the number has come down to 1."""
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


def work(writer: StagedWriter[int], start: int) -> Staged:
    """One task: its share of the numbers, straight into the bucket."""
    with writer:
        for number in range(start, start + STEPS):
            writer[f"{number:08}"] = collatz(number)
    return writer.result


@contextmanager
def cluster(address: str | None) -> Iterator[Client]:
    """The cluster of this address, or one of two processes."""
    if address is not None:
        with Client(address) as client:
            yield client
        return
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client


def main(address: str | None = None) -> None:
    """Share out the numbers, and commit what comes back."""
    where = connection("examples/collatz")
    with ebooklet.open(where, None, "n", "uint4") as db, cluster(address) as client:
        db.push("nothing yet")
        writer = db.fork()
        starts = range(1, 1 + TASKS * STEPS, STEPS)
        tasks = [client.submit(work, writer, start) for start in starts]
        results = [result for _, result in as_completed(tasks, with_results=True)]
        print(f"staged: {sum(each.n_set for each in results)} keys; anybody sees {len(db)}")
        merged = db.merge(*results, message="computed on a cluster")
        print(f"commit {merged.seq}: {merged.n_set} keys at once")
        number, steps = max(db.items(), key=lambda item: item[1])
        print(f"{int(number)} takes {steps} steps")


if __name__ == "__main__":
    check_environment(sys.argv[0])
    main(*sys.argv[1:2])
