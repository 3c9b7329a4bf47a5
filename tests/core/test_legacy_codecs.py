"""What EBooklet 0.11 wrote, decoded: genuine bytes, damaged ones, and those of strangers."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import struct
from collections.abc import Callable, Iterator

import booklet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.legacy.description import read_description, read_timestamp
from ebooklet.core.legacy.groups import GroupReader, head_bytes, member_head
from ebooklet.core.legacy.index import IndexEntry, IndexTable
from ebooklet.core.legacy.journal import LegacyJournal, read_journal, read_remote_timestamp
from ebooklet.core.legacy.names import value_key
from ebooklet.core.legacy.payload import (
    FRAME,
    MAGIC,
    MAX_INDEX_BYTES,
    MAX_MANIFEST_BYTES,
    read_frame,
    read_manifest,
    read_metadata,
)
from ebooklet.errors import EBookletError, RemoteIntegrityError, UnsupportedFormatError

ENTRY = struct.Struct("<III")
UUID = "01a20ffc66c289a183dbb70779678715"


def packed(entry: IndexEntry) -> bytes:
    """An entry as 0.11 stores it, grouped."""
    return entry.timestamp.to_bytes(7, "little") + ENTRY.pack(*entry[1:])


def genuine_index(
    entries: dict[str, IndexEntry], *, deleted: tuple[str, ...] = (), n_buckets: int = 11
) -> bytes:
    """An index written by booklet itself, as 0.11 has it write them."""
    buffer = io.BytesIO()
    with booklet.FixedLengthValue(
        buffer, "n", key_serializer="str", value_len=19, n_buckets=n_buckets
    ) as file:
        for key in deleted:
            file[key] = bytes(19)
        for key, entry in entries.items():
            file[key] = bytes(19)
            file[key] = packed(entry)
        for key in deleted:
            del file[key]
        file.sync()
        return buffer.getvalue()


def group_of(members: list[tuple[bytes, int, bytes]]) -> tuple[bytes, dict[bytes, IndexEntry]]:
    """A group object, and what the index says of its members."""
    out = bytearray(struct.pack(">I", len(members)))
    entries: dict[bytes, IndexEntry] = {}
    for key, timestamp, value in members:
        entry = IndexEntry(timestamp, 0, len(out) + head_bytes(key), len(value))
        out += member_head(key, entry) + value
        entries[key] = entry
    return bytes(out), entries


KEYS = ["", "a", "a b", "é", "日本", "k" * 300, *(f"key/{n}" for n in range(60))]
ENTRIES = {
    key: IndexEntry(1_700_000_000_000_000 + n, n % 3, 19 + n, n * 7) for n, key in enumerate(KEYS)
}
INDEX = genuine_index(ENTRIES, deleted=("gone", "gone too"))


class TestIndex:
    """The Booklet that lists the keys."""

    @pytest.mark.parametrize("n_buckets", [1, 11, 997])
    def test_every_key_is_listed_and_found(self, n_buckets: int) -> None:
        """Iterating and looking up agree with booklet, in an index that grew, and one that did not."""
        table = IndexTable(genuine_index(ENTRIES, deleted=("x",), n_buckets=n_buckets), "db")
        expected = {key.encode(): entry for key, entry in ENTRIES.items()}
        assert dict(table) == expected
        assert {key: table.find(key) for key in expected} == expected
        assert table.find(b"x") is None
        assert table.find(b"never there") is None
        assert table.count == len(expected) <= table.expected_keys
        assert table.layout == "grouped"

    @settings(max_examples=400, deadline=None)
    @given(st.data())
    def test_damage_is_an_error_or_harmless(self, data: st.DataObject) -> None:
        """Bytes turned over or cut off give the library's errors, and never a wrong key."""
        raw = bytearray(INDEX)
        for _ in range(data.draw(st.integers(1, 4))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
        with contextlib.suppress(EBookletError):
            table = IndexTable(bytes(raw[:cut]), "db")
            for key in KEYS:
                table.find(key.encode())
            assert {key for key, _ in table} == {key.encode() for key in KEYS}

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=600), st.binary(max_size=200))
    def test_strangers_bytes_are_refused(self, header: bytes, rest: bytes) -> None:
        """Whatever follows a right magic, nothing but the library's errors comes out."""
        with contextlib.suppress(EBookletError):
            table = IndexTable(INDEX[:16] + header[16:] + rest, "db")
            table.find(b"a")
            list(table)

    def test_a_circle_of_blocks_is_no_endless_search(self) -> None:
        """A chain that leads back to itself ends."""
        raw = bytearray(genuine_index({"a": ENTRIES["a"]}, n_buckets=1))
        at = int.from_bytes(raw[200:206], "little")
        raw[at + 13 : at + 19] = at.to_bytes(6, "little")
        assert IndexTable(bytes(raw), "db").find(b"b") is None

    def test_sizes_are_compared_before_anything_is_allocated(self) -> None:
        """Four billion chains, or keys, in an index of a few bytes are damage."""
        raw = bytearray(INDEX)
        raw[21:25] = b"\xff" * 4
        with pytest.raises(RemoteIntegrityError):
            IndexTable(bytes(raw), "db")
        raw = bytearray(INDEX)
        raw[33:37] = b"\xff" * 4
        table = IndexTable(bytes(raw), "db")
        assert table.expected_keys < len(raw)
        with pytest.raises(RemoteIntegrityError, match="4294967295 keys"):
            list(table)


