"""Databases that a server cannot keep apart, or side by side.

Servers that keep objects in folders cannot hold an object `a` beside `a/b`, and say so in as many
ways as there are servers: 412 to "if absent", 400, 500. Some do harm when they are asked to, so the
place of a new database is looked at before.

Servers that fold names answer for `A` with what was written as `a`; the head says which it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final, NoReturn

from ebooklet.core.head import Head
from ebooklet.core.names import are_namesakes, lock_key, owner_of
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    EBookletError,
    NameClashError,
    ObjectNotFound,
    PreconditionFailed,
    RemoteUnavailable,
    StoreError,
    UnsupportedOperation,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.remote_store import IfAbsent, RemoteStore

_OF_OTHER_CAUSES: Final = (
    AccessDenied,
    BucketMissingError,
    ObjectNotFound,
    RemoteUnavailable,
    UnsupportedOperation,
)
_KEPT: Final = "Nothing was changed, and what is pending stays so"


def check_name(head: Head, db_key: str) -> None:
    """Refuse a head that was found under a name only because the server folds names.

    Raises:
        NameClashError: it is that of another database.
    """
    if head.name is not None and are_namesakes(head.name, db_key):
        raise NameClashError(
            f"the server answers for {db_key!r} with the database {head.name!r}: it does not tell "
            f"these names apart. {_KEPT}. Choose another db_key, or {head.name!r} if that is meant",
            other=head.name,
            op="open",
            key=db_key,
        )


def check_above(store: RemoteStore, db_key: str, clock: Clock) -> None:
    """See that no object stands where a new database needs a folder, before anything is sent there.

    One server deletes that object when it is asked to delete an absent one below it. Costs one
    request for each folder in `db_key`.

    Raises:
        NameClashError: the server keeps objects in folders, and such an object is there.
    """
    if (above := _above(store, db_key, clock)) is not None:
        _raise(db_key, above)


def check_below(store: RemoteStore, db_key: str, clock: Clock) -> None:
    """See that a new head is not to stand where a folder is, on servers that ignore conditions.

    One of them hides the folder from everybody once a head is put there. Costs one list.

    Raises:
        NameClashError: the server keeps objects in folders, and `db_key` is one.
    """
    below = _below(store, db_key)
    if below is not None and not _holds_both(store, db_key, clock):
        _raise(db_key, below)


@contextmanager
def clashes_named(store: RemoteStore, db_key: str, clock: Clock) -> Iterator[None]:
    """Where a creation is refused because of a neighbour's name, say so.

    Costs nothing unless a request fails.

    Raises:
        NameClashError: in place of what the server made of it.
    """
    try:
        yield
    except StoreError as exc:
        # A head that is refused although none is there ends as "unavailable", for this reason.
        refusal = exc.__cause__ if isinstance(exc.__cause__, PreconditionFailed) else exc
        if isinstance(refusal, _OF_OTHER_CAUSES):
            raise
        other = None
        with suppress(EBookletError):  # what failed first is what to say
            other = _in_the_way(store, db_key, clock, refusal)
        if other is None:
            raise
        _raise(db_key, other, exc)


def _in_the_way(store: RemoteStore, db_key: str, clock: Clock, failure: StoreError) -> str | None:
    """The object beside which the server cannot hold this database, if that is why it failed."""
    if not _exists(store, db_key):
        below = _below(store, db_key)
        is_head = failure.key == db_key
        if below is not None or is_head:
            # An absent object that is not to be created even "if absent" is a folder, and one
            # that shows nothing is empty.
            proven = is_head and isinstance(failure, PreconditionFailed)
            if proven or not _holds_both(store, db_key, clock):
                return below or f"{db_key}/"
    return _above(store, db_key, clock)


def _above(store: RemoteStore, db_key: str, clock: Clock) -> str | None:
    """The object beneath which the server cannot hold this database, if there is one."""
    parts = db_key.split("/")
    for length in range(1, len(parts)):
        above = "/".join(parts[:length])
        if _exists(store, above) and not _holds_both(store, above, clock):
            return above
    return None


def _below(store: RemoteStore, key: str) -> str | None:
    return next((meta.key for meta in islice(store.list(f"{key}/"), 1)), None)


def _exists(store: RemoteStore, key: str) -> bool:
    try:
        store.head(key)
    except ObjectNotFound:
        return False
    return True


def _holds_both(store: RemoteStore, key: str, clock: Clock) -> bool:
    """Whether the server holds an object beside a folder of its name: tried, never looked up."""
    above = f"{lock_key(key)}.probe-{clock.token_bytes(8).hex()}"
    below = f"{above}/x"
    try:
        store.put(above, b"probe")
        try:
            _put_once(store, below)
        except StoreError as exc:
            if isinstance(exc, _OF_OTHER_CAUSES):
                raise
            return False
        return _exists(store, above)
    finally:
        with suppress(EBookletError):
            store.delete([below, above])


def _put_once(store: RemoteStore, key: str) -> None:
    """A put that is to fail is best sent as one with a condition, which nobody repeats."""
    if store.capabilities.conditional_put:
        with suppress(UnsupportedOperation):
            store.put(key, b"probe", condition=IfAbsent())
            return
    store.put(key, b"probe")


def _raise(db_key: str, found: str, cause: StoreError | None = None) -> NoReturn:
    other = owner_of(found)
    if found.endswith("/"):
        remedy = (
            f"the folder {found!r} has nothing in it, and is still there: have it removed on the "
            "server, or choose another db_key"
        )
    elif found == other:
        remedy = (
            f"choose a db_key that is not the beginning of another's path, nor the reverse; or copy "
            f"{other!r} to another key and delete it first"
        )
    else:
        remedy = f"choose another db_key, or delete {found!r} first if nobody needs it"
    raise NameClashError(
        f"the server keeps objects in folders, and cannot hold {db_key!r} beside {found!r}. "
        f"{_KEPT}: {remedy}",
        other=other,
        op="create",
        key=db_key,
    ) from cause
