"""One database put together of its parts: what the services are asked to open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import ebooklet
from ebooklet.adapters.keyrings import keyring_of
from ebooklet.bootstrap.arguments import Arguments
from ebooklet.bootstrap.locking import locks_for, look_ahead, probe_of
from ebooklet.bootstrap.remotes import Remote
from ebooklet.core.keeping import keep_of
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.services.localhalf import DEFAULT_SERIALIZER, BuiltHalf, LocalHalf, OpenHalf
from ebooklet.services.request import Request
from ebooklet.services.settings import Settings


def compose(
    given: Arguments,
    explicit: str | None,
    remote: Remote | None,
    clock: Clock,
    registry: Registry,
    accept: Callable[[str], object],
) -> Request:
    """What the services are asked to open.

    Args:
        given: the caller's arguments, checked.
        explicit: name of the serializer that was asked for; None goes by what is stored.
        remote: the database's place, if it has one.
        clock: time and randomness.
        registry: where names are looked up.
        accept: raises unless values may be read with the serializer of this name.
    """
    options = given.options
    locks = locks_for(options.lock, remote, clock, registry)
    return Request(
        flag=given.flag,
        open_half=_local_half(given, explicit, clock, registry),
        clock=clock,
        remote=remote.store if remote else None,
        db_key=remote.db_key if remote else "local",
        locks=locks,
        look_ahead=look_ahead(locks, remote),
        exclusive_locks=locks_for(
            "exclusive" if options.lock == "optimistic" else options.lock, remote, clock, registry
        ),
        probe=None if remote is None else probe_of(remote, clock),
        mirror=None if remote is None else remote.mirror,
        lock_timeout=options.lock_timeout,
        force_lock=options.force_lock,
        explicit_serializer=None if given.type == "group" else explicit,
        accept_serializer=accept,
        only=given.type if given.only else None,
        keyring=keyring_of(options.encryption),
        version=options.version,
        group_bytes=options.group_bytes,
        falls_back=options.offline == "auto",
        owns_local=isinstance(options.local, str),
        owns_remote=remote is not None and remote.owned,
        settings=Settings(
            type=given.type,
            value_serializer=explicit or DEFAULT_SERIALIZER,
            writable=given.flag != "r",
            offline=options.offline is True,
            exclusive=options.lock != "optimistic",
            conflict=options.conflict,
            keep=None if options.history is None else keep_of(options.history),
            branch=options.branch,
            author=_author(),
            version=library_version(),
        ),
    )


def _local_half(
    given: Arguments, explicit: str | None, clock: Clock, registry: Registry
) -> OpenHalf:
    local = given.options.local
    if not isinstance(local, str):
        return BuiltHalf(local)
    path = None if given.file_path is None else Path(given.file_path)
    return LocalHalf(
        open_store=registry.local_store("memory" if path is None else local),
        path=path,
        clock=clock,
        serializer=explicit or DEFAULT_SERIALIZER,
        n_buckets=given.n_buckets,
        buffer_size=given.buffer_size,
        lock_timeout=given.options.lock_timeout,
    )


def library_version() -> str:
    """What heads say of the library that wrote them."""
    return ebooklet.__version__


def _author() -> str:
    """Who commits, for the history; nobody is named unless they ask for it."""
    return os.environ.get("EBOOKLET_AUTHOR", "")[:200]