MEMBERS = [(key.encode(), 1_600_000_000_000_000 + n, b"v" * (n * 13)) for n, key in enumerate(KEYS)]
GROUP, PLACES = group_of(MEMBERS)


def matching(places: dict[bytes, IndexEntry]) -> Callable[[bytes, int, int, int], bool]:
    return lambda key, when, offset, length: places.get(key) == (when, 0, offset, length)


def fed(reader: GroupReader, pieces: Iterator[bytes]) -> list[tuple[bytes, int, bytes]]:
    return [member for piece in pieces for member in reader.feed(piece)]


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


class TestGroups:
    """Objects that hold many values."""

    @settings(deadline=None)
    @given(st.lists(st.integers(0, 2000), max_size=30))
    def test_pieces_of_any_size_give_the_same(self, sizes: list[int]) -> None:
        """Members come whole, wherever the pieces part them."""
        assert fed(GroupReader(matching(PLACES)), pieces(GROUP, sizes)) == MEMBERS

    @settings(deadline=None)
    @given(st.sets(st.sampled_from(sorted(PLACES))), st.lists(st.integers(1, 300), max_size=60))
    def test_only_what_is_wanted_comes(self, wanted: set[bytes], sizes: list[int]) -> None:
        """Members that the index does not mean are passed over."""
        some = {key: entry for key, entry in PLACES.items() if key in wanted}
        got = fed(GroupReader(matching(some)), pieces(GROUP, sizes))
        assert got == [member for member in MEMBERS if member[0] in wanted]

    def test_what_is_not_wanted_is_not_held(self) -> None:
        """A value of gigabytes that nobody asked for takes no memory, nor does what follows."""
        reader = GroupReader(lambda *_: False)
        head = struct.pack(">IH", 1, 1) + b"k" + bytes(7) + b"\xff" * 4
        assert list(reader.feed(head)) == []
        for _ in range(20):
            assert list(reader.feed(bytes(1 << 20))) == []
            assert len(reader._held) < 100

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_damage_never_gives_a_value_to_the_wrong_key(self, data: st.DataObject) -> None:
        """Whatever is turned over, a member that comes has the key, time and length of the index."""
        raw = bytearray(GROUP)
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
        for key, when, value in fed(GroupReader(matching(PLACES)), pieces(bytes(raw), [500, 500])):
            assert (when, len(value)) == (PLACES[key].timestamp, PLACES[key].length)

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=300), max_size=10))
    def test_strangers_bytes_are_read_without_harm(self, parts: list[bytes]) -> None:
        """Random bytes are members of no group that the index knows, or end in the middle."""
        fed(GroupReader(lambda *_: True), iter(parts))


FRAMED = FRAME.pack(MAGIC, 2, 0, 2, 3, 200) + b"{}" + b"abc" + bytes(200)


