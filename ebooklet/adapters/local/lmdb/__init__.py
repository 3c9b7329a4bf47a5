"""A local store in one LMDB file, with a folder `<file>.ebk` beside it: the quickest there is.

The file is written in whole transactions only, so that no crash leaves a part of one behind.
Other programs may read and edit it with LMDB while no EBooklet has it open.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from uuid import UUID

from ebooklet.adapters.local.lmdb.session import Creation
from ebooklet.adapters.local.lmdb.store import LmdbLocalStore
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import Mode

__all__ = ["LmdbLocalStore", "open_store"]

DEFAULT_BUFFER: Final = 1 << 22


def open_store(
    path: str | os.PathLike[str],
    *,
    clock: Clock,
    mode: Mode = "write",
    create: bool = True,
    replace: bool = False,
    uuid: UUID | None = None,
    value_serializer: str | None = "bytes",
    n_buckets: int | None = None,
    buffer_size: int = DEFAULT_BUFFER,
    lock_timeout: float = 300.0,
    expected_keys: int = 0,
) -> LmdbLocalStore:
    """Open, or make, a local file.

    Args:
        path: the file; a symbolic link is followed. Zero bytes count as absent.
        clock: time, for locks and marks.
        mode: "read" allows any number at once, and short writes (values that were fetched).
        create: make the file where it is absent.
        replace: make it anew even where it is there.
        uuid: of a file that is made; None makes one up. An existing file keeps its own.
        value_serializer: registered name, for a file that is made; None for a class of the
            user's own. An existing file keeps its own.
        n_buckets: not used, like `expected_keys`: a tree grows by itself.
        buffer_size: bytes of writes that are collected before a transaction takes them.
        lock_timeout: seconds to wait for the file, at the open and in a reader's calls.
        expected_keys: see `n_buckets`.

    Raises:
        FileNotFoundError: the file, or the folder it is to be made in, does not exist.
        LocalFileError: what is there is no LMDB file of EBooklet's, or damaged; it is untouched.
        LockTimeout: another handle or process kept the file.
        ReadOnlyError: the folder may not be written.
    """
    creation = Creation(uuid, value_serializer) if create or replace else None
    return LmdbLocalStore(
        Path(path).resolve(),
        mode=mode,
        creation=creation,
        replace=replace,
        buffer_size=buffer_size,
        lock_timeout=lock_timeout,
        clock=clock,
    )
