"""A store beside a cheaper copy of its objects: its contract, and what becomes of a bad copy."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from ebooklet.adapters.remote.boto3 import Boto3RemoteStore
from ebooklet.adapters.remote.http import HttpRemoteStore
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.adapters.remote.mirrored import MirroredRemoteStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.errors import (
    AccessDenied,
    EBookletError,
    ObjectNotFound,
    RemoteUnavailable,
)
from ebooklet.ports.remote_store import ByteRange, IfAbsent, RemoteStore
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from ebooklet.testing.remote_store_contract import RemoteStoreContract
from ebooklet.testing.servers import S3Server
from tests.adapters.remote.test_remote_http import published
from tests.odd_servers import playing, saying


@pytest.mark.filterwarnings("ignore:the mirror")
class TestWholeCopy(RemoteStoreContract):
    """Every range comes from the mirror, which has the very objects."""

    @pytest.fixture
    def store(self, request: pytest.FixtureRequest) -> RemoteStore:
        name = f"mirrored-{id(request.node)}"
        return MirroredRemoteStore(
            MemoryRemoteStore(name), MemoryRemoteStore(name), prefix="", mirror_prefix=""
        )


@pytest.mark.filterwarnings("ignore:the mirror")
class TestDeadMirror(RemoteStoreContract):
    """Every range is asked of a mirror first that does not answer."""

    @pytest.fixture
    def store(self) -> RemoteStore:
        dead = FaultyRemoteStore(MemoryRemoteStore())
        dead.add(StoreRule(StoreFault.REFUSE, times=None))
        return MirroredRemoteStore(
            MemoryRemoteStore(),
            dead,
            prefix="",
            mirror_prefix="",
            monotonic=iter(range(10**9)).__next__,
        )


@pytest.fixture(scope="class")
def bucket_store(seaweedfs: S3Server) -> Iterator[MirroredRemoteStore]:
    url = published(seaweedfs)
    parameters = S3Parameters(
        seaweedfs.endpoint_url,
        access_key_id=seaweedfs.access_key_id,
        access_key=seaweedfs.access_key,
        connections=8,
    )
    store = MirroredRemoteStore(
        Boto3RemoteStore(url.rpartition("/")[2], parameters, retry=Retry(sleep=lambda _: None)),
        HttpRemoteStore(f"{url}/any", threads=8, sleep=lambda _: None),
        prefix="",
        mirror_prefix="",
    )
    yield store
    store.close()


@pytest.mark.filterwarnings("ignore:the mirror")
class TestPublicBucket(RemoteStoreContract):
    """A bucket of a real server, and its public URL."""

    deviations = {  # noqa: RUF012 - the contract's own attribute
        "test_backslash_in_a_name": "SeaweedFS turns a backslash into a slash",
        "test_long_names": "SeaweedFS refuses a component over 255 bytes",
    }

    @pytest.fixture
    def store(self, bucket_store: MirroredRemoteStore) -> Iterator[RemoteStore]:
        yield bucket_store
        bucket_store.delete([meta.key for meta in bucket_store.list("")])

    @pytest.fixture
    def secrets(self, seaweedfs: S3Server) -> tuple[str, ...]:
        return seaweedfs.access_key_id, seaweedfs.access_key


# What comes from where.


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pair:
    """A mirrored store with both sides at hand: 20 objects of 10 bytes each."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.primary = FaultyRemoteStore(MemoryRemoteStore())
        self.mirror = FaultyRemoteStore(MemoryRemoteStore())
        self.store = MirroredRemoteStore(
            self.primary,
            self.mirror,
            prefix="data/db.d/",
            mirror_prefix="public.d/",
            monotonic=self.clock,
        )
        for n in range(20):
            self.primary.inner.put(f"data/db.d/{n:02}", self.body(n))
            self.mirror.inner.put(f"public.d/{n:02}", self.body(n))

    @staticmethod
    def body(n: int) -> bytes:
        return b"body %05d" % n

    def part(self, n: int) -> ByteRange:
        return ByteRange(f"data/db.d/{n:02}", 2, 8)

    def read(self, *numbers: int) -> list[bytes | EBookletError]:
        return list(self.store.get_ranges([self.part(n) for n in numbers]))

    def asked(self) -> tuple[list[str], list[str]]:
        """What each side was asked since the last time: the primary, the mirror."""
        calls = [call.key for call in self.primary.calls], [call.key for call in self.mirror.calls]
        self.primary.calls.clear()
        self.mirror.calls.clear()
        return calls

    def right(self, *numbers: int) -> list[bytes]:
        return [self.body(n)[2:8] for n in numbers]


