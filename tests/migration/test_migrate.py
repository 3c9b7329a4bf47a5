"""Databases that EBooklet 0.11 wrote arrive in a new one, key by key."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.group import RemoteConnGroup
from ebooklet.serializers.raw import BYTES
from tests.migration.conftest import Content, OldDatabases, Reversed, read

pytestmark = pytest.mark.xdist_group("migration")

MODES = ("key", "group")
SERIALIZERS = (
    *("none", "bytes", "str", "pickle", "json", "orjson", "msgpack", "int4"),
    *("zstd", "orjson_zstd", "pickle_zstd", "msgpack_zstd"),
)
OTHERS = ("own", "life", "large", "cold", "killed")
NAMES = [
    *(f"{mode}/{case}" for mode in MODES for case in (*SERIALIZERS, *OTHERS)),
    *("group/many", "empty", "metadata", "catalogue"),
]
_names = itertools.count()


@pytest.fixture
def new() -> str:
    """A place of its own for each test."""
    return f"memory://migration-{next(_names)}/db"


def own_class(name: str) -> type | None:
    return Reversed if name.endswith("/own") else None


class TestRemotes:
    """From the old remote alone."""

    def test_into_an_encrypted_database(self, old: OldDatabases, new: str) -> None:
        """All of it arrives, and only the key opens it."""
        keys = ebooklet.Encryption({"a": b"k" * 32}, current="a")
        assert ebooklet.migrate(old.connection("group/json"), new, encryption=keys)
        assert read(new, encryption=keys) == old.content("group/json")
        with pytest.raises(ebooklet.EncryptionError):
            ebooklet.open(new)

    @pytest.mark.parametrize("name", NAMES)
    def test_every_key_arrives(self, old: OldDatabases, new: str, name: str) -> None:
        """Keys, raw values, timestamps to the microsecond and metadata are those of 0.11."""
        report = ebooklet.migrate(
            old.connection(name), new, value_serializer=own_class(name), message="moved"
        )
        expected = old.content(name)
        assert read(new, value_serializer=BYTES if own_class(name) else None) == expected
        assert report
        assert report.failures == {}
        assert report.notes == ()
        assert not report.pending
        assert report.keys == len(expected.items)
        assert report.value_bytes == sum(len(value) for _, value in expected.items.values())
        assert report.old_uuid.hex == old.uuid(name)
        assert report.kind == ("group" if name == "catalogue" else "database")

    @pytest.mark.parametrize("mode", MODES)
    def test_values_are_read_as_they_were_written(
        self, old: OldDatabases, new: str, mode: str
    ) -> None:
        """The serializer's name is carried over, so that values decode to what was stored."""
        structured = [None, *({"number": n, "list": [1, 2.5, "é"]} for n in (1, 2, 3))]
        raw = [b"", b"value 1", b"value 2", b"value 3"]
        for name in SERIALIZERS:
            if name == "int4":
                continue  # read in the raw above
            place = f"{new}-{name}"
            report = ebooklet.migrate(old.connection(f"{mode}/{name}"), place)
            assert report.value_serializer == ("bytes" if name == "none" else name)
            with ebooklet.open(place) as db:
                expected: list[Any] = structured
                if name in ("none", "bytes", "zstd"):
                    expected = raw
                elif name == "str":
                    expected = ["", "välue 1", "välue 2", "välue 3"]
                assert list(db.values()) == expected

    def test_a_class_of_the_users_own_has_to_be_passed(self, old: OldDatabases, new: str) -> None:
        """Such a database says no name; with the class its values are read again."""
        with pytest.raises(ValueError, match="class"):
            ebooklet.migrate(old.connection("group/own"), new)
        ebooklet.migrate(old.connection("group/own"), new, value_serializer=Reversed)
        with ebooklet.open(new, value_serializer=Reversed) as db:
            assert dict(db) == {"a": "forwards", "b": ""}

    def test_a_name_can_only_confirm_the_serializer(self, old: OldDatabases, new: str) -> None:
        """Another name is refused before anything is read; the old one's is accepted."""
        with pytest.raises(ValueError, match="'pickle_zstd'"):
            ebooklet.migrate(old.connection("key/pickle_zstd"), new, value_serializer="json")
        report = ebooklet.migrate(
            old.connection("key/pickle_zstd"), new, value_serializer="pickle+zstd"
        )
        assert report.value_serializer == "pickle_zstd"

    def test_it_is_one_commit_on_a_real_server(self, old: OldDatabases, tmp_path: Path) -> None:
        """The new database has one commit, its local file all of it, and what is old stays."""
        before = old.objects()
        bucket = old.server.new_bucket()
        place = old.server.connection(bucket, "moved/life")
        file = tmp_path / "life.blt"
        report = ebooklet.migrate(old.connection("group/life"), place, file)
        assert old.objects() == before
        assert read(place) == old.content("group/life")
        with ebooklet.open(place, file, "w") as db:
            assert db._copy.base is not None
            assert db._copy.base.head.seq == 1
            assert db._copy.base.head.branch.commit.id.hex() == report.commit
            assert db.uuid == report.new_uuid != report.old_uuid
            assert list(db.changes()) == []
            db["after"] = "the move"
            assert db.push()

    def test_old_groups_become_groups(self, old: OldDatabases, new: str) -> None:
        """Entries of a connection group are kept as they are, and it opens as one."""
        ebooklet.migrate(old.connection("catalogue"), new)
        with ebooklet.open(new) as group:
            assert isinstance(group, RemoteConnGroup)
            assert set(group) == {old.uuid("member/one"), "named"}
            entry = group["named"]
            assert entry["entry_version"] == 1
            assert entry["user_meta"] == {"theme": "rain"}
            assert entry["remote_meta"] == {"name": "member/two"}
            assert entry["remote_conn"]["db_key"] == "member/two"

    def test_keys_that_0_11_stored_under_one_name(self, old: OldDatabases, new: str) -> None:
        """What is lost there is listed: by default nothing is pushed, on request the rest is."""
        with pytest.raises(ebooklet.MigrationIncomplete, match="strict=False") as caught:
            ebooklet.migrate(old.connection("key/collisions"), new)
        lost = set(caught.value.failures) - {"", "."}
        assert len(lost) == 1
        assert lost < {"c/d", "c//d"}  # whichever was sent first
        assert "another moment" in caught.value.failures[lost.pop()]
        with pytest.raises(ebooklet.RemoteMissingError):
            ebooklet.open(new)
        report = ebooklet.migrate(old.connection("key/collisions"), new, strict=False)
        assert not report
        assert report.failures == caught.value.failures
        assert read(new) == old.content("key/collisions").without(*report.failures)

    def test_the_error_of_open_names_the_way(self, old: OldDatabases) -> None:
        """An old remote is refused by `open`, which says what moves it."""
        with pytest.raises(ebooklet.UnsupportedFormatError, match=r"ebooklet\.migrate"):
            ebooklet.open(old.connection("group/json"), flag="w")


