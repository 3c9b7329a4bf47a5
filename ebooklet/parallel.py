"""A working copy at work in many places: functions over its items, and writers that travel."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor
from typing import Any, Generic, Literal, NoReturn, TypeAlias, TypeVar, overload

from ebooklet.core.encryption import EncryptionLike
from ebooklet.mapping import MappedCopy
from ebooklet.ports.serializer import Serializer
from ebooklet.services.attempts import PushResult
from ebooklet.services.merging import MergeResult, merge_branch
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.staging.commit import commit_staged
from ebooklet.services.staging.forking import fork
from ebooklet.services.staging.result import Staged
from ebooklet.services.staging.writer import OpenWriterPlace, StagedWriter
from ebooklet.services.workers import map_items
from ebooklet.services.working_copy import WorkingCopy

V = TypeVar("V")
Result = TypeVar("Result")

WriterPlaces: TypeAlias = Callable[[EncryptionLike | None], OpenWriterPlace]
"""How writers find the place of a database, given where they find its keys."""


class ParallelCopy(MappedCopy[V], Generic[V]):
    """A working copy that work is shared out from, and whose results come back to it.

    Args:
        copy: the working copy.
        serializer: of the values.
        writer_places: how forked writers find the database.
    """

    def __init__(
        self, copy: WorkingCopy, serializer: Serializer, writer_places: WriterPlaces
    ) -> None:
        super().__init__(copy, serializer)
        self._writer_places = writer_places

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an open database cannot be pickled or copied: fork() gives a writer that other "
            "processes and machines can be sent, and whoever reads there opens the database anew"
        )

    @overload
    def map(
        self,
        func: Callable[[str, V], Result | None],
        keys: Iterable[str] | None = None,
        n_workers: int | None = None,
        *,
        executor: Executor | None = None,
        write: Literal[False] = False,
    ) -> Generator[Result, None, None]: ...
    @overload
    def map(
        self,
        func: Callable[[str, V], tuple[str, V] | None],
        keys: Iterable[str] | None = None,
        n_workers: int | None = None,
        *,
        executor: Executor | None = None,
        write: Literal[True],
    ) -> Generator[Staged, None, None]: ...
    def map(
        self,
        func: Callable[[str, V], Any],
        keys: Iterable[str] | None = None,
        n_workers: int | None = None,
        *,
        executor: Executor | None = None,
        write: bool = False,
    ) -> Generator[Any, None, None]:
        """Run `func(key, value)` for many items at once, and yield its results as they finish.

        By default in new processes, so a script that calls it needs `if __name__ == "__main__":`
        around what it does, and `func`, like a serializer class of your own, must be defined at
        the top of a module. Writing to the database meanwhile is allowed; what is written is not
        seen by an iteration that has begun.

        Args:
            func: returns whatever is to be yielded, by custom a pair (key, value); None is
                skipped.
            keys: which; unknown ones are skipped. None: all.
            n_workers: number of processes, by default as many as processors; or of an executor's
                workers to be kept busy.
            executor: runs the function instead: threads, processes, or other machines. It stays
                open.
            write: the results are pairs (key, value) that the workers write straight into the
                bucket, by `fork()`. What is yielded then are staged results, few and small, which
                `merge(*…)` commits in one step.

        Raises:
            TypeError: for a function that cannot be pickled, where processes of this machine run
                it; or with `write`, for a result that is no pair of a key and a value.
            BrokenExecutor: a worker died. A note on it names keys that were under way; nothing was
                changed, so that it is safe to run it again.
            BaseException: what `func` raised; what was not begun by then is not run.

        Example:
            >>> import ebooklet
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> with ebooklet.open("memory://squares", flag="c", value_serializer="json") as db:
            ...     db.update({"a": 2, "b": 3})
            ...     with ThreadPoolExecutor() as pool:
            ...         sorted(db.map(lambda key, value: (key, value**2), executor=pool))
            [('a', 4), ('b', 9)]
        """
        writer = self.fork() if write else None
        return map_items(self._copy, self._serializer, func, keys, n_workers, executor, writer)

    def fork(self, encryption: EncryptionLike | None = None) -> StagedWriter[V]:
        """A small writer to be pickled and sent to other processes and machines.

        There, `with writer:` and `writer[key] = value` lay values straight into the bucket, where
        nobody sees them until this or another handle commits them by `merge(writer.result)`. What
        is pending here is no part of it.

        Args:
            encryption: where writers of an encrypted database find its keys, as for `open`; None
                for where this handle found them. Keys themselves never travel.

        Raises:
            RemoteMissingError: nothing was pushed yet: `push()` first, and be it empty.
            ReadOnlyError: the handle, or its remote, can only be read.
            ReplaceConflict: the next push is to replace the whole database.
            TypeError: it is a connection group.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://forked", flag="c", value_serializer="json") as db:
            ...     _ = db.push()
            ...     writer = db.fork()
            ...     with writer:
            ...         writer["a"] = 1
            ...     _ = db.merge(writer.result)
            ...     db["a"]
            1
        """
        return fork(self._copy, self._serializer, self._writer_places(encryption))

    @overload
    def merge(
        self,
        branch: str,
        /,
        *,
        conflict: ConflictPolicy | None = None,
        message: str | None = None,
    ) -> MergeResult: ...
    @overload
    def merge(
        self,
        *sources: Staged,
        conflict: ConflictPolicy | None = None,
        message: str | None = None,
    ) -> PushResult: ...
    def merge(
        self,
        *sources: Staged | str,
        conflict: ConflictPolicy | None = None,
        message: str | None = None,
    ) -> PushResult:
        """Take in another branch, or what forked writers have staged, in one atomic step.

        `merge("trial")` merges the branch of that name into the one that this handle is on: three
        ways, by what each has changed since both parted, at a cost that follows the changes. If
        nothing was committed here since, this branch moves to the other's tip, and the result says
        `fast_forward`; else the commit has both tips as parents. Nothing may be pending. For a
        conflict, "ours" is what this branch has, "theirs" what the other one has.

        `merge(*results)` commits what writers made by `fork` have staged. Of results that set or
        delete the same key, as those of a task that ran twice, the last-named decides. What is
        pending stays so. The same results, merged again in whatever order, change nothing: after a
        crash of this program it is safe to merge once more.

        Args:
            sources: the name of one branch, or results of staged writers.
            conflict: what to do with keys that both branches have changed, or that others have
                changed since the writer was forked: "error", "ours" (of results: what was staged),
                "theirs" (what is there); or a function, as for `push`; None uses what `open` was
                given.
            message: the commit's message, at most 4 KiB of UTF-8.

        Returns:
            As of a push. False if there was nothing to do; `seq` and `commit` then name the commit
            by which the same results were merged before, if they were, else the one that stands.

        Raises:
            ConflictError: keys changed on both sides; nothing was committed.
            UnknownVersionError: there is no such branch; a tag, or another version, is merged by
                a branch that begins there.
            PendingChangesError: a branch is to be merged, and something is pending.
            TypeError: a branch is given together with something else, or what is neither.
            StagedExpired: what was staged lay there so long that it was collected; it says which
                task to run again. Nothing was committed.
            UUIDMismatchError: something was staged for another database.
            EBookletError: see `push`. The results can be merged again.
        """
        for each in sources:
            if not isinstance(each, str | Staged):
                raise TypeError(
                    "merge() takes the name of a branch, or results of staged writers, each by "
                    f"itself as in merge(*results) or merge(writer.result), not {type(each).__name__}"
                )
        names = [each for each in sources if isinstance(each, str)]
        if names and len(sources) > 1:
            raise TypeError("merge() takes one branch at a time, or results of staged writers")
        if names:
            return merge_branch(self._copy, names[0], message=message or "", conflict=conflict)
        staged = [each for each in sources if isinstance(each, Staged)]
        return commit_staged(self._copy, staged, message=message or "", conflict=conflict)
