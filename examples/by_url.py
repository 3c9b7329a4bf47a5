"""A database named by a URL, which alone decides where it is kept: run it with any one you have.

    python examples/by_url.py [URL]         # a folder of its own without one

For example `file:///data/shared/characters`, `s3://bucket/characters` (credentials as boto3 finds
them), `obstore+s3://bucket/characters` or `memory://characters`.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import islice
from pathlib import Path

import ucd

import ebooklet


def main(url: str, folder: Path) -> None:
    """Publish some characters, change one, and read them as somebody else."""
    some = list(islice(ucd.characters(), 64, 96))
    with ebooklet.open(url, folder / "mine.blt", "c", value_serializer="json") as db:
        db.update({ucd.key_of(character): ucd.properties(character) for character in some})
        print(db.push("the first letters"))

    with ebooklet.open(url, folder / "mine.blt", "w") as db:
        db["U+0041"] = {**db["U+0041"], "note": "the first letter"}
        print([(change["key"], change["kind"]) for change in db.changes()])
        db.push("a note")

    with ebooklet.open(url) as reader:  # no local file: what is read is kept in memory
        print(len(reader), "characters;", "A is", reader["U+0041"]["note"])
        print("between C and F:", list(reader.keys(start="U+0043", stop="U+0046")))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1] if len(sys.argv) > 1 else f"file://{folder}/characters", Path(folder))
