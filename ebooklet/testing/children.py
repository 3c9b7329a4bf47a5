"""Forked child processes: they do something, or are killed in the midst of it."""

from __future__ import annotations

import gc
import os
import signal
import traceback
import warnings
from collections.abc import Callable

__all__ = ["in_child", "killed_child"]


def in_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked child.

    Returns:
        0 when it raised nothing; otherwise 1 (its traceback goes to stderr), or the number of
        the signal that ended it, negated.
    """
    child = _fork()
    if child == 0:
        code = 1
        try:
            action()
            gc.collect()
            code = 0
        except BaseException:  # noqa: BLE001  # the child ends here
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_child(action: Callable[[Callable[[], None]], object]) -> None:
    """Run `action` in a forked child and SIGKILL it once it calls its argument."""
    reading, writing = os.pipe()
    child = _fork()
    if child == 0:
        try:
            os.close(reading)
            action(lambda: _report_and_wait(writing))
        except BaseException:  # noqa: BLE001  # the child ends here
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"!", "the child failed before it was to be killed"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns where threads run, as those of test runners do.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _report_and_wait(pipe: int) -> None:
    os.write(pipe, b"!")
    signal.pause()
