"""Key files: made once, for their owner's eyes only, and never half written."""

from __future__ import annotations

import json
import os
import pickle
import stat
from pathlib import Path

import pytest

from ebooklet import EncryptionError, KeyFile


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_made_for_its_owner(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask says, with one key, and never over another file."""
    path = tmp_path / "keys.json"
    before = os.umask(0)
    try:
        keys = KeyFile.generate(path)
        keys.add()
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert len(keys.ids()) == 2
    assert {len(keys.key(key_id)) for key_id in keys.ids()} == {32}
    content = path.read_bytes()
    with pytest.raises(FileExistsError):
        KeyFile.generate(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_keys_come_and_go(tmp_path: Path) -> None:
    """A new one is the current one; an old one can be taken out, the current one cannot."""
    keys = KeyFile.generate(tmp_path / "keys.json", "one")
    first = keys.key("one")
    assert keys.current == "one"
    assert keys.add("two") == "two"
    assert (keys.current, keys.key("one")) == ("two", first)
    assert keys.key("two") != first
    with pytest.raises(ValueError, match="already"):
        keys.add("one")
    for wrong in ("two", "three"):
        with pytest.raises(ValueError, match="beside the current"):
            keys.remove(wrong)
    keys.remove("one")
    assert keys.ids() == ("two",)
    with pytest.raises(LookupError):
        keys.key("one")


def test_two_changes_at_once(tmp_path: Path) -> None:
    """The second is refused: a key that one of them lost would be data lost."""
    keys = KeyFile.generate(tmp_path / "keys.json", "one")
    before = keys.path.read_bytes()
    with keys._changing():
        for change in (keys.add, lambda: keys.remove("one")):
            with pytest.raises(EncryptionError, match="another process is changing"):
                change()
    assert keys.path.read_bytes() == before
    keys.add("two")
    assert list(tmp_path.iterdir()) == [keys.path]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, bits: int) -> None:
    """Unless the caller says that it is meant to be so."""
    path = tmp_path / "keys.json"
    KeyFile.generate(path, "one").path.chmod(bits)
    with pytest.raises(EncryptionError, match="chmod 600"):
        KeyFile(path).key("one")
    shared = KeyFile(path, allow_shared=True)
    assert len(shared.key("one")) == 32
    shared.add("two")
    assert mode(path) == bits


KEY = "A" * 43 + "="


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        json.dumps({"current": "a", "keys": {"a": "A" * 40}}).encode(),
        json.dumps({"current": "a", "keys": {"a": f"{KEY}!"}}).encode(),
        json.dumps({"current": "b", "keys": {"a": KEY}}).encode(),
        json.dumps({"current": ["a"], "keys": {"a": KEY}}).encode(),
        json.dumps({"current": "a", "keys": {"a": KEY, "": KEY}}).encode(),
        json.dumps({"current": "a", "keys": {"a": KEY}}).encode() + b" " * 70_000,
    ],
)
def test_what_is_no_key_file(tmp_path: Path, content: bytes) -> None:
    """It is refused by name, and nothing of its content is in the error."""
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(EncryptionError, match=r"keys\.json is no key file") as caught:
        KeyFile(path).current  # noqa: B018  a property that reads the file
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_missing_file(tmp_path: Path) -> None:
    """The error names it, and what makes one."""
    with pytest.raises(EncryptionError, match=r"keys\.json cannot be read.*KeyFile\.generate"):
        KeyFile(tmp_path / "keys.json").ids()


@pytest.mark.parametrize("key_id", ["", "a\nb", "x" * 65, 7])
def test_ids_are_short_printable_texts(tmp_path: Path, key_id: str) -> None:
    """They stand in heads and in messages."""
    with pytest.raises(ValueError, match="key id"):
        KeyFile.generate(tmp_path / "keys.json", key_id)
    assert list(tmp_path.iterdir()) == []


def test_only_the_path_is_shown_and_pickled(tmp_path: Path) -> None:
    """Neither `repr` nor a pickle holds a key."""
    keys = KeyFile.generate(tmp_path / "keys.json", "one")
    encoded = json.loads(keys.path.read_bytes())["keys"]["one"]
    for text in (repr(keys), repr(pickle.dumps(keys)), repr(vars(keys))):
        assert encoded not in text
    assert pickle.loads(pickle.dumps(keys)).key("one") == keys.key("one")
