"""The local file: which ones are refused, and what Booklet does that nobody may notice (CONTRACT §12).

Row by row of the table "Facts about booklet", what shows that the adapter deals with it. Tests
without a module are in this one; the others are below tests/.

| Fact | Test |
|---|---|
| header: sniff kind, uuid, serializer | `test_what_cannot_be_used`, contract/test_s12_serializers `TestEveryName` |
| reserved keys | `test_reserved_keys` |
| `len()` ignores buffered writes | `test_len_counts_what_is_not_synced` |
| `b[k]` raises for a stored None | `test_a_stored_none_is_a_value` |
| no checksum, no commit mark | `test_a_file_cut_short_gives_no_short_value`, adapters/local/test_damage |
| no fsync in set, sync, close | `test_sync_and_close_are_durable` |
| exit or collection without close | adapters/local/test_processes `test_ending_without_close` |
| SIGKILL leaves a stale count | `test_len_after_a_kill`, adapters/local/test_damage `test_a_program_killed_within_booklet` |
| SIGKILL during prune or reindex | adapters/local/test_kills `test_killed_in_the_middle` ("compacts", "grows", "clears") |
| reindex at sync when keys > n_buckets | adapters/local/test_booklet_contract `TestBookletLocalStoreThatGrows`, adapters/local/test_plain_booklet `test_expected_keys_size_the_index` |
| an overwrite appends until prune | `test_prune_reclaims_overwrites` |
| metadata and slots are not locked | `test_metadata_from_many_threads` |
| `update(m)` deadlocks if `m` reads the same | `test_update_from_itself` |
| `clear()` forgets buffered writes | `test_clear_takes_what_is_not_synced` |
| `set_timestamp` on a buffered key | `test_a_timestamp_of_what_is_not_synced` |
| fork shares the file offset | adapters/local/test_processes `test_a_reader_may_be_forked`, the store contract's `test_a_forked_child_does_no_harm` |
| a read-only handle uses mmap | adapters/local/test_processes `test_readers_and_a_writer_in_processes` |
| `flock` blocks within a process, for ever | `test_a_second_writer_is_told`, adapters/local/test_processes `test_messages_name_the_holder` |
| `n` overwrites any file; zero bytes | `test_what_cannot_be_used`, `test_zero_bytes_are_absent` |
| changes while iterating | contract/test_s05_mapping; `test_plain_reads_while_iterating` |
| iteration order is write order | `test_order_is_sorted` |
| `reopen()` keeps the old header | contract/test_s04_lifetime; `test_reopening_after_growth_elsewhere` |
| long keys, large values | `test_keys_that_are_too_long`, adapters/local/test_plain_booklet `test_a_value_that_booklet_would_tear_is_refused` |
| raw bytes with timestamps | `test_raw_bytes_and_their_time` |
| `prune` keeps metadata and slots | `test_prune_reclaims_overwrites`, adapters/local/test_damage `test_reserved_data_survive_repair` |
| what versions have | `test_a_version_of_booklet_that_has_it_all` |
| the clock may step back | `test_an_older_timestamp_is_no_older_value` |
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import booklet
import pytest

import ebooklet
from ebooklet.core.keys import RESERVED_KEYS
from ebooklet.services.request import FLAGS, Flag
from tests.contract.conftest import Place

pytestmark = pytest.mark.usefixtures("lean_processes")

ONE_PLACE = pytest.mark.parametrize("place", ["memory"], indirect=True)


def local_file(place: Place, file: str = "a") -> Path:
    """The path of a local file."""
    path = place.path(file)
    assert path is not None
    return path


def _plain(path: Path) -> None:
    with booklet.open(path, "n", "str", "json") as file:
        file["k"] = 1


def _bytes_keys(path: Path) -> None:
    with booklet.open(path, "n", value_serializer="json") as file:
        file[b"k"] = 1


def _integer_keys(path: Path) -> None:
    with booklet.open(path, "n", "uint4", "json") as file:
        file[1] = 1


def _no_timestamps(path: Path) -> None:
    with booklet.open(path, "n", "str", "json", init_timestamps=False) as file:
        file["k"] = 1


def _fixed_length(path: Path) -> None:
    with booklet.FixedLengthValue(path, "n", "str", value_len=1) as file:
        file["k"] = b"v"


def _changed(at: int, to: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        _plain(path)
        body = bytearray(path.read_bytes())
        body[at : at + len(to)] = to
        path.write_bytes(body)

    return make


def _cut(size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        _plain(path)
        path.write_bytes(path.read_bytes()[:size])

    return make


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "bytes keys": (_bytes_keys, "key_serializer='str'"),
    "integer keys": (_integer_keys, "key_serializer='str'"),
    "no timestamps": (_no_timestamps, "without init_timestamps=False"),
    "fixed length": (_fixed_length, "copy it into one made with booklet.open"),
    "another version": (_changed(16, b"\x63\x00"), "upgrade ebooklet"),
    "unknown serializer": (_changed(29, b"\xf0\x00"), "upgrade booklet"),
    "header cut": (_cut(150), "ends within its header"),
    "only the magic": (_cut(16), "ends within its header"),
    "foreign": (lambda path: path.write_text("some notes\n" * 100), "not a Booklet file"),
    "one byte": (lambda path: path.write_bytes(b"O"), "not a Booklet file"),
    "a folder": (lambda path: path.mkdir(), "not a file: choose another path"),
}


@pytest.mark.parametrize("place", ["memory", "file"], indirect=True)
@pytest.mark.parametrize("kind", UNFIT)
@pytest.mark.parametrize("flag", ["r", "w", "c"])
@pytest.mark.parametrize("remote", [False, True], ids=["no remote", "a remote"])
def test_what_cannot_be_used(place: Place, kind: str, flag: Flag, remote: bool) -> None:
    """It is refused at the open with the remedy, left byte for byte, with nothing beside it."""
    if remote:
        with place.open(file=None) as db:
            db["k"] = 1
            assert db.push()
    make, remedy = UNFIT[kind]
    path = local_file(place)
    make(path)
    before = path.read_bytes() if path.is_file() else None
    modified = path.stat().st_mtime_ns
    for _ in range(2):
        with pytest.raises(ebooklet.LocalFileError, match=remedy) as caught:
            place.open(flag=flag)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, TypeError)
        assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert path.stat().st_mtime_ns == modified
    assert {found.name for found in place.folder.iterdir()} - {"bucket"} == {path.name}
    with place.open(file=None, lock_timeout=0) as db:  # the remote's lock is free again
        assert dict(db) == ({"k": 1} if remote else {})


@ONE_PLACE
@pytest.mark.parametrize("kind", ["foreign", "one byte", "a folder"])
def test_starting_anew_over_a_foreign_file(place: Place, kind: str) -> None:
    """Flag `n` is no way to destroy what is no Booklet; nor does it touch the remote then."""
    with place.open(file=None) as db:
        db["k"] = 1
        assert db.push()
    objects = place.objects()["db"]
    make, _ = UNFIT[kind]
    path = local_file(place)
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ebooklet.LocalFileError, match=r"not be replaced|not a file"):
        place.open(flag="n")
    assert (path.read_bytes() if path.is_file() else None) == before
    assert [found.name for found in place.folder.iterdir()] == [path.name]
    assert place.objects()["db"] == objects


@ONE_PLACE
@pytest.mark.parametrize("kind", ["bytes keys", "no timestamps", "fixed length", "header cut"])
def test_starting_anew_over_another_booklet(place: Place, kind: str) -> None:
    """Flag `n` says that the old content may go: a Booklet of any kind is replaced."""
    UNFIT[kind][0](local_file(place))
    with place.open(flag="n") as db:
        db["k"] = 2
        assert dict(db) == {"k": 2}
    with booklet.open(local_file(place)) as file:
        assert dict(file.items()) == {"k": 2}


@pytest.mark.parametrize("place", ["memory", "file"], indirect=True)
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("remote", [False, True], ids=["no remote", "a remote"])
def test_zero_bytes_are_absent(place: Place, flag: Flag, remote: bool) -> None:
    """An empty file, as tempfile makes them, is taken for none, whatever the flag."""
    if remote:
        with place.open(file=None) as db:
            db["k"] = 1
            assert db.push()
    path = local_file(place)
    path.touch()
    if not remote and flag in ("r", "w"):
        with pytest.raises(ebooklet.RemoteMissingError):
            place.open(flag=flag)
        assert path.read_bytes() == b""
        return
    with place.open(flag=flag) as db:
        assert dict(db) == ({"k": 1} if remote and flag != "n" else {})
    with booklet.open(path) as file:
        assert file.uuid is not None


@ONE_PLACE
@pytest.mark.parametrize("key", sorted(RESERVED_KEYS))
def test_reserved_keys(place: Place, key: str) -> None:
    """The three keys that Booklet keeps for itself are nobody's, and do not break its metadata."""
    with place.open() as db:
        db.set_metadata({"about": "a test"})
        db["k"] = 1
        writes: tuple[Callable[[], object], ...] = (
            lambda: db.__setitem__(key, 1),
            lambda: db.set(key, 1),
            lambda: db.set(key, b"1", encode_value=False),
            lambda: db.setdefault(key, 1),
            lambda: db.update({key: 1}),
        )
        for write in writes:
            with pytest.raises(ebooklet.InvalidKeyError, match="reserved") as caught:
                write()
            assert isinstance(caught.value, ValueError)
        assert key not in db
        assert db.get(key, "absent") == "absent"
        assert db.get_timestamp(key) is None
        assert db.pop(key, None) is None
        for absent in (lambda: db[key], lambda: db.__delitem__(key), lambda: db.pop(key)):
            with pytest.raises(KeyError):
                absent()
        with pytest.raises(KeyError):
            db.set_timestamp(key, 1)
        assert list(db) == ["k"]
        assert db.get_metadata() == {"about": "a test"}
        assert db.push()
    with place.open(file="b", flag="r") as db:
        assert list(db) == ["k"]
        assert db.get_metadata() == {"about": "a test"}


