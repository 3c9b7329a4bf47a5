"""Small multiples as SVG: one line over time in each panel, all from zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 420
_HEIGHT: Final = 150
_MARGIN: Final = 40
_COLUMNS: Final = 2


@dataclass(frozen=True, slots=True)
class Series:
    """One panel: a value a day."""

    title: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """Some panels under one title."""

    title: str
    series: Sequence[Series]

    def svg(self) -> str:
        """The picture."""
        n_rows = -(-len(self.series) // _COLUMNS)
        width = _COLUMNS * (_WIDTH + _MARGIN) + _MARGIN
        height = n_rows * (_HEIGHT + 2 * _MARGIN) + _MARGIN
        panels = [
            _panel(
                one,
                _MARGIN + (number % _COLUMNS) * (_WIDTH + _MARGIN),
                2 * _MARGIN + (number // _COLUMNS) * (_HEIGHT + 2 * _MARGIN),
            )
            for number, one in enumerate(self.series)
        ]
        return "\n".join(
            [
                (
                    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
                    'font-family="sans-serif" font-size="12">'
                ),
                f'<rect width="{width}" height="{height}" fill="white"/>',
                f'<text x="{_MARGIN}" y="25" font-size="16">{escape(self.title)}</text>',
                *panels,
                "</svg>\n",
            ]
        )


def _panel(series: Series, left: float, top: float) -> str:
    highest = max(series.values, default=0.0) or 1.0
    step = _WIDTH / max(1, len(series.values) - 1)
    points = " ".join(
        f"{left + at * step:.1f},{top + _HEIGHT * (1 - value / highest):.1f}"
        for at, value in enumerate(series.values)
    )
    bottom = top + _HEIGHT
    return "\n".join(
        [
            f'<text x="{left}" y="{top - 8}">{escape(series.title)}</text>',
            (
                f'<text x="{left + _WIDTH}" y="{top - 8}" text-anchor="end">'
                f"at most {highest:.3g}</text>"
            ),
            (
                f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
                'stroke="#ccc"/>'
            ),
            f'<polyline points="{points}" fill="none" stroke="#1f6fb2" stroke-width="1.2"/>',
            f'<text x="{left}" y="{bottom + 14}" fill="#666">day 1</text>',
            (
                f'<text x="{left + _WIDTH}" y="{bottom + 14}" text-anchor="end" fill="#666">'
                f"day {len(series.values)}</text>"
            ),
        ]
    )
