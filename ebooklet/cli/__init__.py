"""The `ebooklet` command."""

from __future__ import annotations

import sys

_INTERRUPTED = 130  # exit status: 128 and the number of SIGINT

__all__ = ["main"]


def main() -> None:
    """Run the command line: the console script `ebooklet`.

    A failure of ours ends with exit status 1 and its message, which says what to do; a traceback
    would add nothing. Ctrl-C ends with 130, as of a shell, and nothing said.
    """
    try:
        _run()
    except KeyboardInterrupt:  # while it was loaded: later, typer sees to it
        sys.exit(_INTERRUPTED)


def _run() -> None:
    # Imported here, as nothing but the command line needs typer and rich.
    from ebooklet.cli.app import app
    from ebooklet.errors import EBookletError

    try:
        app()
    except EBookletError as exc:
        print(f"ebooklet: {exc}", file=sys.stderr)  # noqa: T201  a command's answer
        sys.exit(1)