@pytest.fixture
def pair() -> Pair:
    return Pair()


def lacking(n: int, times: int | None = None) -> StoreRule:
    """The mirror has no copy of this object: a fresh segment that it has not got yet."""
    return StoreRule(StoreFault.STALE, key=f"public.d/{n:02}", times=times)


DENIED = StoreFault.DENY
SILENT = StoreFault.REFUSE


def test_only_ranges_of_immutable_objects_come_from_the_mirror(pair: Pair) -> None:
    """Under the mirror's own names; the head, whole objects, locks and writes are the primary's."""
    assert pair.read(3, 1, 3) == pair.right(3, 1, 3)
    assert pair.asked() == ([], ["public.d/03", "public.d/01", "public.d/03"])

    store = pair.store
    store.put("data/db", b"head", condition=IfAbsent(), cache_control="no-cache")
    assert store.get("data/db").body == b"head"
    assert list(store.get_ranges([ByteRange("data/db", 1, 3)])) == [b"ea"]
    assert list(store.get_ranges([ByteRange("data/db", 1, 3), pair.part(1)])) == [b"ea", b"dy 000"]
    assert store.get("data/db.d/01").body == pair.body(1)
    assert store.head("data/db.d/02").size == 10
    assert store.copy("data/db.d/03", "data/db.d/99").size == 10
    assert len(list(store.list("data/db.d/"))) == 21
    store.delete(["data/db.d/99"])
    assert (store.location, store.endpoint) == (pair.primary.location, pair.primary.endpoint)
    assert store.origin == pair.primary.origin
    assert store.copies_from(pair.primary.origin)
    assert store.capabilities == pair.primary.capabilities
    assert store.server_time_ms() is not None
    assert pair.asked()[1] == []


@pytest.mark.parametrize("fault", [DENIED, SILENT, StoreFault.STALE])
def test_what_the_mirror_does_not_give_comes_from_the_primary(
    pair: Pair, fault: StoreFault
) -> None:
    """In its place among the others; one warning says so, with what to do and no more warnings."""
    pair.mirror.add(StoreRule(fault, key="public.d/02"))
    says = r"memory://#\d+ does not give .* read from .* db_url"
    with pytest.warns(UserWarning, match=says) as said:
        assert pair.read(1, 2, 3) == pair.right(1, 2, 3)
    assert len(said) == 1
    pair.mirror.add(StoreRule(fault, times=None))
    pair.clock.now += 1000
    assert [pair.read(1, 2, 3) for _ in range(3)] == [pair.right(1, 2, 3)] * 3


def test_a_mirror_that_lags_is_asked_for_the_rest(pair: Pair) -> None:
    """Objects that it lacks do not keep it from giving the others, as long as it gives some."""
    for n in (1, 2, 4, 5, 7, 8):
        pair.mirror.add(lacking(n))
    with pytest.warns(UserWarning, match="no such object|not there yet"):
        assert pair.read(*range(10)) == pair.right(*range(10))
    primary, mirror = pair.asked()
    assert primary == [f"data/db.d/{n:02}" for n in (1, 2, 4, 5, 7, 8)]
    assert mirror == [f"public.d/{n:02}" for n in range(10)]


