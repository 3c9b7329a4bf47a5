"""Web servers that differ, played by one on loopback that answers as it is told."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Answer = Callable[[BaseHTTPRequestHandler], None]


class Playing:
    """A server on loopback whose answers a test writes; it notes what it was asked."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        asked: list[tuple[str, str, dict[str, str]]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append((self.command, self.path, dict(self.headers)))
                answer(self)

            do_HEAD = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *args: object) -> None:
                pass

        self.asked = asked
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda request, client_address: None  # type: ignore[method-assign] # clients hang up
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def playing(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Playing]:
    played = Playing(answer, tls)
    thread = threading.Thread(target=played.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield played
    finally:
        played.server.shutdown()
        played.server.server_close()
        thread.join(10)


def saying(status: int, body: bytes = b"", *, length: int | None = -1, **headers: str) -> Answer:
    """An answer; `length` None sends no Content-Length, and closes instead."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if length is None:
            handler.send_header("Connection", "close")
        else:
            handler.send_header("Content-Length", str(len(body) if length == -1 else length))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
        if length is None or length not in (-1, len(body)):
            handler.close_connection = True

    return answer


def showing(
    folder: Path, *, sized: bool = True, moved: bool = False, packed: bool = False
) -> Answer:
    """A folder's files, whole whatever is asked for.

    Args:
        folder: where the paths of URLs begin.
        sized: answers say how long they are.
        moved: everything is to be had below `/moved/` only, and elsewhere it says so.
        packed: answers are compressed, as by a server that does not look at what it is asked.
    """

    def answer(handler: BaseHTTPRequestHandler) -> None:
        name = unquote(handler.path).removeprefix("/")
        if moved:
            if not name.startswith("moved/"):
                saying(302, Location=f"/moved{handler.path}")(handler)
                return
            name = name.removeprefix("moved/")
        path = folder / name
        if not path.is_file():
            saying(404, b"not found")(handler)
        elif packed:
            saying(200, gzip.compress(path.read_bytes()), Content_Encoding="gzip")(handler)
        else:
            saying(200, path.read_bytes(), length=-1 if sized else None)(handler)

    return answer


def self_signed(folder: Path) -> Path:
    """A certificate and its key for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
