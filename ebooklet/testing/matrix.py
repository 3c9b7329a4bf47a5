"""A pytest plugin for tests of every adapter on every server: `--servers` runs all and tabulates.

A test, a class or a parameter marked `@pytest.mark.matrix(table, row, column)` is a cell of a
table, for example `matrix("contract", "boto3", "seaweedfs")`; many tests may share a cell. With
`representative=False` it runs only under `--servers`, which runs the cells and nothing else, and
prints each table at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import pytest

__all__ = ["tabulated"]

_PROPERTY: Final = "matrix"
_SHOWN: Final = {  # outcome, as pytest's summary calls it, to how a cell says it
    "passed": "ok",
    "xpassed": "ok",
    "xfailed": "known",  # a promise that is known not to hold, with its reason in the test
    "skipped": "n/a",  # an ability that the adapter says it has not
    "failed": "FAILED",
    "error": "ERROR",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--servers`."""
    parser.addoption(
        "--servers",
        action="store_true",
        help="run every cell of the matrix of adapters and servers, nothing else, and print it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "matrix(table, row, column, representative=True): a cell of a table"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose what runs, and note on each cell's tests where they belong."""
    whole = config.getoption("--servers")
    chosen: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("matrix")
        if mark is not None:
            item.user_properties.append((_PROPERTY, list(mark.args)))
        runs = mark is not None if whole else mark is None or _is_representative(mark)
        (chosen if runs else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = chosen


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the tables of a whole run."""
    if not config.getoption("--servers"):
        return
    cells: dict[tuple[str, str, str], Counter[str]] = {}
    for outcome in _SHOWN:
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == _PROPERTY:
                    table, row, column = value
                    cells.setdefault((table, row, column), Counter())[outcome] += 1
    for table in sorted({table for table, _, _ in cells}):
        terminalreporter.write_sep("=", table)
        ours = {(row, column): found for (t, row, column), found in cells.items() if t == table}
        for line in tabulated(ours):
            terminalreporter.write_line(line)


def tabulated(cells: Mapping[tuple[str, str], Mapping[str, int]]) -> Sequence[str]:
    """A Markdown table of (row, column) to counts by outcome."""
    rows = sorted({row for row, _ in cells})
    columns = sorted({column for _, column in cells})
    lines = [["", *columns]]
    lines += [[row, *(_cell(cells.get((row, column), {})) for column in columns)] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
    lines.insert(1, ["-" * width for width in widths])
    return [
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]


def _cell(found: Mapping[str, int]) -> str:
    shown: Counter[str] = Counter()
    for outcome, count in found.items():
        shown[_SHOWN[outcome]] += count
    order = tuple(dict.fromkeys(_SHOWN.values()))
    return ", ".join(f"{shown[word]} {word}" for word in order if shown[word])


def _is_representative(mark: pytest.Mark) -> bool:
    return bool(mark.kwargs.get("representative", True))
