"""A catalogue of databases, in the bucket beside them; the environment as for `s3_credentials.py`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from s3_credentials import SEASONS, check_environment, connection

import ebooklet


def main(folder: Path) -> None:
    """Publish one database a season, list them in a group, and open one from its entry."""
    with ebooklet.open_rcg(
        connection("examples/catalogue"), folder / "catalogue.blt", "c"
    ) as group:
        for season, months in SEASONS.items():
            member = connection(f"examples/months/{season}")
            with ebooklet.open(member, folder / f"{season}.blt", "c", "json") as db:
                db.update({f"{month:02}": {"season": season} for month in months})
                db.set_metadata({"title": f"Months of {season}"})
                db.push()
            group.add(member, key=season)
        group.push("the year")

    mine = connection("examples/catalogue")
    with ebooklet.open(mine) as catalogue:
        for season, entry in catalogue.items():
            signed = {**entry, "access_key_id": mine.access_key_id, "access_key": mine.access_key}
            with ebooklet.open(signed) as db:
                print(f"{season}: {entry['remote_meta']['title']}: {', '.join(db)}")


if __name__ == "__main__":
    check_environment(sys.argv[0])
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