class TestPublicUrls:
    """From the old public URL, without credentials."""

    @pytest.fixture
    def url(self, old: OldDatabases) -> str:
        return old.server.publish(old.bucket)

    @pytest.mark.parametrize("name", ["key/life", "group/life"])
    def test_every_key_arrives(self, old: OldDatabases, new: str, url: str, name: str) -> None:
        """A public database is read by its URL, odd keys included."""
        assert ebooklet.migrate(f"{url}/{name}", new)
        assert read(new) == old.content(name)

    def test_a_connection_with_its_url_alone(self, old: OldDatabases, new: str, url: str) -> None:
        """So is one named by a connection, or by a group's entry."""
        entry = {"remote_conn": {"db_url": f"{url}/group/json"}}
        assert ebooklet.migrate(entry, new)
        assert read(new) == old.content("group/json")

    def test_strangers_pickles_are_not_taken_over(
        self, old: OldDatabases, new: str, url: str
    ) -> None:
        """In the new place they would be trusted, so the caller has to vouch for them."""
        with pytest.raises(ebooklet.SerializationError, match="allow_pickle"):
            ebooklet.migrate(f"{url}/group/pickle_zstd", new)
        with pytest.raises(ebooklet.SerializationError):
            ebooklet.migrate(
                f"{url}/group/pickle_zstd", new, value_serializer="pickle_zstd", allow_pickle=False
            )
        assert ebooklet.migrate(
            f"{url}/group/pickle_zstd", f"{new}-named", value_serializer="pickle_zstd"
        )
        assert ebooklet.migrate(f"{url}/group/pickle_zstd", new, allow_pickle=True)
        assert read(new) == old.content("group/pickle_zstd")