@pytest.mark.filterwarnings("ignore:the mirror")
@pytest.mark.parametrize(("fault", "tolerated"), [(DENIED, 3), (StoreFault.STALE, 3), (SILENT, 1)])
def test_a_mirror_rests(pair: Pair, fault: StoreFault, tolerated: int) -> None:
    """After refusals in a row, or one silence, it is not asked for five minutes, then again."""
    rule = pair.mirror.add(StoreRule(fault, times=None))
    assert pair.read(*range(20)) == pair.right(*range(20))
    primary, mirror = pair.asked()
    assert len(mirror) == tolerated
    assert primary == [f"data/db.d/{n:02}" for n in range(20)]
    pair.clock.now += 299
    assert pair.read(7) == pair.right(7)
    assert pair.store.look("public.d/07", stop=5) is None
    assert pair.asked() == (["data/db.d/07"], [])
    pair.clock.now += 1
    rule.times = rule.struck
    assert pair.read(*range(20)) == pair.right(*range(20))
    assert pair.store.look("public.d/07", stop=5) == b"body "
    assert pair.asked()[0] == []


@pytest.mark.filterwarnings("ignore:the mirror")
def test_a_truncated_copy_is_a_refusal(pair: Pair) -> None:
    """A copy that ends too early is read from the primary."""
    pair.mirror.inner.put("public.d/02", b"bod")
    assert pair.read(1, 2, 3) == pair.right(1, 2, 3)
    assert pair.asked()[0] == ["data/db.d/02"]


def test_what_neither_side_has_is_the_primarys_error(pair: Pair) -> None:
    """The mirror is never the reason for an error."""
    pair.mirror.add(StoreRule(SILENT, times=None))
    pair.primary.add(StoreRule(DENIED, key="data/db.d/02"))
    with pytest.warns(UserWarning, match="does not give"):
        one, two, three, four = pair.store.get_ranges(
            [pair.part(1), pair.part(2), ByteRange("data/db.d/none", 0, 1), pair.part(4)]
        )
    assert isinstance(two, AccessDenied)
    assert isinstance(three, ObjectNotFound)
    assert [one, four] == pair.right(1, 4)


def test_a_mirror_that_gives_wrong_bytes_is_not_asked_again(pair: Pair) -> None:
    """Who doubts a part asks by `get`: if the primary has other bytes, the mirror is out for good."""
    pair.mirror.inner.put("public.d/02", b"BODY 00002")
    assert pair.read(1, 2) == [pair.body(1)[2:8], b"DY 000"]
    assert pair.store.get("data/db.d/01", start=2, stop=8).body == pair.body(1)[2:8]
    assert pair.read(3) == pair.right(3)
    assert "public.d/03" in pair.asked()[1]
    with pytest.warns(UserWarning, match=r"gave other bytes of 'data/db.d/02'.*from here on"):
        assert pair.store.get("data/db.d/02", start=2, stop=8).body == pair.body(2)[2:8]
    pair.clock.now += 10**9
    assert pair.read(2, 3) == pair.right(2, 3)
    assert pair.asked()[1] == []


def test_ranges_may_be_left_early(pair: Pair) -> None:
    """Who stops reading leaves nothing running, and the store works on."""
    parts = iter(pair.store.get_ranges([pair.part(n) for n in range(20)]))
    assert next(parts) == pair.right(0)[0]
    del parts
    assert len(pair.asked()[1]) == 1
    assert pair.read(5) == pair.right(5)


