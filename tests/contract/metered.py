"""A server behind a proxy that counts, and databases on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ebooklet
from ebooklet.database import EBooklet
from ebooklet.services.departing import await_departures
from ebooklet.services.request import Flag
from ebooklet.testing.counting_proxy import CountingProxy, Counts
from ebooklet.testing.servers import S3Server


class Metered:
    """Databases in one bucket, and what each step of theirs costs on the wire."""

    def __init__(self, server: S3Server, proxy: CountingProxy, folder: Path) -> None:
        self.folder = folder
        self._server = server.at(proxy.url)
        self._proxy = proxy
        self._bucket = self._server.new_bucket()
        with self.open("probe"):  # once a server, and its verdict is kept
            pass

    def open(
        self, db_key: str = "db", file: str | None = None, flag: Flag = "c", **options: Any
    ) -> EBooklet[Any]:
        """Open a database; JSON where it creates, the local half in memory unless a file is named."""
        if flag in ("c", "n"):
            options.setdefault("value_serializer", "json")
        path = None if file is None else self.folder / f"{file}.blt"
        return ebooklet.open(self._server.connection(self._bucket, db_key), path, flag, **options)

    def create(self, content: dict[str, Any], db_key: str = "db") -> None:
        """Commit this content."""
        with self.open(db_key) as db:
            db.update(content)
            assert db.push()

    @contextmanager
    def cost(self) -> Iterator[Cost]:
        """Count what happens within; the sums are there at its end."""
        cost = Cost()
        await_departures()
        self._proxy.reset()
        yield cost
        await_departures()
        cost.counts = self._proxy.counts()


class Cost:
    """What a step cost; see `Counts`."""

    counts = Counts()

    @property
    def requests(self) -> int:
        return self.counts.requests

    @property
    def up(self) -> int:
        """Bytes sent, heads of requests included."""
        return self.counts.bytes_up

    @property
    def down(self) -> int:
        """Bytes received, heads of answers included."""
        return self.counts.bytes_down

    @property
    def kinds(self) -> dict[str, int]:
        """Requests by kind."""
        return dict(self.counts.by_kind)
