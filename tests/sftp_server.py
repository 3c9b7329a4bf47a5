"""A file server for the tests of remotes over SFTP."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import asyncssh


class Sftp:
    """A server of the files below a folder, on loopback, with a key of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key_file = folder.parent / "client_key"
        self._open: list[asyncssh.SSHServerConnection] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)

    async def _start(self) -> int:
        ours = asyncssh.generate_private_key("ssh-ed25519")
        ours.write_private_key(self.key_file)
        self._server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=asyncssh.import_authorized_keys(
                ours.export_public_key().decode()
            ),
            server_factory=lambda: self._Connections(self._open),
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=bytes(self.folder)),
        )
        port: int = self._server.get_port()
        return port

    class _Connections(asyncssh.SSHServer):
        def __init__(self, opened: list[asyncssh.SSHServerConnection]) -> None:
            self._opened = opened

        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._opened.append(conn)

    async def _drop(self) -> None:
        self._server.close()
        for connection in self._open:
            connection.abort()
        await self._server.wait_closed()

    def url(self, folder: str, key: str = "db") -> str:
        """A folder of the server, with what a client needs beside."""
        return f"127.0.0.1:{self.port}/{folder}/{key}?username=tester&key_filename={self.key_file}"

    def close(self) -> None:
        """End the server and its thread."""
        asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
