"""`ebooklet fsck`: a remote database against its objects, for people and for cron."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ebooklet.cli.wording import in_options
from ebooklet.errors import (
    EBookletError,
    InvalidKeyError,
    InvalidURLError,
    LockTimeout,
    UnknownNameError,
)

if TYPE_CHECKING:  # imported by the command itself: `--help` needs none of it
    from ebooklet.services.fsck.report import FsckReport

__all__ = ["Exit", "fsck"]

# Of parameters of `ebooklet.fsck`, and of what is called otherwise here.
_OPTIONS: Final = {
    "check_objects": "--check-objects",
    "delete_orphans": "--delete-orphans",
    "encryption": "--key-file",
    "lock": "--lock",
    "lock_timeout": "--lock-timeout",
    "min_age": "--min-age",
    "remote_conn_group": "--group",
    "repair": "--repair",
    "rescue": "--rescue",
    "uuid": "--uuid",
    "value_serializer": "--value-serializer",
}


class Exit(IntEnum):
    """What the exit status says. 2 is a mistake in the command, as everywhere."""

    SOUND = 0  # as far as it was looked
    PROBLEMS = 1  # some are left
    REPAIRED = 3  # there were some, and none is left
    UNKNOWN = 4  # it could not be looked at, or there is no database


_SOUND: Final = {
    "lengths": (
        "sound, as far as lengths tell: index and values were not read (--check-objects reads them)"
    ),
    "index": "sound, as far as the index tells: values were not read (--check-objects reads them)",
    "bytes": "sound",
}


# As the errors end that others meet as well.
_RUN_FSCK: Final = re.compile(r"; run fsck\b(?! on\b)")


def fsck(
    url: Annotated[str, typer.Argument(help="The database, such as s3://bucket/key.")],
    check_objects: Annotated[
        bool, typer.Option("--check-objects", help="Also read every segment, byte by byte.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what the rest of the bucket tells.")
    ] = False,
    rescue: Annotated[
        bool, typer.Option("--rescue", help="Make a new head where there is no whole one.")
    ] = False,
    value_serializer: Annotated[
        str | None, typer.Option(help="For --rescue: the one that the database was created with.")
    ] = None,
    group: Annotated[
        bool, typer.Option("--group", help="For --rescue: it is a connection group.")
    ] = False,
    uuid: Annotated[
        str | None, typer.Option(help="For --rescue: which database, where several lie there.")
    ] = None,
    delete_orphans: Annotated[
        bool, typer.Option("--delete-orphans", help="Delete what nothing needs.")
    ] = False,
    min_age: Annotated[
        float, typer.Option(help="Seconds that an orphan must be old to be deleted.")
    ] = 24 * 3600.0,
    lock_timeout: Annotated[float, typer.Option(help="Seconds to wait for the write lock.")] = 60.0,
    lock: Annotated[str, typer.Option(help="The write lock, if writers name one.")] = "exclusive",
    key_file: Annotated[
        Path | None, typer.Option(help="Keys of an encrypted database, as KeyFile makes them.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for programs.")
    ] = False,
) -> None:
    """Compare a database with its objects; repair it; delete what nothing needs.

    Without an option that says so, nothing is changed and no lock is taken.

    Exit status: 0 sound, as far as it was looked. 1 problems were found, and some are left. 2 a mistake in the command.
    3 problems were found, and none is left. 4 it could not be looked at, or there is no database.
    """
    from ebooklet.adapters.encryption.keyfile import KeyFile
    from ebooklet.bootstrap.checking import fsck as check

    try:
        report = check(
            url,
            delete_orphans=delete_orphans,
            min_age=min_age,
            check_objects=check_objects,
            lock_timeout=lock_timeout,
            repair=repair,
            rescue=rescue,
            value_serializer=value_serializer,
            remote_conn_group=group,
            uuid=uuid,
            lock=lock,
            encryption=None if key_file is None else KeyFile(key_file),
        )
    except (InvalidKeyError, InvalidURLError, UnknownNameError) as exc:
        raise typer.BadParameter(in_options(str(exc), _OPTIONS)) from exc
    except EBookletError as exc:
        if as_json:
            answer = {"ok": False, "exit": int(Exit.UNKNOWN), "error": _said(exc)}
            typer.echo(json.dumps({**answer, "kind": type(exc).__name__}, indent=2))
        else:
            typer.echo(f"ebooklet: {_said(exc)}", err=True)
        raise typer.Exit(Exit.UNKNOWN) from exc
    except (ValueError, TypeError) as exc:
        raise typer.BadParameter(in_options(str(exc), _OPTIONS)) from exc
    status = exit_of(report)
    if as_json:
        sound = report.ok and report.db_object_exists
        typer.echo(json.dumps({**asdict(report), "ok": sound, "exit": int(status)}, indent=2))
    else:
        for line in _told(report):
            typer.echo(_here(line))
    raise typer.Exit(status)


def exit_of(report: FsckReport) -> Exit:
    """The exit status that a report comes to."""
    if not report.db_object_exists:
        return Exit.PROBLEMS if report.orphans else Exit.UNKNOWN
    if not report.ok:
        return Exit.PROBLEMS
    return Exit.REPAIRED if report.repaired else Exit.SOUND


def _said(error: EBookletError) -> str:
    """An error, with the ways out that this command has."""
    if isinstance(error, LockTimeout) and error.holder:
        return (
            f"the database is locked by {error.holder}. Close it there, or raise --lock-timeout: the "
            "lock of a process that died is free within two minutes"
        )
    return _here(str(error))


def _here(text: str) -> str:
    """What the library says, in options of this command, and without sending anybody to it."""
    return in_options(_RUN_FSCK.sub("", text), _OPTIONS)


def _told(report: FsckReport) -> Iterator[str]:
    """The report in lines: what it is about, what is wrong, what was done, and the sum of it."""
    yield report.location
    if report.seq:
        yield (
            f"  seq {report.seq}, {report.n_commits} commits retained in "
            f"{report.n_segments} segments"
        )
    for name in report.claimed_but_missing:
        yield f"missing: {name}"
    for name, what in report.damaged.items():
        yield f"damaged: {name}: {what}"
    for what in report.unreadable:
        yield f"unreadable: {what}"
    for what in report.counters:
        yield f"wrong: {what}"
    for key in report.lost:
        yield f"lost value: {key!r}"
    for lost in report.lost_ranges:
        start = "from the first one" if lost.after is None else f"after {lost.after!r}"
        end = "the last one" if lost.last is None else repr(lost.last)
        yield f"lost keys: {lost.count}, {start} to {end}"
    for name in report.behind:
        yield f"behind: {name} is older than the other copy of the head"
    orphan = "orphan" if report.db_object_exists else "without a head"
    for name in report.orphans:
        yield f"{orphan}: {name}" + (" (young)" if name in report.skipped_young else "")
    for name in report.strangers:
        yield f"stranger: {name}"
    for what in report.not_checked:
        yield f"not checked: {what}"
    for what in report.repaired:
        yield f"repaired: {what}"
    for name in report.swept:
        yield f"deleted: {name}"
    for what in report.not_known:
        yield f"not known: {what}"
    for what, why in (("repaired", report.not_repaired), ("deleted", report.not_swept)):
        if why:
            yield f"not {what}: {why}"
    yield _sum(report)


def _sum(report: FsckReport) -> str:
    """The last line."""
    if not report.db_object_exists:
        if not report.orphans:
            return "there is no database here"
        hint = "" if report.not_repaired else ": if nobody deleted it, try --rescue"
        return f"there is no head, but segments are left{hint}"
    if report.ok:
        return _SOUND[report.depth]
    if report.not_repaired:
        return "not sound"
    if not report.seq:
        return "not sound (--rescue makes a new head of what the segments tell)"
    option = "--repair --check-objects" if report.depth == "bytes" else "--repair"
    return f"not sound ({option} puts right what the rest of the bucket tells)"
