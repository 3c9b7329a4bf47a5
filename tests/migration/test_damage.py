"""Old remotes that are damaged, or were made to harm: a typed error, a listed key, or the right value."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator

import pytest

import ebooklet
from ebooklet.core.legacy.payload import FRAME, read_frame
from ebooklet.testing.faulty import StoreFault, StoreRule
from ebooklet.testing.servers import S3Server
from tests.migration.conftest import Content, OldDatabases, read

pytestmark = pytest.mark.xdist_group("migration-alone")

_names = itertools.count()


def place() -> str:
    return f"memory://damage-{next(_names)}/db"


def flipped(key: str, at: int) -> StoreRule:
    return StoreRule(StoreFault.FLIP, "get", key, times=None, amount=at)


def body(lone: OldDatabases, key: str = "db") -> bytes:
    return lone.server.client().get_object(Bucket=lone.bucket, Key=key)["Body"].read()


def spread(start: int, stop: int, count: int) -> Iterator[int]:
    """Some positions in a span, the same in every run."""
    return iter(sorted(random.Random(11).sample(range(start, stop), count)))


class TestGroupsDamaged:
    """Objects that hold values."""

    def test_a_group_that_cannot_be_had(self, lone: OldDatabases) -> None:
        """Exactly its keys are listed; the others arrive."""
        gone = next(key for key in lone.objects("db/") if key.startswith("db/7."))
        store = lone.store(StoreRule(StoreFault.DENY, "get", gone, times=None))
        with pytest.raises(ebooklet.MigrationIncomplete) as caught:
            ebooklet.migrate(store, place())
        assert list(caught.value.failures) == ["k07"]
        new = place()
        report = ebooklet.migrate(store, new, strict=False)
        assert report.failures == caught.value.failures
        assert report.keys == 39
        assert read(new) == lone.content("db").without("k07")

    def test_a_bit_of_a_group(self, tiny: OldDatabases) -> None:
        """In what says whose value it is, the key is listed; in the value, only 0.11 could know.

        The number of members is not needed: what is left out for it is found by the index.
        """
        (group,) = tiny.objects("db/")
        head = 4 + 2 + 2 + 7 + 4
        size = len(tiny.content("db").items["k0"][1])
        expected = tiny.content("db")
        store = tiny.store()
        for at in (3, *range(4, head, 2), head, head + size - 1):
            store.clear()
            store.add(flipped(group, at))
            new = place()
            report = ebooklet.migrate(store, new, strict=False)
            found = read(new)
            if at < 4:
                assert found == expected
            elif at < head:
                assert list(report.failures) == ["k0"], at
                assert found == expected.without("k0")
            else:
                assert report.failures == {}
                when, value = found.items["k0"]
                assert (when, len(value)) == (expected.items["k0"][0], size)


class TestHeadsDamaged:
    """The object that says what the database is."""

    def test_a_bit_anywhere(self, tiny: OldDatabases) -> None:
        """A typed error, a listed key, or what was there: never another value or key."""
        raw = body(tiny)
        sections = read_frame(bytes(raw), len(raw), "db")
        index = sections.index[0]
        table = raw.index(b"k1", index)
        expected = tiny.content("db")
        positions = (
            *spread(0, FRAME.size, 12),
            *spread(*sections.manifest, 3),
            *spread(index, index + 80, 16),
            *range(table - 21, table + 21, 2),
        )
        store = tiny.store()
        for at in positions:
            store.clear()
            store.add(flipped("db", at))
            new = place()
            try:
                report = ebooklet.migrate(store, new, strict=False)
            except ebooklet.Error:
                with pytest.raises(ebooklet.RemoteMissingError):
                    ebooklet.open(new)
            else:
                assert read(new) == expected.without(*report.failures), at

    def test_metadata_that_cannot_be_read(self, lone: OldDatabases) -> None:
        """They are left out with a note, and the keys arrive."""
        raw = body(lone)
        sections = read_frame(bytes(raw), len(raw), "db")
        store = lone.store(flipped("db", sections.metadata[0]))
        with pytest.raises(ebooklet.MigrationIncomplete, match="metadata") as caught:
            ebooklet.migrate(store, place())
        assert caught.value.failures == {}
        assert len(caught.value.notes) == 1
        new = place()
        report = ebooklet.migrate(store, new, strict=False)
        assert not report
        assert read(new) == Content(lone.content("db").items, None)

    def test_a_head_that_changes_while_it_is_read(self, lone: OldDatabases) -> None:
        """Its pieces belong to one version, or nothing of it is taken."""
        bucket = lone.server.new_bucket()
        raw = body(lone)
        client = lone.server.client()
        said = client.head_object(Bucket=lone.bucket, Key="db")["Metadata"]
        client.put_object(Bucket=bucket, Key="db", Body=raw + bytes(9 << 20), Metadata=said)
        with pytest.raises(ebooklet.RemoteIntegrityError, match="length"):
            ebooklet.migrate(lone.server.connection(bucket, "db"), place())


class TestStrangers:
    """Databases that nobody's 0.11 wrote."""

    @pytest.fixture
    def said(self, lone: OldDatabases) -> dict[str, str]:
        return lone.server.client().head_object(Bucket=lone.bucket, Key="db")["Metadata"]

    def put(self, moto: S3Server, said: dict[str, str], raw: bytes) -> ebooklet.S3Connection:
        bucket = moto.new_bucket()
        moto.client().put_object(Bucket=bucket, Key="db", Body=raw, Metadata=said)
        return moto.connection(bucket, "db")

    @pytest.mark.parametrize("field", [16, 24, 32])
    def test_sizes_are_bounded(
        self, lone: OldDatabases, moto: S3Server, said: dict[str, str], field: int
    ) -> None:
        """Sections of exabytes are refused by what the object really has."""
        raw = bytearray(body(lone))
        raw[field : field + 8] = struct.pack(">Q", 1 << 60)
        with pytest.raises(ebooklet.RemoteIntegrityError, match="limit"):
            ebooklet.migrate(self.put(moto, said, bytes(raw)), place())

    def test_values_that_would_be_gigabytes(
        self, lone: OldDatabases, moto: S3Server, said: dict[str, str]
    ) -> None:
        """Entries that point far beyond their groups cost requests, not memory, and are listed."""
        raw = bytearray(body(lone))
        index = read_frame(bytes(raw), len(raw), "db").index[0]
        keys = sorted(lone.content("db").items)
        for key in keys:
            at = raw.index(key.encode(), index) + len(key) + 7
            raw[at + 4 : at + 12] = struct.pack("<II", 0xFFFF_FF00, 0xFFFF_FFFF)
        connection = self.put(moto, said, bytes(raw))
        client, old = moto.client(), lone.server.client()
        for name in lone.objects("db/"):
            value = old.get_object(Bucket=lone.bucket, Key=name)["Body"].read()
            client.put_object(Bucket=connection.bucket or "", Key=name, Body=value)
        with pytest.raises(ebooklet.MigrationIncomplete) as caught:
            ebooklet.migrate(connection, place())
        assert sorted(caught.value.failures) == keys

    def test_a_manifest_that_names_other_objects(
        self, lone: OldDatabases, moto: S3Server, said: dict[str, str]
    ) -> None:
        """Nothing outside of the database is asked for."""
        raw = body(lone)
        sections = read_frame(bytes(raw), len(raw), "db")
        manifest = b'{"0":"/../../secret"}'.ljust(sections.manifest[1] - sections.manifest[0])
        raw = raw[: sections.manifest[0]] + manifest + raw[sections.manifest[1] :]
        with pytest.raises(ebooklet.RemoteIntegrityError, match="manifest"):
            ebooklet.migrate(self.put(moto, said, raw), place())

    def test_the_old_layout_of_0_10(
        self, lone: OldDatabases, moto: S3Server, said: dict[str, str]
    ) -> None:
        """It is named, with the way to 0.11."""
        older = {**said, "format_version": "2", "num_groups": "7"}
        with pytest.raises(ebooklet.UnsupportedFormatError, match=r"before 0\.11"):
            ebooklet.migrate(self.put(moto, older, body(lone)), place())