class TestLocalFilesAlone:
    """From a local file of 0.11, without its remote."""

    @pytest.mark.parametrize("mode", MODES)
    def test_a_file_that_holds_everything(
        self, old: OldDatabases, new: str, tmp_path: Path, mode: str
    ) -> None:
        """It arrives whole, and the file stays as it is."""
        file = old.file(f"{mode}-full", tmp_path)
        before = {part.name: part.read_bytes() for part in tmp_path.iterdir()}
        report = ebooklet.migrate(file, new)
        assert report
        assert report.old_uuid.hex == old.uuid(f"{mode}/full")
        assert read(new) == old.content(f"{mode}/full")
        assert {part.name: part.read_bytes() for part in tmp_path.iterdir()} == before

    def test_keys_it_only_knows_of_are_listed(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """Values that are not there, or are older than the remote's, are failures."""
        file = old.file("group-cold", tmp_path)
        with pytest.raises(ebooklet.MigrationIncomplete) as caught:
            ebooklet.migrate(file, new)
        assert set(caught.value.failures) == {"k1", "k3", "k4", "k5", "k9"}
        report = ebooklet.migrate(str(file), new, strict=False)
        assert set(report.failures) == {"k1", "k3", "k4", "k5", "k9"}
        assert {key: value for key, (_, value) in read(new).items.items()} == {"k0": b"0"}

    def test_what_was_never_pushed_is_part_of_it(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """Pending sets, deletions and metadata are what the file's user saw."""
        report = ebooklet.migrate(old.file("key-pending", tmp_path), new, strict=False)
        assert report.pending.sets == ("k3", "new")
        assert report.pending.deletes == ("k4",)
        assert report.pending.metadata
        assert report.pending_applied
        assert set(report.failures) == {"k0", "k1", "k2", "k5"}
        found = read(new)
        assert {key: value for key, (_, value) in found.items.items()} == {
            "k3": b'"pending"',
            "new": b'"pending as well"',
        }
        assert found.metadata == ({"m": 2}, 1_600_000_000_000_002)

    def test_a_replacement_that_was_never_pushed(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """After flag "n" the file is all there is, whatever its index still lists."""
        report = ebooklet.migrate(old.file("group-replacing", tmp_path), new)
        assert report
        assert report.pending.replaces
        assert set(read(new).items) == {"only"}

    def test_a_clear_that_was_never_pushed(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """All keys are pending deletions: the new database is empty."""
        report = ebooklet.migrate(old.file("key-cleared", tmp_path), new)
        assert report.pending.deletes == ("k0", "k1", "k2", "k3", "k4", "k5")
        assert read(new) == Content({}, ({"m": 1}, 1_300_000_000_000_001))

    def test_a_file_without_the_index_beside_it(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """That keys may be missing is said, and counts as a failure."""
        file = old.file("group-alone", tmp_path)
        with pytest.raises(ebooklet.MigrationIncomplete, match="index beside the local file"):
            ebooklet.migrate(file, new)
        report = ebooklet.migrate(file, new, strict=False)
        assert not report
        assert len(report.notes) == 1
        assert report.keys == 6

    def test_a_file_that_never_had_a_remote(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """Nothing can be missing from it."""
        report = ebooklet.migrate(old.file("key-never", tmp_path), new)
        assert report
        assert set(read(new).items) == {"a"}

    def test_a_file_whose_writer_was_killed(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """All that it had synced arrives."""
        report = ebooklet.migrate(old.file("key-killed", tmp_path), new)
        assert report
        values = {key: value for key, (_, value) in read(new).items.items()}
        assert values == {"k0": b'"synced"', "k1": b"1", "more": b'"synced"'}

    def test_a_group_says_so_only_in_its_remote(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """The caller says that a local file alone is a group's."""
        ebooklet.migrate(old.file("catalogue", tmp_path), new, remote_conn_group=True)
        with ebooklet.open(new) as group:
            assert isinstance(group, RemoteConnGroup)
            assert "named" in group


class TestRemotesWithLocalFiles:
    """From the old remote, and a local file with what was never pushed."""

    def test_pending_changes_are_reported(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """Committed content comes from the remote; the report is falsy, as something is left."""
        file = old.file("group-pending", tmp_path)
        report = ebooklet.migrate(old.connection("group/pending"), new, old_file=file)
        assert not report
        assert report.failures == {}
        assert report.pending.sets == ("k3", "new")
        assert report.pending.deletes == ("k4",)
        assert report.pending.metadata
        assert not report.pending_applied
        assert read(new) == old.content("group/pending")

    @pytest.mark.parametrize("mode", MODES)
    def test_pending_changes_are_applied_on_request(
        self, old: OldDatabases, new: str, tmp_path: Path, mode: str
    ) -> None:
        """They lie over what is committed, with their own timestamps and metadata."""
        file = old.file(f"{mode}-pending", tmp_path)
        report = ebooklet.migrate(
            old.connection(f"{mode}/pending"), new, old_file=file, apply_pending=True
        )
        assert report
        assert report.pending_applied
        found = read(new)
        committed = old.content(f"{mode}/pending")
        assert found.without("k3", "new").items == committed.without("k3", "k4").items
        assert found.items["k3"][1] == b'"pending"'
        assert found.items["new"][1] == b'"pending as well"'
        assert found.items["k3"][0] > committed.items["k3"][0]
        assert found.metadata == ({"m": 2}, 1_600_000_000_000_002)

    def test_a_file_with_nothing_pending(self, old: OldDatabases, new: str, tmp_path: Path) -> None:
        """Old copies of values that others changed since are no changes."""
        file = old.file("key-cold", tmp_path)
        report = ebooklet.migrate(
            old.connection("key/cold"), new, old_file=file, apply_pending=True
        )
        assert report
        assert not report.pending
        assert read(new) == old.content("key/cold")

    def test_a_pending_replacement(self, old: OldDatabases, new: str, tmp_path: Path) -> None:
        """Applied, it leaves nothing of what is committed."""
        file = old.file("key-replacing", tmp_path)
        report = ebooklet.migrate(
            old.connection("key/replacing"), new, old_file=file, apply_pending=True
        )
        assert report
        assert report.pending.replaces
        assert set(read(new).items) == {"only"}

    def test_what_the_remote_overtook_is_no_silent_loss(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """Keys changed on both sides are failures; without strict the remote's version stays."""
        file = old.file("group-overtaken", tmp_path)
        place = old.connection("group/overtaken")
        with pytest.raises(ebooklet.MigrationIncomplete) as caught:
            ebooklet.migrate(place, new, old_file=file, apply_pending=True)
        assert set(caught.value.failures) == {"k0", "k5"}
        report = ebooklet.migrate(place, new, old_file=file, apply_pending=True, strict=False)
        assert set(report.failures) == {"k0", "k5"}
        assert read(new) == old.content("group/overtaken")

    def test_halves_of_different_databases(
        self, old: OldDatabases, new: str, tmp_path: Path
    ) -> None:
        """They are refused before anything is read."""
        file = old.file("key-full", tmp_path)
        with pytest.raises(ebooklet.UUIDMismatchError):
            ebooklet.migrate(old.connection("group/full"), new, old_file=file)