def test_what_booklet_keeps_under_them(tmp_path: Path) -> None:
    """These three are the places of its metadata and of its two slots, and there are no others."""
    path = tmp_path / "a.blt"
    with booklet.open(path, "n", "str", "bytes") as file:
        file.set_metadata({"about": "a test"})
        for slot in (1, 2):
            file.set_reserved(slot, b"kept")
        with pytest.raises(Exception, match="slot"):
            file.set_reserved(3, b"there is none")
        file.sync()
        assert {key for key in RESERVED_KEYS if file.get(key) is not None} == RESERVED_KEYS
    assert len(RESERVED_KEYS) == 3


class TestFacts:
    """What Booklet does that users of a database never see."""

    @ONE_PLACE
    def test_len_counts_what_is_not_synced(self, place: Place) -> None:
        """Three sets are three keys at once, and true."""
        with place.open() as db:
            assert (len(db), bool(db)) == (0, False)
            for key in "abc":
                db[key] = 1
            assert (len(db), bool(db)) == (3, True)
            db["a"] = 2
            del db["b"]
            assert len(db) == len(list(db)) == 2

    @ONE_PLACE
    @pytest.mark.parametrize("name", ["json", "pickle"])
    def test_a_stored_none_is_a_value(self, place: Place, name: str) -> None:
        """None is not absence: in no method, synced or not, here or fetched."""
        with place.open(value_serializer=name) as db:
            db["none"] = None
            for _ in range(2):
                assert db["none"] is None
                assert db.get("none", "absent") is None
                assert db.setdefault("none", "absent") is None
                assert "none" in db
                db.sync()
            assert db.pop("none") is None
            db["none"] = None
            assert db.push()
        with place.open(file="b", flag="r") as db:
            assert db.get("none", "absent") is None
            assert list(db.items()) == [("none", None)]
            assert list(db.get_items(["none", "other"], "absent")) == [
                ("none", None),
                ("other", "absent"),
            ]

    @ONE_PLACE
    @pytest.mark.parametrize("cut", [1, 50, 3000])
    def test_a_file_cut_short_gives_no_short_value(self, place: Place, cut: int) -> None:
        """A torn value is fetched again if it was pushed, and is never returned as it is."""
        values = {f"k{n}": "x" * 1000 for n in range(20)}
        with place.open() as db:
            db.update(values)
            assert db.push()
        path = local_file(place)
        os.truncate(path, path.stat().st_size - cut)
        with place.open(flag="w") as db:
            assert dict(db) == values
            assert not list(db.changes())

    @ONE_PLACE
    def test_sync_and_close_are_durable(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both ask the system to write the file down, which Booklet does not."""
        synced: list[int] = []
        real = os.fsync

        def fsync(fd: int) -> None:
            synced.append(os.fstat(fd).st_ino)
            real(fd)

        monkeypatch.setattr(os, "fsync", fsync)
        with place.open() as db:
            inode = local_file(place).stat().st_ino
            for finish in (db.sync, db.close):
                db["k"] = len(synced)
                synced.clear()
                finish()
                assert inode in synced

    @ONE_PLACE
    def test_len_after_a_kill(self, place: Place) -> None:
        """The count in a file whose writer was killed is not believed."""
        path = local_file(place)
        code = (
            "import booklet, os, signal, sys\n"
            "file = booklet.open(sys.argv[1], 'n', 'str', 'json', buffer_size=1)\n"
            "for n in range(100): file[f'k{n}'] = n\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
        for flag in ("r", "w", "c"):
            with place.open(flag=flag) as db:
                assert len(db) == len(list(db)) >= 99

    @ONE_PLACE
    def test_prune_reclaims_overwrites(self, place: Place) -> None:
        """Overwrites append, until a prune; metadata stay, and the remote is not asked."""
        with place.open() as db:
            db.set_metadata({"about": "a test"})
            for _ in range(20):
                db["k"] = "x" * 100_000
            db.sync()
            path = local_file(place)
            large = path.stat().st_size
            assert large > 2_000_000
            assert db.prune() == 19
            assert path.stat().st_size < large - 1_800_000
            assert db["k"] == "x" * 100_000
            assert db.get_metadata() == {"about": "a test"}

    @ONE_PLACE
    def test_metadata_from_many_threads(self, place: Place) -> None:
        """Metadata and values are read and written at once, and none of them is another's."""
        errors: list[object] = []
        with place.open() as db:
            db.set_metadata({"n": -1})

            def work(number: int) -> None:
                for n in range(60):
                    db[f"k{number}"] = f"{number}-" * 50
                    if number == 0:
                        db.set_metadata({"n": n})
                    read = db.get_metadata()
                    if set(read) != {"n"} or db[f"k{number}"] != f"{number}-" * 50:
                        errors.append(read)

            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert errors == []
            assert db.get_metadata() == {"n": 59}
        with place.open(flag="w") as db:
            assert dict(db) == {f"k{n}": f"{n}-" * 50 for n in range(4)}

    @ONE_PLACE
    def test_update_from_itself(self, place: Place) -> None:
        """A mapping that reads the database may be what it is updated with."""

        class Doubled(Mapping[str, int]):
            def __getitem__(self, key: str) -> int:
                return 2 * int(db[key])

            def __iter__(self) -> Iterator[str]:
                return iter(sorted(db.keys()))

            def __len__(self) -> int:
                return len(db)

        with place.open() as db:
            db.update({f"k{n}": n for n in range(10)})
            db.update(Doubled())
            db.update((key, value + 1) for key, value in list(db.items()))
            assert dict(db) == {f"k{n}": 2 * n + 1 for n in range(10)}

    @ONE_PLACE
    def test_clear_takes_what_is_not_synced(self, place: Place) -> None:
        """After a clear nothing comes back, in no view."""
        with place.open() as db:
            db["synced"] = 1
            db.sync()
            db["buffered"] = 2
            db.clear()
            assert (len(db), list(db), list(db.items())) == (0, [], [])
            assert db.get("buffered") is None
        with place.open(flag="w") as db:
            assert list(db.items()) == []

    @ONE_PLACE
    def test_a_timestamp_of_what_is_not_synced(self, place: Place) -> None:
        """It can be set at once, and it is the new value's."""
        with place.open() as db:
            db["k"] = "old"
            db.sync()
            db["k"] = "new"
            db.set_timestamp("k", 123)
            assert db.get_timestamp("k", include_value=True) == (123, "new")
            db["fresh"] = 1
            db.set_timestamp("fresh", 7)
            assert dict(db.timestamps()) == {"k": 123, "fresh": 7}

    @ONE_PLACE
    def test_a_second_writer_is_told(self, place: Place) -> None:
        """A second handle on one file waits no longer than it was told, in the same process."""
        with (
            place.open(),
            pytest.raises(TimeoutError, match=r"a\.blt"),
        ):
            ebooklet.open(None, local_file(place), "w", lock_timeout=0.2)
        with place.open(flag="w", lock_timeout=0):
            pass

    @ONE_PLACE
    def test_plain_reads_while_iterating(self, place: Place) -> None:
        """Reading, and fetching, go on while an iteration does."""
        with place.open() as db:
            db.update({f"k{n}": n for n in range(50)})
            assert db.push()
        with place.open(file="b", flag="r") as db:
            assert [db[key] for key in db] == [db[f"k{n}"] for n in sorted(range(50), key=str)]

    @ONE_PLACE
    def test_order_is_sorted(self, place: Place) -> None:
        """Keys come in one order, whichever was written or overwritten last."""
        with place.open() as db:
            for key in ("b", "c", "a", "B", "é"):
                db[key] = 1
            db["a"] = 2
            assert list(db) == sorted(["b", "c", "a", "B", "é"])
            assert db.push()
            assert list(db) == sorted(["b", "c", "a", "B", "é"])

    @ONE_PLACE
    def test_reopening_after_growth_elsewhere(self, place: Place) -> None:
        """A handle that reopens sees a file that another program grew far beyond its index."""
        with place.open(n_buckets=11) as db:
            db.update({f"k{n}": n for n in range(10)})
        with place.open(flag="r") as db:
            assert len(db) == 10
            with booklet.open(local_file(place), "w", timeout=20) as file:
                for n in range(10, 300):
                    file[f"k{n}"] = n
            db.reopen("w")
            assert dict(db) == {f"k{n}": n for n in range(300)}
            with pytest.raises(ValueError, match="unknown flag"):
                db.reopen("x")  # type: ignore[arg-type]  # what a caller may get wrong
            assert len(db) == 300

    @ONE_PLACE
    def test_keys_that_are_too_long(self, place: Place) -> None:
        """The longest key is 65,535 bytes of UTF-8; a longer one writes nothing."""
        with place.open() as db:
            longest = {"k" * 65_535: 1, "é" * 32_767 + "k": 2}
            db.update(longest)
            for key in ("k" * 65_536, "é" * 32_768, "\ud800"):
                with pytest.raises(ebooklet.InvalidKeyError):
                    db[key] = 1
                assert key not in db
            assert dict(db) == longest
            assert db.push()
        with place.open(file="b", flag="r") as db:
            assert dict(db) == longest

    @ONE_PLACE
    def test_raw_bytes_and_their_time(self, place: Place) -> None:
        """Bytes and timestamps cross unchanged, whatever the serializer would make of them."""
        with place.open() as db:
            db.set("k", b"\x00not json", 1_000_000, encode_value=False)
            assert db.push()
        with place.open(file="b", flag="r") as db:
            raw = db.get_timestamp("k", include_value=True, decode_value=False)
            assert raw == (1_000_000, b"\x00not json")

    @ONE_PLACE
    def test_an_older_timestamp_is_no_older_value(self, place: Place) -> None:
        """A value written later wins, whatever its time says: a tie, a step back, or zero."""
        with place.open() as db:
            db.set("k", "first", 1_000_000)
            assert db.push()
        for value, moment in (("tie", 1_000_000), ("back", 5), ("zero", 0)):
            with place.open(flag="w") as db:
                db.set("k", value, moment)
                assert [change["kind"] for change in db.changes()] == ["modified"]
                assert db.push()
            with place.open(file="b", flag="r") as db:
                assert db.get_timestamp("k", include_value=True) == (moment, value)

    def test_a_version_of_booklet_that_has_it_all(self) -> None:
        """0.12.9 is the first with timeouts of locks; slots and locations are older."""
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
        assert "booklet>=0.12.9" in project["project"]["dependencies"]
