"""`ebooklet plugins`: what is installed, where it comes from, and what an extra would add."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["plugins"]


def plugins(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for programs.")
    ] = False,
) -> None:
    """List the adapters, serializers and hooks that are installed, and what extras would add.

    Imports each of them to see whether it works. A broken one is listed as such, and the command
    succeeds all the same.
    """
    from ebooklet.cli.listing import answer  # the help needs nothing of it

    answer(as_json=as_json)
