"""Checking a remote database against its objects, and sweeping those that nothing needs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from ebooklet.adapters.clock import SystemClock
from ebooklet.bootstrap.arguments import Lock
from ebooklet.bootstrap.composing import library_version
from ebooklet.bootstrap.installed import INSTALLED
from ebooklet.bootstrap.locking import check_lock
from ebooklet.bootstrap.places import place_opener
from ebooklet.bootstrap.serializing import serializer_name, serializer_of
from ebooklet.core.encryption import EncryptionLike
from ebooklet.core.numbers import age_ms, check_seconds
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.ports.serializer import Serializer, TrainedSerializer
from ebooklet.services.fsck.examining import DEFAULT_MIN_AGE_MS, examine
from ebooklet.services.fsck.repairing import repair as repair_database
from ebooklet.services.fsck.report import FsckReport
from ebooklet.services.fsck.rescuing import Described
from ebooklet.services.fsck.rescuing import rescue as rescue_database
from ebooklet.services.fsck.sweeping import sweep
from ebooklet.services.place import RemoteLike

_DEFAULT_LOCK_TIMEOUT_S: Final = 60.0
_DEFAULT_MIN_AGE: Final = timedelta(milliseconds=DEFAULT_MIN_AGE_MS)


def fsck(
    remote_conn: RemoteLike,
    delete_orphans: bool = False,
    min_age: timedelta | float = _DEFAULT_MIN_AGE,
    check_objects: bool = False,
    lock_timeout: float = _DEFAULT_LOCK_TIMEOUT_S,
    *,
    repair: bool = False,
    rescue: bool = False,
    value_serializer: Any = None,
    remote_conn_group: bool = False,
    uuid: UUID | str | None = None,
    lock: Lock = "exclusive",
    encryption: EncryptionLike | None = None,
    clock: Clock | None = None,
    registry: Registry | None = None,
) -> FsckReport:
    """Compare a remote database with its objects; repair it, and sweep what nothing needs.

    Without `repair` and `delete_orphans` nothing is changed and no lock is taken; it may run beside
    writers.

    Args:
        remote_conn: the database, named as for `open`; its place has to be one that can be listed,
            which a plain URL is not.
        delete_orphans: delete, under the write lock, the orphans that are at least `min_age` old.
            Nothing is deleted from a database that is damaged or missing.
        min_age: a timedelta, or seconds.
        check_objects: also read every segment in use, and compare it with its checksums and with
            what the index says of it: costs as much as downloading the database.
        lock_timeout: seconds to wait for the lock.
        repair: put right, under the write lock, what the rest of the bucket tells: a copy of the
            head from the other one, and what the newest commit says of its own size and segments.
            Every index node of every retained commit is read for it. Nothing is deleted.
        rescue: where the head is lost or damaged, make a new one that names the newest commit of
            which everything is there. Never in the place of a whole one; nothing is deleted. What
            only the head knew is lost, see `not_known` of the report.
        value_serializer: for `rescue`: the one that the database was created with. Needed only
            if there is something to rescue.
        remote_conn_group: for `rescue`: it is a connection group.
        uuid: for `rescue`: which database is meant, where segments of several lie.
        lock: the write lock, as for `open`, if writers name one; "optimistic" is none.
        encryption: the key of an encrypted database, as for `open`. Without it the report names in
            `not_checked` what could not be looked at, and nothing is deleted.
        clock: time and randomness, for tests and embedding.
        registry: where names and schemes are looked up.

    Raises:
        ValueError: `rescue` of a lost head without `value_serializer`.
        ReadOnlyError: `repair`, `rescue` or `delete_orphans` without credentials.
        LockTimeout: another writer has the lock.
        UnsupportedFormatError: what stands there is no database of ours.
        UnsupportedOperation: the place cannot be listed.
        EBookletError: a request failed.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open("memory://checked", flag="c", value_serializer="json") as db:
        ...     db["a"] = 1
        ...     _ = db.push()
        >>> report = ebooklet.fsck("memory://checked", check_objects=True)
        >>> report.db_object_exists, report.ok, report.orphans
        (True, True, ())
    """
    min_age_ms = age_ms("min_age", min_age)
    check_seconds("lock_timeout", lock_timeout)
    clock, registry = clock or SystemClock(), registry or INSTALLED
    check_lock(lock, registry, held=True)
    described = None
    if rescue:
        described = _described(value_serializer, remote_conn_group, uuid, registry)
    with place_opener(clock, registry, lock, encryption)(remote_conn) as place:
        if described is not None:
            rescued = rescue_database(
                place, described, min_age_ms=min_age_ms, lock_timeout=lock_timeout
            )
            if rescued.repaired or rescued.not_repaired:
                return rescued
        repaired: FsckReport | None = None
        if repair:
            repaired = repair_database(
                place, min_age_ms=min_age_ms, check_objects=check_objects, lock_timeout=lock_timeout
            )
            if not delete_orphans:
                return repaired
        if not delete_orphans:
            return examine(place, min_age_ms=min_age_ms, check_objects=check_objects)
        report = sweep(
            place, min_age_ms=min_age_ms, check_objects=check_objects, lock_timeout=lock_timeout
        )
        if repaired is None:
            return report
        return replace(report, repaired=repaired.repaired, not_repaired=repaired.not_repaired)


def _described(
    value_serializer: Any, group: bool, uuid: UUID | str | None, registry: Registry
) -> Described:
    """What the segments of a database do not tell.

    Raises:
        ValueError: what is no uuid was given for one.
        UnknownNameError, SerializationError: there is none of that name.
    """
    if isinstance(uuid, str):
        try:
            uuid = UUID(uuid)
        except ValueError:
            raise ValueError(f"uuid= takes the uuid of a database, not {uuid!r}") from None
    version = library_version()
    if group:
        value_serializer = "json"
    if value_serializer is None:
        return Described(uuid=uuid, version=version)
    name = serializer_name(value_serializer)
    serializer = serializer_of(value_serializer, name, registry)
    reader = _without_code(serializer)
    return Described(
        value_serializer=name,
        type="group" if group else "database",
        uuid=uuid,
        version=version,
        reads=None if reader is None else reader.loads,
        only_form=reader is not serializer,
    )


def _without_code(serializer: Serializer) -> Serializer | None:
    """What tells, running no code, whether bytes are a value of this serializer; None: nothing."""
    # Here, as an `open` imports this module too, and needs none of them.
    from ebooklet.serializers.pickle import PickleSerializer
    from ebooklet.serializers.pickleform import PICKLE_FORM
    from ebooklet.serializers.zstd.plain import ZstdSerializer

    if isinstance(serializer, PickleSerializer):
        return PICKLE_FORM
    if isinstance(serializer, ZstdSerializer) and isinstance(serializer.inner, PickleSerializer):
        return ZstdSerializer(PICKLE_FORM)
    if serializer.safe and not isinstance(serializer, TrainedSerializer):
        return serializer
    return None
