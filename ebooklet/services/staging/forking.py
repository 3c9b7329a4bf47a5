"""Forking: what a writer on another machine has to know of an open database."""

from __future__ import annotations

from typing import Any

from ebooklet.core.dictionaries import Dictionaries
from ebooklet.ports.serializer import Serializer, TrainedSerializer
from ebooklet.services.guards import nothing_pushed, to_be_replaced
from ebooklet.services.readiness import check_may_change
from ebooklet.services.staging.writer import ForkedFrom, OpenWriterPlace, StagedWriter
from ebooklet.services.working_copy import WorkingCopy


def fork(
    copy: WorkingCopy, serializer: Serializer, open_place: OpenWriterPlace
) -> StagedWriter[Any]:
    """A writer for other threads, processes or machines, of the committed state of a database.

    Makes no request. What is pending here is no part of it.

    Args:
        copy: the working copy, writable.
        serializer: of the values.
        open_place: opens the database's place where the writer is.

    Raises:
        ReadOnlyError: the handle, or its remote, can only be read.
        OfflineError: the database was opened offline.
        RemoteMissingError: nothing was pushed yet, or there is no remote.
        ReplaceConflict: the next push is to replace the whole database.
        TypeError: it is a connection group.
    """
    check_may_change(copy, "fork")
    if copy.settings.type == "group":
        raise TypeError("a connection group takes its members by add(): it cannot be forked")
    if copy.base is None or copy.elsewhere is not None:
        raise nothing_pushed("fork", copy.location, copy.db_key)
    if copy.pending.replace:
        raise to_be_replaced("fork", copy.db_key)
    if isinstance(serializer, TrainedSerializer):
        # Writers fetch the one dictionary that they need, rather than all of them with each task.
        serializer = serializer.bind(Dictionaries())
    source = ForkedFrom(copy.uuid, copy.settings.value_serializer, copy.base.root)
    return StagedWriter(open_place, serializer, source)
