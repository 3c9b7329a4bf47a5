"""`ebooklet fsck`: what it prints, and the exit status that scripts go by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import ebooklet
from ebooklet.cli.app import app
from ebooklet.core.head import decode_head, encode_head
from ebooklet.errors import UnsupportedFormatError
from tests.cli.test_command import run


def fsck(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["fsck", f"file://{folder}/db", *options])


def fill(folder: Path) -> Path:
    """A database in this folder; the file of its head."""
    with ebooklet.open(f"file://{folder}/db", None, "c", value_serializer="json") as db:
        db.update({f"k{i}": "x" * 100_000 for i in range(4)})
        db.push()
    return folder / "db"


def test_what_is_sound_and_what_is_not(tmp_path: Path) -> None:
    """0 for a sound database, 1 for one with problems, whose keys are named."""
    fill(tmp_path)
    done = fsck(tmp_path, "--check-objects")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "sound"
    for option, read in (
        ("--json", "lengths"),
        ("--repair", "index"),
        ("--check-objects", "bytes"),
    ):
        done = fsck(tmp_path, option, "--json")
        assert (done.exit_code, json.loads(done.stdout)["depth"]) == (0, read)
    assert "values were not read" in fsck(tmp_path, "--repair").stdout
    largest = max((tmp_path / "db.d").iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()
    done = fsck(tmp_path, "--check-objects")
    assert done.exit_code == 1
    assert f"missing: db.d/{largest.name}" in done.stdout
    assert "lost value: 'k3'" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("not sound (--repair --check-objects")
    assert "run fsck" not in done.stdout
    done = fsck(tmp_path, "--repair", "--json")
    answer: dict[str, Any] = json.loads(done.stdout)
    assert (done.exit_code, answer["exit"], answer["ok"]) == (1, 1, False)
    assert answer["lost"] == ["k0", "k1", "k2", "k3"]
    assert answer["not_repaired"]


def test_what_was_put_right(tmp_path: Path) -> None:
    """3 where there were problems and none is left, with what was done; then it is sound."""
    path = fill(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    done = fsck(tmp_path)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].startswith("not sound (--rescue")
    assert "run fsck" not in done.stdout
    path.unlink()
    done = fsck(tmp_path, "--rescue", "--value-serializer", "pickle")
    assert done.stdout.splitlines()[-1] == "there is no head, but segments are left"
    answer = json.loads(fsck(tmp_path, "--json").stdout)
    assert (answer["ok"], answer["exit"]) == (False, 1)
    done = fsck(tmp_path, "--rescue", "--value-serializer", "json")
    assert done.exit_code == 3
    assert "repaired: a head was made" in done.stdout
    assert "values can be read with the serializer 'json'" in done.stdout
    assert "not known: tags" in done.stdout
    assert fsck(tmp_path, "--check-objects").exit_code == 0
    with ebooklet.open(f"file://{tmp_path}/db") as db:
        assert db["k3"] == "x" * 100_000


def test_a_mistake_in_the_command(tmp_path: Path) -> None:
    """2, as for every command, and what is wrong."""
    done = fsck(tmp_path, "--min-age", "-1")
    assert done.exit_code == 2
    assert "seconds" in done.stderr
    assert CliRunner().invoke(app, ["fsck"]).exit_code == 2
    path = fill(tmp_path)
    assert (
        fsck(tmp_path, "--rescue").exit_code == 0
    )  # nothing to rescue, so that nothing has to be said
    path.unlink()
    done = fsck(tmp_path, "--rescue")
    assert done.exit_code == 2
    assert "--value-serializer" in done.stderr
    assert "--group" in done.stderr
    assert "value_serializer" not in done.stderr
    assert "pickle" not in done.stderr
    assert fsck(tmp_path, "--rescue", "--value-serializer", "jsn").exit_code == 2


def test_what_cannot_be_looked_at(tmp_path: Path) -> None:
    """4 where there is no database, it cannot be listed, or this version may not write it."""
    done = fsck(tmp_path, "--json")
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (4, False)
    path = fill(tmp_path)
    path.write_bytes(
        encode_head(replace(decode_head(path.read_bytes(), key="db"), required_bits=4))
    )
    assert fsck(tmp_path).exit_code == 1
    done = fsck(tmp_path, "--repair")
    assert done.exit_code == 4
    assert "upgrade" in done.stderr
    path.write_bytes(path.read_bytes()[:-9])
    assert "or make a new one (fsck, --rescue)" in " ".join(fsck(tmp_path).stdout.split())
    path.write_bytes(b"written over")
    answer = json.loads(fsck(tmp_path, "--json").stdout)
    assert answer["kind"] == "UnsupportedFormatError"
    assert answer["error"].startswith("what stands at")
    with pytest.raises(UnsupportedFormatError, match="fsck URL --rescue"):
        ebooklet.open(f"file://{tmp_path}/db")
    done = fsck(tmp_path)
    assert done.exit_code == 4
    assert "delete it, and run fsck with --rescue" in " ".join(done.stderr.split())
    path.unlink()
    done = fsck(tmp_path)
    assert done.exit_code == 1  # segments without a head
    assert "there is no head" in done.stdout


def test_its_own_ways_out(tmp_path: Path) -> None:
    """Errors and reports name options of this command, and not what a program would pass."""
    fill(tmp_path)
    url = f"file://{tmp_path}/db"
    with ebooklet.open(url, flag="w"):
        done = fsck(tmp_path, "--repair", "--lock-timeout", "0")
    assert done.exit_code == 4
    assert "locked by process" in done.stderr
    assert "--lock-timeout" in done.stderr
    assert "force_lock" not in done.stderr
    keys = tmp_path / "keys.json"
    ebooklet.KeyFile.generate(keys)
    done = fsck(tmp_path, "--repair", "--key-file", str(keys))
    assert (done.exit_code, "leave --key-file out" in done.stderr) == (4, True)
    (tmp_path / "db").unlink()
    assert "--rescue looks for commits" in fsck(tmp_path, "--repair").stdout


def test_as_a_process() -> None:
    """The status leaves the process, and the message is the error's, without a traceback."""
    done = run("fsck", "http://127.0.0.1:9/bucket/db")
    assert done.returncode == 4
    assert "listed" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_url_is_a_mistake_in_the_command() -> None:
    """2, as of any argument, whether it names no database or has an option that is not known."""
    for url in ("foo", "s3://b/k?x=1"):
        assert CliRunner().invoke(app, ["fsck", url]).exit_code == 2