class TestPayload:
    """The frame around manifest, metadata and index."""

    def test_the_parts_are_where_it_says(self) -> None:
        """Three sections, one after another, to the end."""
        sections = read_frame(FRAMED, len(FRAMED), "db")
        assert sections.manifest == (40, 42)
        assert sections.metadata == (42, 45)
        assert sections.index == (45, 245)

    @settings(max_examples=200)
    @given(st.binary(max_size=60), st.integers(0, 1 << 70))
    def test_strangers_bytes_are_refused(self, data: bytes, size: int) -> None:
        """Nothing but the library's errors comes out, and no section beyond the object."""
        for raw in (data, MAGIC + data):
            with contextlib.suppress(EBookletError):
                sections = read_frame(raw, size, "db")
                assert sections.index[1] == size

    @pytest.mark.parametrize(
        "lengths",
        [
            (MAX_MANIFEST_BYTES + 1, 0, 0),
            (0, 1 << 63, 0),
            (0, 0, MAX_INDEX_BYTES + 1),
            (2, 3, 199),
        ],
    )
    def test_lengths_are_bounded(self, lengths: tuple[int, int, int]) -> None:
        """Above the limits, or not adding up to the object, they are damage."""
        raw = FRAME.pack(MAGIC, 2, 0, *lengths)
        size = len(FRAMED) if sum(lengths) < 1000 else FRAME.size + sum(lengths)
        with pytest.raises(RemoteIntegrityError):
            read_frame(raw, size, "db")

    def test_another_version_is_named(self) -> None:
        """A later payload says to upgrade."""
        with pytest.raises(UnsupportedFormatError, match="version 3"):
            read_frame(FRAME.pack(MAGIC, 3, 0, 0, 0, 0), FRAME.size, "db")

    def test_a_manifest_names_generations(self) -> None:
        """Group numbers to 13 hexadecimal digits; anything else, a path above all, is damage."""
        assert read_manifest(b'{"0":"7e447413da654","12":"f6b244c447884"}', "db") == {
            0: "7e447413da654",
            12: "f6b244c447884",
        }
        for wrong in (
            *('{"0":"../../../../x"}', '{"01":"7e447413da654"}', '{"4294967296":"7e447413da654"}'),
            *('{"-1":"7e447413da654"}', '{"0":1}', "[]", "[1]", "7", "{", "[" * 100_000),
        ):
            with pytest.raises(RemoteIntegrityError):
                read_manifest(wrong.encode(), "db")

    @given(st.binary(max_size=80) | st.recursive(st.none() | st.integers(), st.lists).map(repr))
    def test_strangers_json_is_refused(self, data: bytes | str) -> None:
        """Nothing but the library's errors comes out."""
        raw = data if isinstance(data, bytes) else data.encode()
        for read in (read_manifest, read_metadata):
            with contextlib.suppress(EBookletError):
                read(raw, "db")

    def test_metadata_carry_their_time(self) -> None:
        """Absent, they are None; present, they have both parts."""
        assert read_metadata(b"", "db") is None
        assert read_metadata(b'{"timestamp":5,"data":null}', "db") == (None, 5)
        for wrong in (b"{}", b'{"timestamp":-1,"data":1}', b'{"timestamp":true,"data":1}', b"[]"):
            with pytest.raises(RemoteIntegrityError):
                read_metadata(wrong, "db")


def described(**changes: str | None) -> list[tuple[str, str]]:
    """User metadata of a database, some of it changed or left out."""
    header = bytearray(200)
    header[:16] = bytes.fromhex("4f7e8a3fe75c4750ad430a728fe31cfe")
    header[29], header[31] = 4, 2
    header[49:65] = bytes.fromhex(UUID)
    said: dict[str, str | None] = {
        "timestamp": "1795564529476433",
        "uuid": UUID,
        "type": "EVariableLengthValue",
        "init_bytes": base64.urlsafe_b64encode(header).decode(),
        "format_version": "3",
        "group_bytes": "200",
        **changes,
    }
    return [(name, value) for name, value in said.items() if value is not None]


