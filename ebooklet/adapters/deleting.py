"""Deleting many objects: in bulk where the server and the names allow it, else one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

from ebooklet.adapters.objects import check_key
from ebooklet.adapters.parallel import ordered_map
from ebooklet.adapters.pools import Pools
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    RemoteUnavailable,
    StoreError,
    UnsupportedOperation,
)

__all__ = ["delete_all", "one_by_one"]

_BULK: Final = 1000  # S3's limit of one request
_XML_CANNOT_SAY: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


@contextmanager
def one_by_one(where: str, keys: Sequence[str]) -> Iterator[None]:
    """Take the refusal of a bulk deletion for a server, as JuiceFS, that wants a checksum with it.

    Raises:
        UnsupportedOperation: in place of a refusal that another kind of request may not meet.
    """
    try:
        yield
    except (AccessDenied, BucketMissingError, RemoteUnavailable):
        raise
    except StoreError as exc:
        raise UnsupportedOperation(
            f"{where} did not take a bulk deletion", op="delete", key=keys[0]
        ) from exc


def delete_all(
    keys: Iterable[str],
    *,
    one: Callable[[str], object],
    bulk: Callable[[Sequence[str]], object],
    pools: Pools,
) -> None:
    """Delete exactly these objects.

    Args:
        keys: checked here, a thousand at a time.
        one: deletes one object.
        bulk: deletes up to a thousand by one request; raises `UnsupportedOperation` where the
            server knows no such request.
        pools: where single deletions run.
    """
    source = iter(keys)
    while batch := [check_key(key, "delete") for key in islice(source, _BULK)]:
        sayable = [key for key in batch if not _XML_CANNOT_SAY.search(key)]
        done: Sequence[str] = ()
        if len(sayable) > 1:
            try:
                bulk(sayable)
                done = sayable
            except UnsupportedOperation:
                pass
        gone = set(done)
        left = [key for key in batch if key not in gone]
        if len(left) == 1:
            one(left[0])
            continue
        for _ in ordered_map(pools["delete"], one, left, ahead=pools.threads):
            pass
