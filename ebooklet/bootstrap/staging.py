"""Where a forked writer finds its database, on whatever machine it is by then."""

from __future__ import annotations

from dataclasses import dataclass, field

from ebooklet.adapters.clock import SystemClock
from ebooklet.bootstrap.installed import INSTALLED
from ebooklet.bootstrap.places import place_opener
from ebooklet.core.encryption import Encryption, EncryptionLike
from ebooklet.core.keyring import Keyring
from ebooklet.errors import EncryptionError
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.services.place import RemoteLike, RemotePlace


@dataclass(frozen=True)
class WriterPlace:
    """Opens the place that a database was opened by, with what is installed where it is called.

    A pickle holds the parts as they were given: of a connection its credentials, of a `KeyFile`
    its path.

    Attributes:
        remote_conn: the place, named as for `open`.
        encryption: opens it where it is encrypted.
        clock: time and randomness; None for the machine's own.
        registry: where names are looked up; None for what is installed there.
    """

    remote_conn: RemoteLike | None = field(repr=False)
    encryption: EncryptionLike | None = field(default=None, repr=False)
    clock: Clock | None = field(default=None, repr=False)
    registry: Registry | None = field(default=None, repr=False)

    def __call__(self) -> RemotePlace:
        """Open it."""
        assert self.remote_conn is not None  # noqa: S101  # what has no remote is not forked
        opener = place_opener(
            self.clock or SystemClock(), self.registry or INSTALLED, encryption=self.encryption
        )
        return opener(self.remote_conn)

    def __reduce__(
        self,
    ) -> tuple[
        type[WriterPlace],
        tuple[RemoteLike | None, EncryptionLike | None, Clock | None, Registry | None],
    ]:
        if isinstance(self.encryption, (Encryption, Keyring)):
            raise EncryptionError(
                "a writer does not carry keys to other processes: say where they are found there, "
                "as in fork(encryption=KeyFile(path)), or by a function of a module",
                op="fork",
            )
        return WriterPlace, (self.remote_conn, self.encryption, self.clock, self.registry)
