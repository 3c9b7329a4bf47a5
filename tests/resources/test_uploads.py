"""Uploads in parts that fail: what was sent is dropped, and no part comes after that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from ebooklet.adapters import outgoing
from ebooklet.adapters.multipart import send_in_parts
from ebooklet.adapters.outgoing import Outgoing
from ebooklet.adapters.parallel import ordered_map
from ebooklet.errors import RemoteUnavailable

T = TypeVar("T")


class Bucket:
    """Where an upload stands, and which of its requests fails."""

    def __init__(self, fails_at: int, failure: BaseException, *, lands: bool) -> None:
        self.n_parts: int | None = None  # of the upload under way
        self.stored = False
        self._left = fails_at
        self._failure = failure
        self._lands = lands

    def ask(self, method: str, **_: object) -> Mapping[str, Any]:
        """Answer, or fail with or without having done it."""
        self._left -= 1
        if self._left or self._lands:
            self._do(method)
        if not self._left:
            raise self._failure
        return {"UploadId": "id", "ETag": "etag"}

    def _do(self, method: str) -> None:
        if method == "create_multipart_upload":
            self.n_parts = 0
        elif method == "upload_part":
            assert self.n_parts is not None, "a part came after the upload was dropped"
            self.n_parts += 1
        else:
            self.stored |= method == "complete_multipart_upload"
            self.n_parts = None


@pytest.mark.parametrize("lands", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("failure", [RemoteUnavailable("down"), KeyboardInterrupt()], ids=type)
def test_no_upload_is_left(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException, *, lands: bool
) -> None:
    """Whichever request fails: only one whose creation was not answered is beyond our reach."""
    monkeypatch.setattr(outgoing, "PART_BYTES", 10)
    with ThreadPoolExecutor(4) as pool:
        for fails_at in range(2, 10):
            bucket = Bucket(fails_at, failure, lands=lands)
            with pytest.raises(type(failure)):
                send_in_parts(bucket.ask, "key", Outgoing(bytes(70)), pool, {})
            assert bucket.n_parts is None
            assert bucket.stored == (lands and fails_at == 9)


class _Interrupted(Future[T]):
    """Work that is under way when Ctrl-C comes, and ends when it is awaited."""

    def result(self, timeout: float | None = None) -> T:
        self.set_running_or_notify_cancel()
        raise KeyboardInterrupt

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.set_exception(ValueError("awaited"))
        return super().exception(timeout)


class _Pool(Executor):
    def __init__(self) -> None:
        self.futures: list[_Interrupted[Any]] = []

    def submit(self, fn: Callable[..., T], /, *_: object, **__: object) -> Future[T]:
        self.futures.append(_Interrupted())
        return self.futures[-1]


def test_work_that_ctrl_c_met_is_awaited() -> None:
    """What was being waited for runs on no more than what comes after it."""
    pool = _Pool()
    with pytest.raises(KeyboardInterrupt):
        list(ordered_map(pool, str, range(9), ahead=2))
    assert [future.done() for future in pool.futures] == [True, True]
