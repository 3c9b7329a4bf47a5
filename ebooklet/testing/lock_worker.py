"""A process of its own that takes a lock and does as it is told; see `LockServiceContract`.

Run as `python -m ebooklet.testing.lock_worker SOURCE COMMAND …`, where SOURCE is Python that
defines `open_service(brisk: bool) -> LockService`. Answers are JSON, one line each.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ebooklet.errors import LockLostError
from ebooklet.ports.lock_service import LockService

_WAIT_S = 60.0


def _say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def hold(service: LockService, name: str) -> None:
    """Take the lock and answer `lost`, `verify` and `release` until the input ends."""
    lease = service.acquire(name, timeout=_WAIT_S, purpose="worker")
    _say(token=lease.token, pid=os.getpid())
    for line in sys.stdin:
        if line == "lost\n":
            _say(lost=lease.lost)
        elif line == "verify\n":
            try:
                lease.verify()
            except LockLostError as exc:
                _say(lost=True, message=str(exc))
            else:
                _say(lost=False)
        elif line == "release\n":
            lease.release()
            _say(released=True)


def count(service: LockService, name: str, rounds: str, folder: str) -> None:
    """Take the lock `rounds` times, each time alone in the folder; answer the tokens."""
    tokens = []
    alone = Path(folder) / "alone"
    for _ in range(int(rounds)):
        lease = service.acquire(name, timeout=_WAIT_S)
        alone.touch(exist_ok=False)  # fails if another is inside
        tokens.append(lease.token)
        with (Path(folder) / "tokens").open("a") as log:
            log.write(f"{lease.token}\n")
        alone.unlink()
        lease.release()
    _say(tokens=tokens)


def fork(service: LockService, name: str) -> None:
    """Take the lock, let a forked child release its copy, and say what both saw."""
    lease = service.acquire(name, timeout=_WAIT_S)
    child = os.fork()
    if not child:
        lost = lease.lost
        lease.release()
        os._exit(0 if lost else 1)
    _, status = os.waitpid(child, 0)
    try:
        lease.verify()
    except LockLostError as exc:
        _say(child_lost=status == 0, parent_lost=True, message=str(exc))
    else:
        _say(child_lost=status == 0, parent_lost=False)
    lease.release()


def main() -> None:
    """Run the command of the command line."""
    source, command, *arguments = sys.argv[1:]
    namespace: dict[str, Callable[[bool], LockService]] = {}
    exec(compile(source, "<open_service>", "exec"), namespace)  # noqa: S102 - a test's own text
    commands: dict[str, Callable[..., None]] = {"hold": hold, "count": count, "fork": fork}
    commands[command](namespace["open_service"](command == "hold"), *arguments)


if __name__ == "__main__":
    main()
