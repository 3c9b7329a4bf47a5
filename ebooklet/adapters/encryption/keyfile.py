"""Key files: one file on this machine with the keys of encrypted databases."""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from ebooklet.core.encryption import check_key, check_key_id
from ebooklet.errors import EncryptionError
from ebooklet.ports.cipher import KEY_BYTES

_WARNING: Final = (
    "Keys of encrypted EBooklet databases. Whoever has this file can read them; without it nobody "
    "can. Keep it secret, and keep a copy."
)
_MAX_BYTES: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class KeyFile:
    """Keys in a file, one of which is the current one. Read again each time a database is opened.

    The file is JSON: `{"current": id, "keys": {id: key in base64}}`. Pickles and `repr` hold its
    path and nothing of its content.

    Args:
        path: of the file; see `generate`.
        allow_shared: accept a file that others than its owner may read.

    Example:
        >>> import tempfile, pathlib, ebooklet
        >>> path = pathlib.Path(tempfile.mkdtemp(), "keys.json")
        >>> keys = ebooklet.KeyFile.generate(path, key_id="2026")
        >>> keys.add("2027")
        '2027'
        >>> keys.current, sorted(keys.ids())
        ('2027', ['2026', '2027'])
    """

    def __init__(self, path: str | os.PathLike[str], *, allow_shared: bool = False) -> None:
        self.path: Final = Path(path)
        self._allow_shared = allow_shared

    @classmethod
    def generate(cls, path: str | os.PathLike[str], key_id: str | None = None) -> Self:
        """Make a new key file, mode 0600, with one random key.

        Works where `ebooklet[crypto]` is not installed; opening an encrypted database does not.

        Args:
            path: where no file is.
            key_id: of the key; by default today's date and a random suffix. It is no secret:
                heads name it.

        Raises:
            FileExistsError: there is a file, which is left as it is.
        """
        made = cls(path)
        key_id = _new_id() if key_id is None else check_key_id(key_id)
        data = _encoded({key_id: secrets.token_bytes(KEY_BYTES)}, key_id)
        handle = os.open(made.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        _write_through(handle, data)
        return made

    @property
    def current(self) -> str:
        """Id of the key that new data are sealed under."""
        return self._read()[1]

    def ids(self) -> tuple[str, ...]:
        """The ids of all keys."""
        return tuple(self._read()[0])

    def key(self, key_id: str) -> bytes:
        """The key of this id; raises `LookupError` if the file has none."""
        return self._read()[0][key_id]

    def add(self, key_id: str | None = None) -> str:
        """Add a random key and make it the current one; older ones stay, to read with.

        Returns:
            Its id.
        """
        key_id = _new_id() if key_id is None else check_key_id(key_id)
        with self._changing() as change:
            keys, _ = self._read()
            if key_id in keys:
                raise ValueError(f"{self.path} has a key {key_id!r} already: choose another id")
            change({**keys, key_id: secrets.token_bytes(KEY_BYTES)}, key_id)
        return key_id

    def remove(self, key_id: str) -> None:
        """Remove a key that no retained commit needs any more: what lies under it is lost.

        Raises:
            ValueError: it is the current one, or there is none of that id.
        """
        with self._changing() as change:
            keys, current = self._read()
            if key_id == current or key_id not in keys:
                raise ValueError(f"{self.path} has no key {key_id!r} beside the current one")
            change({name: key for name, key in keys.items() if name != key_id}, current)

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"

    def _read(self) -> tuple[Mapping[str, bytes], str]:
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_MAX_BYTES + 1)
        except OSError as exc:
            raise EncryptionError(
                f"the key file {self.path} cannot be read ({exc.strerror}): correct its path, or "
                "make one with KeyFile.generate",
                op="open",
            ) from exc
        if mode & _OTHERS and os.name == "posix" and not self._allow_shared:
            raise EncryptionError(
                f"the key file {self.path} may be used by others (mode {stat.S_IMODE(mode):o}): "
                f"chmod 600 {self.path}, or pass allow_shared=True",
                op="open",
            )
        try:
            return _decoded(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Not chained: what those say may quote the content.
            raise EncryptionError(
                f"{self.path} is no key file: make one with KeyFile.generate", op="open"
            ) from None

    @contextmanager
    def _changing(self) -> Iterator[Callable[[Mapping[str, bytes], str], None]]:
        """Replace the file, alone: a key that another process added meanwhile must not be lost.

        The new file, made before the old one is read, is the lock.
        """
        new = self.path.with_name(f".{self.path.name}.new")
        try:
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as exc:
            raise EncryptionError(
                f"another process is changing the key file {self.path}: try again; if none is, one "
                f"was killed, and {new} can be deleted",
                op="change keys",
            ) from exc

        done = False

        def change(keys: Mapping[str, bytes], current: str) -> None:
            nonlocal done
            _write_through(os.dup(handle), _encoded(keys, current))
            new.chmod(stat.S_IMODE(self.path.stat().st_mode))
            new.replace(self.path)
            done = True

        try:
            yield change
        finally:
            os.close(handle)
            if not done:  # or else it may be another's by now
                new.unlink(missing_ok=True)


def _new_id() -> str:
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}-{secrets.token_hex(3)}"


def _encoded(keys: Mapping[str, bytes], current: str) -> bytes:
    content = {
        "": _WARNING,
        "current": current,
        "keys": {name: base64.b64encode(key).decode() for name, key in keys.items()},
    }
    return json.dumps(content, indent=2).encode() + b"\n"


def _decoded(data: bytes) -> tuple[Mapping[str, bytes], str]:
    if len(data) > _MAX_BYTES:
        raise ValueError("too large")
    content = json.loads(data)
    keys = {
        check_key_id(name): check_key(base64.b64decode(text, validate=True))
        for name, text in content["keys"].items()
    }
    current = content["current"]
    if current not in keys:
        raise ValueError("the current key is missing")
    return keys, current


def _write_through(handle: int, data: bytes) -> None:
    """Write all of it, durably, and close the handle."""
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
