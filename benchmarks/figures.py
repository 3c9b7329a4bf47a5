"""A table of figures, for the screen and for a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Figures:
    """A titled table; rows are added as they are measured."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)

    def show(self) -> None:
        """Print it."""
        table = Table(title=self.title)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        Console(width=120).print(table)

    def markdown(self) -> str:
        """The same, as Markdown."""
        lines = [self.title, "", "| " + " | ".join(self.columns) + " |", "|---" * len(self.columns)]
        lines[-1] += "|"
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"
