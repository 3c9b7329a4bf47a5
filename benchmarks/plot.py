"""Draws panels of lines, both axes logarithmic; run in an environment that has matplotlib.

python plot.py OUT.png < PANELS.json
"""

from __future__ import annotations

import json
import sys

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

COLUMNS = 2


def main() -> None:
    """Panels as a dict of lines, each a list of points."""
    panels = json.load(sys.stdin)
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(11, 3.4 * rows), squeeze=False)
    for (title, lines), axis in zip(panels.items(), axes.flat, strict=False):
        for name, points in lines.items():
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name)
        axis.set_title(title)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("keys")
        axis.grid(visible=True, which="major", alpha=0.3)
    axes.flat[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(sys.argv[1], dpi=90)


if __name__ == "__main__":
    main()
