"""The commands, gathered. Each lives in a module of its own and is added here."""

from __future__ import annotations

from typing import Annotated

import typer

import ebooklet
from ebooklet.cli.fsck import fsck
from ebooklet.cli.plugins import plugins

__all__ = ["app"]

app = typer.Typer(
    name="ebooklet",
    help="A key-value database in one local file, kept in step with any S3-compatible bucket.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with local variables would show credentials
    # Its boxes take Markdown and Pygments to draw, which are most of what the help would cost.
    rich_markup_mode=None,
)
app.command()(fsck)
app.command()(plugins)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ebooklet {ebooklet.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """A key-value database in one local file, kept in step with any S3-compatible bucket."""
