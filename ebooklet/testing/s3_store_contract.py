"""The RemoteStore contract on real S3 servers, with what each of them is known not to keep."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

import pytest

from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.remote_store_contract import RemoteStoreContract, Wire
from ebooklet.testing.servers import S3Server

__all__ = ["S3StoreContract"]


def _conditions_ignored(server: str) -> dict[str, str]:
    return dict.fromkeys(
        (
            "test_if_absent_admits_one_writer",
            "test_if_match_refuses_a_stale_version",
            "test_if_match_refuses_a_missing_object",
            "test_raced_creation_has_one_winner",
            "test_raced_replacement_has_one_winner",
        ),
        f"{server} silently ignores conditions, which is why the probe gives it mode lock",
    )


def _folders(server: str) -> dict[str, str]:
    return dict.fromkeys(
        ("test_neighbours_are_separate", "test_delete_spares_neighbours"),
        f"{server} keeps objects in folders, which cannot hold `a` beside `a/b`",
    )


_CANNOT: Final[Mapping[str, Mapping[str, str]]] = {
    "seaweedfs": {
        "test_backslash_in_a_name": "SeaweedFS turns a backslash into a slash",
        "test_long_names": "SeaweedFS refuses a component over 255 bytes",
    },
    "moto": {"test_control_characters_in_a_name": "moto knows no line ends in a key"},
    "ministack": {},
    "juicefs": {**_conditions_ignored("JuiceFS"), **_folders("JuiceFS")},
    "rclone": {
        **_conditions_ignored("rclone"),
        **_folders("rclone"),
        "test_long_names": "rclone answers 500 to a component over 255 bytes",
    },
}
_SOMETIMES_BREAKS: Final[Mapping[str, Mapping[str, str]]] = {
    "juicefs": {
        "test_a_reader_never_sees_a_mix": "JuiceFS cuts the new body at the old one's length"
    },
    "rclone": {
        "test_a_reader_never_sees_a_mix": "rclone shows the parts of a body that is being replaced"
    },
}
_KEEPS_REMAINS: Final = ("juicefs", "rclone")  # in listings, of what they refused half-way


class S3StoreContract(RemoteStoreContract):
    """The contract for one adapter on one server; a cell of the table "contract".

    Subclass once for the adapter, giving `adapter` and `open`, and from that once for each
    server. Session fixtures named as the servers are must give the running `S3Server`.

    Attributes:
        adapter: name of the adapter, the row of the table.
        server_name: the server, the column.
        representative: whether it runs always, or with `--servers` only.
        deviations: what the adapter cannot keep anywhere, or not on this server.
        keeps: tests that pass in spite of the server, by some doing of the adapter's.
    """

    adapter: ClassVar[str] = ""
    server_name: ClassVar[str] = ""
    representative: ClassVar[bool] = True
    keeps: ClassVar[Sequence[str]] = ()
    pytestmark: ClassVar[list[pytest.MarkDecorator]] = []
    used_store: ClassVar[RemoteStore | None] = None

    def __init_subclass__(cls) -> None:
        known = _CANNOT.get(cls.server_name, {})
        adapters = {
            name: reason
            for parent in reversed(cls.__mro__)
            for name, reason in vars(parent).get("deviations", {}).items()
        }
        kept = {name: reason for name, reason in known.items() if name not in cls.keeps}
        cls.deviations = {**kept, **adapters}
        cls.unreliable = {**_SOMETIMES_BREAKS.get(cls.server_name, {}), **cls.unreliable}
        if cls.server_name:
            cls.pytestmark = [
                pytest.mark.matrix(
                    "contract",
                    cls.adapter,
                    cls.server_name,
                    representative=cls.representative,
                )
            ]
        super().__init_subclass__()

    @abstractmethod
    def open(self, server: S3Server, bucket: str) -> RemoteStore:
        """A store on this bucket."""
        ...

    @pytest.fixture
    def server(self, request: pytest.FixtureRequest) -> S3Server:
        """The server that the class names."""
        found = request.getfixturevalue(self.server_name)
        assert isinstance(found, S3Server)
        return found

    @pytest.fixture
    def store(self, server: S3Server, request: pytest.FixtureRequest) -> Iterator[RemoteStore]:
        """An empty bucket: one a class, as new ones and new clients take time, or one a test."""
        if self.server_name in _KEEPS_REMAINS:
            store = self.open(server, server.new_bucket())
            yield store
            store.close()
            return
        kind = type(self)
        if kind.used_store is None:
            kind.used_store = self.open(server, server.new_bucket())
            request.node.parent.addfinalizer(kind.used_store.close)
        yield kind.used_store
        kind.used_store.delete([meta.key for meta in kind.used_store.list("")])

    @pytest.fixture
    def neighbour(self, server: S3Server) -> Iterator[RemoteStore]:
        """Another bucket of the server."""
        neighbour = self.open(server, server.new_bucket())
        yield neighbour
        neighbour.close()

    @pytest.fixture
    def wire(self, server: S3Server) -> Iterator[Wire]:
        """A store on the far side of a proxy that counts."""
        with CountingProxy(server.endpoint_url) as proxy:
            store = self.open(server.at(proxy.url), server.new_bucket())
            yield Wire(
                store,
                lambda: proxy.counts().bytes_up + proxy.counts().bytes_down,
                lambda: proxy.counts().by_kind.get("CAS", 0),
            )
            store.close()

    @pytest.fixture
    def secrets(self, server: S3Server) -> tuple[str, ...]:
        """The server's keys."""
        return server.access_key_id, server.access_key
