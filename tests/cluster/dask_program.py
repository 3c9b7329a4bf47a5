"""A program on a Dask cluster of two worker processes, one of which is killed with work in hand.

Run by `test_dask.py` as `dask_program.py N_KEYS FIFO`, with the environment of the examples, of which
it runs the one for clusters as well.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask_cluster  # type: ignore[import-not-found]  # of the examples, whose folder is in the path
from distributed import Client, LocalCluster, as_completed
from s3_credentials import connection  # type: ignore[import-not-found]  # likewise

import ebooklet
from ebooklet import Staged, StagedWriter

N_TASKS = 40
KILLED = 7  # this task's worker, once its values are in the bucket and before it says so


def computed(n_keys: int, task: int) -> Iterator[tuple[str, Any]]:
    """The share of a task: keys all over, values of about 100 bytes."""
    for number in range(task, n_keys, N_TASKS):
        yield f"k{number * 7919 % n_keys:07}", {"number": number, "text": f"{number:080}"}


def work(writer: StagedWriter[Any], n_keys: int, task: int, fifo: str) -> Staged:
    """What a worker does; the first time, task 7 ends in the death of its process."""
    with writer:
        writer.update(sorted(computed(n_keys, task)))
    if task == KILLED:
        try:
            os.close(os.open(f"{fifo}.done", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return writer.result
        with Path(fifo).open("w") as told:
            told.write(str(os.getpid()))
        signal.pause()
    return writer.result


def negated(key: str, value: Any) -> tuple[str, Any]:
    return key, {**value, "number": -value["number"]}


def kill_when_told(fifo: str) -> None:
    os.kill(int(Path(fifo).read_text()), signal.SIGKILL)


def main() -> None:
    n_keys, fifo = int(sys.argv[1]), sys.argv[2]
    os.mkfifo(fifo)
    threading.Thread(target=kill_when_told, args=(fifo,), daemon=True).start()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        ebooklet.open(connection("db"), None, "c", "json") as db,
    ):
        db.push()
        writer = db.fork()
        tasks = [client.submit(work, writer, n_keys, task, fifo) for task in range(N_TASKS)]
        merged = db.merge(*(result for _, result in as_completed(tasks, with_results=True)))
        few = [f"k{number:07}" for number in range(100)]
        mapped = db.merge(
            *db.map(negated, few, n_workers=2, executor=client.get_executor(), write=True)
        )
        dask_cluster.main(cluster.scheduler_address)
        print(json.dumps([merged.seq, merged.n_set, mapped.seq, mapped.n_set]))


if __name__ == "__main__":
    main()