class TestDescription:
    """The user metadata of a database's object."""

    def test_it_is_read(self) -> None:
        """Identity, kind, serializer, layout and time; names in any spelling."""
        found = read_description(described(), "db")
        assert (found.uuid.hex, found.type, found.layout) == (UUID, "database", "grouped")
        assert (found.value_serializer, found.timestamp) == ("json", 1795564529476433)
        other = [(name.title().replace("_", "-"), value) for name, value in described()]
        assert read_description(other, "db") == found
        assert read_description(described(format_version="2"), "db").layout == "per key"
        assert read_description(described(type="RemoteConnGroup"), "db").type == "group"

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"init_bytes": None}, "no database of EBooklet 0.11"),
            ({"format_version": None}, "before 0.11"),
            ({"format_version": "2", "num_groups": "7"}, "before 0.11"),
            ({"format_version": "4"}, "'4'"),
        ],
    )
    def test_what_is_none_of_0_11(self, changes: dict[str, str | None], says: str) -> None:
        """Foreign objects, and layouts before and after, are told apart by the message."""
        with pytest.raises(UnsupportedFormatError, match=says):
            read_description(described(**changes), "db")
        with pytest.raises(UnsupportedFormatError, match=r"ebooklet\.open"):
            read_description([], "db")

    @settings(max_examples=200)
    @given(
        st.sampled_from(["uuid", "timestamp", "type", "init_bytes", "format_version"]), st.text()
    )
    def test_strangers_text_is_refused(self, name: str, text: str) -> None:
        """Whatever stands in a field, nothing but the library's errors comes out."""
        with contextlib.suppress(EBookletError):
            read_description(described(**{name: text}), "db")

    @given(st.lists(st.tuples(st.sampled_from(["timestamp", "Timestamp", "x"]), st.text())))
    def test_a_values_time_is_a_number_or_nothing(self, said: list[tuple[str, str]]) -> None:
        """It is what 0.11 wrote, or absent."""
        found = read_timestamp(said)
        assert found is None or 0 <= found < 10**17


class TestJournal:
    """What a local file says of changes not yet pushed."""

    def test_it_is_read(self) -> None:
        """Keys written and deleted, and the two flags; without a slot there is nothing."""
        said = {
            "v": 2,
            "written": ["a", "é"],
            "deletes": ["b"],
            "replace_pending": True,
            "meta_pending": True,
            "storage": "grouped",
        }
        assert read_journal(json.dumps(said).encode(), "f") == LegacyJournal(
            frozenset(("a", "é")), frozenset("b"), metadata=True, replaces=True
        )
        assert read_journal(None, "f") == read_journal(b'{"v":1}', "f") == LegacyJournal()
        assert read_remote_timestamp(b'{"v":1,"remote_ts":7,"manifest":{}}', "f") == 7
        assert read_remote_timestamp(None, "f") is None

    @pytest.mark.parametrize(
        "data",
        [
            *(b"", b"[]", b"{}", b'{"v":0}', b'{"v":2,"written":"ab"}', b'{"v":2,"deletes":[1]}'),
            *(b'{"v":2,"meta_pending":1}', b"[" * 100_000, b"\xff"),
        ],
    )
    def test_what_cannot_be_read_is_not_guessed(self, data: bytes) -> None:
        """Pending changes that cannot be told are an error, not an absence."""
        with pytest.raises(EBookletError, match="not yet pushed"):
            read_journal(data, "f")

    def test_a_later_version_is_refused(self) -> None:
        """It may mean something else by the same names."""
        with pytest.raises(UnsupportedFormatError):
            read_journal(b'{"v":3}', "f")

    @given(st.binary(max_size=60))
    def test_strangers_bytes_are_refused(self, data: bytes) -> None:
        """Nothing but the library's errors comes out."""
        for read in (read_journal, read_remote_timestamp):
            with contextlib.suppress(EBookletError):
                read(data, "f")


@given(st.text(alphabet=st.sampled_from("./ab\\é%") | st.characters()))
def test_names_never_leave_the_database(key: str) -> None:
    """An object's name is below the database's key, and one that every store can say."""
    name = value_key("some/db", key)
    if name is not None:
        assert name.startswith("some/db/")
        assert not {"", ".", ".."} & set(name.split("/"))
