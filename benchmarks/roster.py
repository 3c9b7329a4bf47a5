"""Who is measured: names, environments, and what each promises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ebooklet.testing.peer import PEER_REQUIREMENTS, environment_python

HERE: Final = Path(__file__).parent
BOTO3: Final = "boto3==1.43.117"
OURS: Final = "ebooklet"
OPTIMISTIC: Final = "ebooklet (optimistic)"
EXISTING: Final = "ebooklet 0.11.1"
RAW: Final = "one raw object"
BOOKLET: Final = "booklet"


@dataclass(frozen=True)
class Peer:
    """One column of the tables."""

    name: str
    module: str  # in benchmarks.peers
    environment: str = ""  # of the folder .venv-NAME; empty: this one
    requirements: tuple[str, ...] = ()  # pinned
    atomic: bool = False  # readers see all of a write or none of it
    whole: bool = False  # each read and each write moves everything
    about: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_rival(self) -> bool:
        """Whether it is another's and commits atomically: what ours has to be ahead of."""
        return self.atomic and self.module != "ebooklet"


REMOTE: Final = (
    Peer(
        OURS,
        "ebooklet",
        atomic=True,
        about="this one; cold reads keep nothing (`file_path=None`), as those of the others",
        options={"memory": "yes"},
    ),
    Peer(
        "ebooklet (obstore)",
        "ebooklet",
        atomic=True,
        about="the same with `driver='obstore'`",
        options={"memory": "yes", "driver": "obstore"},
    ),
    Peer(
        OPTIMISTIC,
        "ebooklet",
        atomic=True,
        about="the same with `lock='optimistic'`: no lock is taken, as by the others that commit",
        options={"memory": "yes", "lock": "optimistic"},
    ),
    Peer(
        EXISTING,
        "ebooklet",
        "0.11",
        PEER_REQUIREMENTS,
        whole=True,  # in groups of 32 MiB
        about="the existing EBooklet, by the same program; moves groups of 32 MiB; a read that a "
        "push overtakes is a mixture (`python -m benchmarks.atomicity`)",
    ),
    Peer(
        "icechunk",
        "icechunk",
        "icechunk",
        ("icechunk==1.1.21", "zarr==3.1.6"),
        atomic=True,
        about="its store; values are chunks inline in its manifests, the key is the chunk's number",
    ),
    Peer(
        "slatedb",
        "slatedb",
        "slatedb",
        ("slatedb==0.17.0",),
        atomic=True,
        about="batches, flushed at once",
    ),
    Peer(
        "lance",
        "lance",
        "lance",
        ("pylance==14.0.2",),
        atomic=True,
        about="a table of keys and values; no index on the key, filters find rows",
    ),
    Peer(
        "sqlite file",
        "sqlite",
        "boto3",
        (BOTO3,),
        atomic=True,
        whole=True,
        about="uploaded and downloaded whole with boto3",
    ),
    Peer(
        "lmdb file",
        "lmdb",
        "lmdb",
        ("lmdb==3.0.0", BOTO3),
        atomic=True,
        whole=True,
        about="likewise",
    ),
    Peer(
        "obstore",
        "obstore",
        "obstore",
        ("obstore==0.12.1",),
        about="one object for each key, asynchronously, 32 at a time; no commit",
    ),
    Peer(
        "boto3",
        "boto3",
        "boto3",
        (BOTO3,),
        about="one object for each key, 32 threads; no commit",
    ),
    Peer(
        "s3fs",
        "s3fs",
        "s3fs",
        ("aiobotocore==3.10.0", "botocore==1.43.117", "fsspec==2026.9.0", "s3fs==2026.9.0"),
        about="`fsspec.get_mapper`: one object for each key; no commit",
    ),
    Peer(
        RAW,
        "raw_object",
        "boto3",
        (BOTO3,),
        whole=True,
        about="the same bytes put and got at once with boto3: what moving them takes",
    ),
)

LOCAL: Final = (
    Peer(BOOKLET, "booklet", about="plain Booklet, the file below our local half"),
    Peer(OURS, "ebooklet", about="this one, with its default local half"),
    Peer(
        "ebooklet (lmdb)",
        "ebooklet",
        about="this one with `local='lmdb'`",
        options={"local": "lmdb"},
    ),
    Peer("lmdb", "lmdb", "lmdb", ("lmdb==3.0.0", BOTO3), about="LMDB, a transaction a read"),
)

PLOTTING: Final = Peer("matplotlib", "", "matplotlib", ("matplotlib==3.11.2",))


class CannotInstall(Exception):
    """Why there is no environment; names packages, and nothing of where they come from."""


def python_of(peer: Peer) -> Path:
    """The interpreter that has a peer's library; its environment is made where it is not there.

    Raises:
        CannotInstall: pip said no; what it said is on the screen.
    """
    if not peer.requirements:
        return Path(sys.executable)
    folder = HERE.parent / f".venv-{peer.environment}"
    try:
        return environment_python(folder, peer.requirements)
    except subprocess.CalledProcessError as error:
        wanted = " ".join(peer.requirements)
        raise CannotInstall(f"pip ended with {error.returncode} for {wanted}") from error
