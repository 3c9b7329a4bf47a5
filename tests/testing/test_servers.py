"""The test servers behave as the notes on them say; everything else rests on that."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from ebooklet.testing.servers import ACCESS_KEY, S3Server, start_juicefs, start_moto


def test_server_stores_and_returns_an_object(any_server: S3Server) -> None:
    """A body put under a key comes back from it."""
    client, bucket = any_server.client(), any_server.new_bucket()
    client.put_object(Bucket=bucket, Key="a/b", Body=b"body")
    assert client.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"body"


def test_server_honours_conditions_as_expected(any_server: S3Server) -> None:
    """A second create-only PUT is refused exactly where `mode_expected` is cas."""
    client, bucket = any_server.client(), any_server.new_bucket()
    client.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    if any_server.mode_expected == "cas":
        with pytest.raises(ClientError):
            client.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    else:
        client.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    kept = client.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert kept == (b"first" if any_server.mode_expected == "cas" else b"second")


def test_secret_is_shown_nowhere(any_server: S3Server) -> None:
    """Neither the server's repr nor its connection's shows the key."""
    connection = any_server.connection("bucket", "db")
    assert ACCESS_KEY not in repr(any_server) + repr(connection)
    assert connection.access_key == ACCESS_KEY


def test_missing_binary_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program the error says what to install."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with (
        pytest.raises(FileNotFoundError, match=r"pip install 'moto\[server\]'"),
        start_moto(tmp_path),
    ):
        pass


def test_a_failed_preparation_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a server needs a step before its start, and that fails, the error has its log too."""
    program = tmp_path / "bin" / "juicefs"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no room for a file system\nexit 4\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    with (
        pytest.raises(RuntimeError, match=r"juicefs ended with 4[\s\S]*no room"),
        start_juicefs(tmp_path / "data"),
    ):
        pass


def test_server_that_dies_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends at once is an error with the tail of its log."""
    program = tmp_path / "bin" / "moto_server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no luck today\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    with (
        pytest.raises(RuntimeError, match=r"ended with 3[\s\S]*no luck today"),
        start_moto(tmp_path),
    ):
        pass
