"""The default local store: a genuine Booklet file, with a folder `<file>.ebk` beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from uuid import UUID

from ebooklet.adapters.local.booklet.rebuild import DEFAULT_BUCKETS
from ebooklet.adapters.local.booklet.session import Creation
from ebooklet.adapters.local.booklet.store import BookletLocalStore
from ebooklet.adapters.localfiles.beside import folder_beside
from ebooklet.errors import LocalFileError
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import Mode

__all__ = ["BookletLocalStore", "open_store"]

DEFAULT_BUFFER: Final = 1 << 22
_OLD_INDEX: Final = ".remote_index"  # beside files of EBooklet 0.11: keys that may not be in them


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
) -> BookletLocalStore:
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
        n_buckets: size of the index of a file that is made; it grows when needed.
        buffer_size: bytes of writes that are collected before they go to the system.
        lock_timeout: seconds to wait for the file, at the open and in a reader's calls.
        expected_keys: number of keys a file that is made will soon have.

    Raises:
        FileNotFoundError: the file, or the folder it is to be made in, does not exist.
        LocalFileError: what is there is no Booklet that can be used; it is untouched.
        LockTimeout: another handle or process kept the file.
        ReadOnlyError: the folder may not be written.
    """
    resolved = Path(path).resolve()
    if not replace:
        _refuse_old(resolved)
    creation = None
    if create or replace:
        buckets = max(n_buckets or DEFAULT_BUCKETS, expected_keys * 8 // 7 + 1)
        creation = Creation(uuid, value_serializer, buckets)
    return BookletLocalStore(
        resolved,
        mode=mode,
        creation=creation,
        replace=replace,
        buffer_size=buffer_size,
        lock_timeout=lock_timeout,
        clock=clock,
    )


def _refuse_old(path: Path) -> None:
    """Refuse a file of EBooklet 0.11 that may be no more than a cache of its remote.

    Taken for a database of its own, it would be pushed without the keys that were never fetched.
    """
    index = path.with_name(path.name + _OLD_INDEX)
    if index.exists() and path.exists() and not folder_beside(path).exists():
        raise LocalFileError(
            f"{path} was written by EBooklet 0.11, and keys of its database may not be in it: move "
            f"the database with ebooklet.migrate, or remove {index.name} to take what is stored "
            "here for all there is",
            op="open",
        )
