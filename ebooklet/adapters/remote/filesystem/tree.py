"""Keys as files below a root: `adapters.keypaths` with descriptors, following no link.

An object stands under one of two names: the second where a folder has taken the first. It only
ever moves from the first to the second.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from ebooklet.adapters.files import ABSENT, FOLDER_FLAGS, file_type, open_regular
from ebooklet.adapters.keypaths import HIDDEN_FOLDER, decode, encode, set_aside
from ebooklet.errors import BucketMissingError

Elements: TypeAlias = list[str]  # names of a path, from the root down


class KeyTree:
    """The files of a folder by their keys. What changes it is called under the writers' lock.

    Args:
        root: an existing folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def opened(self, key: str) -> int | None:
        """Open an object's file, which its caller closes; None if there is none."""
        *folders, name = encode(key)
        try:
            with self.folder(folders) as folder:
                # In this order: an object only ever moves from the first name to the second.
                file = open_regular(name, folder)
                return open_regular(set_aside(name), folder) if file is None else file
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stat(self, key: str) -> os.stat_result | None:
        """What the system says of an object's file; None if there is none."""
        *folders, name = encode(key)
        with contextlib.suppress(NotADirectoryError), self.folder(folders) as folder:
            for candidate in (name, set_aside(name)):
                with contextlib.suppress(FileNotFoundError):
                    found = os.stat(candidate, dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        return found
        return None

    def scan(
        self, elements: Elements
    ) -> tuple[Sequence[tuple[str, os.stat_result]], Sequence[Elements]]:
        """Objects and folders right below one folder; nothing where it does not exist."""
        found: deque[tuple[str, os.stat_result]] = deque()
        below: deque[Elements] = deque()
        with contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(self.folder(elements))
            except NotADirectoryError:
                return found, below
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    path = [*elements, entry.name]
                    if entry.is_dir(follow_symlinks=False):
                        if path != [HIDDEN_FOLDER]:
                            below.append(path)
                    elif entry.is_file(follow_symlinks=False):
                        key = decode(path, folder=False)
                        if key is not None:
                            with contextlib.suppress(FileNotFoundError):
                                found.append((key, entry.stat(follow_symlinks=False)))
        return found, below

    @contextmanager
    def slot(self, key: str) -> Iterator[tuple[int, str]]:
        """Where an object goes: its open folder, made if it is missing, and its name in there."""
        *folders, name = encode(key)
        with self._made_folder(folders) as folder:
            aside = set_aside(name)
            if file_type(name, folder) == stat.S_IFDIR or file_type(aside, folder):
                name = aside
            yield folder, name

    def remove(self, key: str) -> Path | None:
        """Unlink an object and the folders it leaves empty; the folder to synchronise, if any."""
        *folders, name = encode(key)
        removed = False
        with contextlib.suppress(NotADirectoryError), self.folder(folders) as folder:
            for candidate in (name, set_aside(name)):
                if file_type(candidate, folder) == stat.S_IFREG:
                    os.unlink(candidate, dir_fd=folder)
                    removed = True
        if not removed:
            return None
        while folders:
            with self.folder(folders[:-1]) as parent:
                try:
                    os.rmdir(folders[-1], dir_fd=parent)
                except OSError:
                    break
            folders.pop()
        return self.root.joinpath(*folders)

    @contextmanager
    def folder(self, elements: Sequence[str]) -> Iterator[int]:
        """Open the folder at these path elements below the root, following no link.

        Raises:
            NotADirectoryError: there is none.
            BucketMissingError: the root is gone.
        """
        try:
            descriptor = os.open(self.root, FOLDER_FLAGS)
        except FileNotFoundError as exc:
            raise BucketMissingError(f"folder {str(self.root)!r} has been removed") from exc
        try:
            for name in elements:
                try:
                    below = os.open(name, FOLDER_FLAGS, dir_fd=descriptor)
                except OSError as exc:
                    if exc.errno in ABSENT:
                        raise NotADirectoryError(errno.ENOTDIR, "not a folder", name) from exc
                    raise
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _made_folder(self, elements: Sequence[str]) -> Iterator[int]:
        """Open a folder as `folder` does, making what is missing."""
        with contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(self.folder(elements))
            except NotADirectoryError:
                self._make_folders(elements)
                descriptor = stack.enter_context(self.folder(elements))
            yield descriptor

    def _make_folders(self, elements: Sequence[str]) -> None:
        for depth, name in enumerate(elements):
            with self.folder(elements[:depth]) as parent:
                found = file_type(name, parent)
                if found == stat.S_IFDIR:
                    continue
                if found == stat.S_IFREG:  # an object; readers look for its second name too
                    os.rename(name, set_aside(name), src_dir_fd=parent, dst_dir_fd=parent)
                os.mkdir(name, dir_fd=parent)
                os.fsync(parent)
