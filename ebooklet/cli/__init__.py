"""The `ebooklet` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line: the console script `ebooklet`.

    A failure of ours ends with exit status 1 and its message, which says what to do; a traceback
    would add nothing.
    """
    # Imported here, as nothing but the command line needs typer and rich.
    from ebooklet.cli.app import app
    from ebooklet.errors import EBookletError

    try:
        app()
    except EBookletError as exc:
        print(f"ebooklet: {exc}", file=sys.stderr)  # noqa: T201  a command's answer
        sys.exit(1)
