"""An LMDB file while it is open: made, looked at before it is trusted, and rewritten."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid as uuids
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

from lmdb.verify import VerifyError, verify

from ebooklet.adapters.local.lmdb.environments import looks_like_lmdb
from ebooklet.adapters.local.lmdb.file import (
    Identity,
    LmdbFile,
    identity_of,
    make_file,
    open_file,
)
from ebooklet.adapters.localfiles.files import sync_folder, temporary_path
from ebooklet.adapters.localfiles.finding import Finding, is_there, signature
from ebooklet.adapters.localfiles.gate import Waiting
from ebooklet.adapters.localfiles.session import FileSession, carried_by
from ebooklet.errors import LocalFileError
from ebooklet.ports.clock import Clock

_HEAD: Final = 64  # bytes that tell an LMDB file


@dataclass(frozen=True, slots=True)
class Creation:
    """How to make a file that is not there."""

    uuid: UUID | None  # None: one is made up
    value_serializer: str | None  # None: a class of the user's own


class Session(FileSession[LmdbFile, Creation, Identity]):
    """One open LMDB file. Not for several threads at once."""

    def __init__(self, location: Path, *, clock: Clock, buffer_size: int) -> None:
        super().__init__(location, clock=clock)
        self._buffer_size = buffer_size

    def rewrite(self, waiting: Waiting) -> None:
        """Put a copy without unused pages in the place of the file, in one step."""
        old = self.handle
        if old is None:
            raise LocalFileError(f"{self.location} is not open for writing", op="compact")
        self.soil()
        unfinished = temporary_path(self.sidecar.folder)
        try:
            old.copy_to(unfinished)
            unfinished.chmod(self.location.stat().st_mode & 0o777)
            unfinished.replace(self.location)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_folder(self.location.parent)
        self.release()
        self.handle = self._opened("w", waiting)

    def adopt_uuid(self, uuid: UUID) -> None:
        """Have another uuid in the file, and mark it as of that one.

        A folder whose mark names another uuid than the file is taken for a stranger's and emptied,
        so the mark names none while the uuid changes.
        """
        if self.handle is None:
            raise LocalFileError(f"{self.location} is not open for writing", op="adopt_uuid")
        self.soil()
        self.sidecar.disown()
        self.handle.adopt(uuid)
        self.uuid = uuid
        self.seal(self._carried)

    # How a file is found.

    def _refuse_unfit(self, *, replace: bool) -> None:
        if is_there(self.location):
            try:
                with self.location.open("rb") as file:
                    self._check(file.read(_HEAD), replace=replace)
            except PermissionError:
                return  # said under the lock

    def _check(self, raw: bytes, *, replace: bool) -> None:
        if not looks_like_lmdb(raw):
            what = "will not be replaced" if replace else "cannot be opened as one"
            raise LocalFileError(
                f"{self.location} is not an LMDB file and {what}: choose another path, or open a "
                "Booklet without local='lmdb'",
                op="open",
            )

    def _create(self, creation: Creation, waiting: Waiting) -> None:
        with contextlib.ExitStack() as stack:
            if is_there(self.location):
                fd = stack.enter_context(self._locked(fcntl.LOCK_EX, waiting))
                self._check(os.pread(fd, _HEAD, 0), replace=True)
            self.sidecar.purge()
            (self.sidecar.folder / "nodes").unlink(missing_ok=True)
            self.soil()
            unfinished = temporary_path(self.sidecar.folder)
            identity = Identity(creation.uuid or uuids.uuid4(), creation.value_serializer)
            try:
                make_file(unfinished, identity)
                unfinished.replace(self.location)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            sync_folder(self.location.parent)
        self.handle = self._opened("w", waiting)
        self._identify(identity)

    def _take(self, waiting: Waiting) -> Finding[Identity]:
        while True:
            with self._locked(fcntl.LOCK_EX, waiting) as fd:
                finding = self._examine(fd)
                self._carried = carried_by(finding)
                if finding.foreign:
                    self.sidecar.purge()
            handle = self._opened("w", waiting)
            if signature(os.fstat(handle.fd)) == finding.signature:
                break
            handle.close()  # another program was faster: look again
        self.handle = handle
        self._note(finding)
        return finding

    def _examine(self, fd: int) -> Finding[Identity]:
        """Look at the file: every page of it, unless it is as this library left it.

        LMDB believes what it reads, and a wrong page would end the process.
        """
        found = os.fstat(fd)
        self._check(os.pread(fd, _HEAD, 0), replace=False)
        mark = self.sidecar.mark()
        if mark is None or not mark.fits(found):
            self._verify()
        identity = identity_of(self.location, fd)
        if identity is None:
            raise LocalFileError(f"{self.location} was replaced meanwhile: try again", op="open")
        begun, before = self.sidecar.unfinished()
        foreign = any(known is not None and known.uuid != identity.uuid for known in (mark, before))
        condition: Literal["clean", "edited", "crashed"] = "edited"
        if not foreign:
            if mark is not None and mark.fits(found):
                condition = mark.carried or "clean"
            elif mark is None and begun:
                condition = "crashed"
        return Finding(identity, condition, sound=True, foreign=foreign, signature=signature(found))

    def _verify(self) -> None:
        try:
            problems = verify(str(self.location), subdir=False)  # type: ignore[no-untyped-call]  # it has no types
        except VerifyError as exc:
            problems = [str(exc)]
        if problems:
            raise LocalFileError(
                f"{self.location} is damaged ({problems[0]}): put a copy of it in its place, or "
                "remove it, and what was pushed comes back from the remote",
                op="open",
            )

    def _open_handle(self, flag: Literal["r", "w"]) -> LmdbFile | None:
        return open_file(
            self.location,
            flag,
            buffer_size=self._buffer_size,
            before_writing=self.sidecar.sync_logs,
        )

    def _identify(self, header: Identity) -> None:
        self.uuid, self.serializer = header