def test_the_mirror_is_asked_in_parallel_and_answers_in_order() -> None:
    """As many requests at once as it has threads, and no more; what is late does not change places."""
    threads, n_parts = 6, 60
    gate = threading.Barrier(threads, timeout=20)
    lock = threading.Lock()
    under_way: list[int] = []
    most: list[int] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if len(server.asked) > 1:
            with lock:
                under_way.append(1)
                most.append(len(under_way))
            gate.wait()  # answered only when all threads have asked
            with lock:
                under_way.pop()
        start, stop = handler.headers["Range"].removeprefix("bytes=").split("-")
        body = bytes(range(int(start), int(stop) + 1))
        saying(206, body, Content_Range=f"bytes {start}-{stop}/200")(handler)

    with playing(answer) as server:
        mirror = HttpRemoteStore(f"{server.url}/db", threads=threads)
        store = MirroredRemoteStore(
            MemoryRemoteStore(), mirror, prefix="db.d/", mirror_prefix="db.d/"
        )
        parts = [ByteRange("db.d/one", n, n + 3) for n in range(n_parts)]
        assert list(store.get_ranges(parts[:1]))  # now it is known that the server sends parts
        found = list(store.get_ranges(parts))
        store.close()
    assert found == [bytes([n, n + 1, n + 2]) for n in range(n_parts)]
    assert max(most) == threads


def test_a_mirror_that_is_not_there() -> None:
    """A refused connection costs one try and a warning; all comes from the server."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    primary = MemoryRemoteStore()
    primary.put("db.d/1", b"body")
    mirror = HttpRemoteStore(f"http://127.0.0.1:{port}/db", sleep=lambda _: None, retries=1)
    store = MirroredRemoteStore(primary, mirror, prefix="db.d/", mirror_prefix="db.d/")
    with pytest.warns(UserWarning, match=f"http://127.0.0.1:{port} does not give .*no answer"):
        assert list(store.get_ranges([ByteRange("db.d/1", n, n + 1) for n in range(4)])) == [
            b"b",
            b"o",
            b"d",
            b"y",
        ]
    store.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (saying(404), "no such object"),
        (saying(403), "status 403"),
        (saying(503), "status 503"),
        (saying(200, b"<html>not found</html>"), "ends at byte 22"),
        (saying(200, b"x" * 99, Content_Encoding="gzip"), "compression"),
        (saying(206, b"xx", Content_Range="bytes 0-1/2"), "asked for bytes"),
    ],
)
def test_what_servers_in_front_say(answer: object, says: str) -> None:
    """Whatever a proxy makes of a request, the value comes, and the warning names the reason."""
    primary = MemoryRemoteStore()
    primary.put("db.d/1", bytes(range(100)))
    with playing(answer) as server:  # type: ignore[arg-type] # parametrised
        mirror = HttpRemoteStore(f"{server.url}/pub/name", sleep=lambda _: None, retries=1)
        store = MirroredRemoteStore(primary, mirror, prefix="db.d/", mirror_prefix="name.d/")
        with pytest.warns(UserWarning, match=says):
            assert list(store.get_ranges([ByteRange("db.d/1", 50, 60)])) == [bytes(range(50, 60))]
        assert server.asked[0][1] == "/pub/name.d/1"
        store.close()


def test_looking_at_the_mirror(pair: Pair) -> None:
    """`look` reads by the mirror's own name; what is not there is None, silently, a refusal not."""
    assert pair.store.look("public.d/01", stop=4) == b"body"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pair.store.look("public", stop=4) is None
    pair.mirror.add(StoreRule(DENIED))
    with pytest.warns(UserWarning, match="denied"):
        assert pair.store.look("public", stop=4) is None


def test_closing_closes_both(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither side stays open, even if the other fails to close."""
    closed: list[str] = []
    monkeypatch.setattr(pair.primary, "close", lambda: closed.append("primary"))

    def failing() -> None:
        closed.append("mirror")
        raise RemoteUnavailable("the mirror fails to close")

    monkeypatch.setattr(pair.mirror, "close", failing)
    with pytest.raises(RemoteUnavailable):
        pair.store.close()
    assert closed == ["mirror", "primary"]
    assert repr(pair.store).startswith("MirroredRemoteStore(")
