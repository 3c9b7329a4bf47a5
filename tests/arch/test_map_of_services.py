"""The map in `ebooklet.services`: where a newcomer is told to look."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ebooklet import services

ROOT = Path(services.__file__).parent
SUBJECTS = 19  # characters of the first column


def test_names_are_modules() -> None:
    """Each name stands once in the map, and is a module or a package that is there."""
    lines = (services.__doc__ or "").splitlines()
    named = Counter(
        name for line in lines if line[:4].isspace() for name in line[4 + SUBJECTS :].split()
    )
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert len(named) > 50
    assert named.keys() <= there
    assert set(named.values()) == {1}
