"""One database put together of its parts: what the services are asked to open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import ebooklet
from ebooklet.bootstrap.arguments import Arguments
from ebooklet.bootstrap.local import LocalOpener
from ebooklet.bootstrap.locking import locks_for, prober
from ebooklet.bootstrap.remotes import Remote
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.services.opening import Request
from ebooklet.services.working_copy import Settings

_DEFAULT_SERIALIZER: Final = "pickle"


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
    return Request(
        flag=given.flag,
        open_local=LocalOpener(
            registry=registry,
            clock=clock,
            path=None if given.file_path is None else Path(given.file_path),
            given=options.local,
            serializer=explicit or _DEFAULT_SERIALIZER,
            n_buckets=given.n_buckets,
            buffer_size=given.buffer_size,
            lock_timeout=options.lock_timeout,
        ),
        clock=clock,
        remote=remote.store if remote else None,
        db_key=remote.db_key if remote else "local",
        locks=locks_for(options.lock, remote, clock, registry),
        exclusive_locks=locks_for(
            "exclusive" if options.lock == "optimistic" else options.lock, remote, clock, registry
        ),
        probe=None if remote is None else prober(remote, clock),
        mirror=None if remote is None else remote.mirror,
        lock_timeout=options.lock_timeout,
        force_lock=options.force_lock,
        explicit_serializer=None if given.kind == "group" else explicit,
        accept_serializer=accept,
        only=given.kind if given.only else None,
        group_bytes=options.group_bytes,
        falls_back=options.offline == "auto",
        owns_local=isinstance(options.local, str),
        owns_remote=remote is not None and remote.owned,
        settings=Settings(
            kind=given.kind,
            value_serializer=explicit or _DEFAULT_SERIALIZER,
            writable=given.flag != "r",
            offline=options.offline is True,
            exclusive=options.lock != "optimistic",
            conflict=options.conflict,
            author=_author(),
            version=ebooklet.__version__,
        ),
    )


def _author() -> str:
    """Who commits, for the history; nobody is named unless they ask for it."""
    return os.environ.get("EBOOKLET_AUTHOR", "")[:200]
