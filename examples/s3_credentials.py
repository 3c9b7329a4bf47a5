"""A bucket with credentials of your own, on AWS or any compatible server.

    S3_ENDPOINT_URL=… S3_BUCKET=… S3_ACCESS_KEY_ID=… S3_ACCESS_KEY=… python examples/s3_credentials.py

`S3_ENDPOINT_URL` is left out for AWS itself. The secret is in no local file, no bucket, no `repr`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import ebooklet

NEEDED = ("S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_ACCESS_KEY")
SEASONS = {"summer": (12, 1, 2), "autumn": (3, 4, 5), "winter": (6, 7, 8), "spring": (9, 10, 11)}


def connection(db_key: str, env: Mapping[str, str] = os.environ) -> ebooklet.S3Connection:
    """The connection that the environment describes."""
    return ebooklet.S3Connection(
        env["S3_ACCESS_KEY_ID"],
        env["S3_ACCESS_KEY"],
        db_key,
        env["S3_BUCKET"],
        endpoint_url=env.get("S3_ENDPOINT_URL"),
    )


def check_environment(script: str) -> None:
    """End with a line of usage where the environment names no bucket."""
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        settings = " ".join(f"{name}=…" for name in NEEDED)
        print(f"usage: [S3_ENDPOINT_URL=…] {settings} python {script}", file=sys.stderr)
        print(f"not set: {', '.join(missing)}", file=sys.stderr)
        raise SystemExit(2)


def main(folder: Path) -> None:
    """Two colleagues, each with a local file, work on one database in turn."""
    where = connection("examples/seasons")
    print(where)
    with ebooklet.open(where, folder / "ann.blt", "c", value_serializer="cbor") as ann:
        ann.update({name: {"months": list(months)} for name, months in SEASONS.items()})
        ann.set_metadata({"title": "Seasons of the southern hemisphere"})
        ann.push("four seasons")

    with ebooklet.open(where, folder / "ben.blt", "w") as ben:
        ben["winter"] = {**ben["winter"], "name_in_maori": "takurua"}
        result = ben.push("a name")
        print(f"commit {result.seq}: {result.n_set} key, {result.bytes_up} bytes up")

    with ebooklet.open(where, folder / "ann.blt", "r") as ann:  # opening brings it into step
        print(ann.get_metadata()["title"], "-", ann["winter"]["name_in_maori"])


if __name__ == "__main__":
    check_environment(sys.argv[0])
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
