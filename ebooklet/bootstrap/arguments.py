"""What the functions that open a database take: the options in one list, and what is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias, TypedDict, TypeVar

from ebooklet.core.encryption import EncryptionLike
from ebooklet.core.head import DatabaseType
from ebooklet.core.keeping import History, keep_of
from ebooklet.core.numbers import check_seconds, check_whole
from ebooklet.core.spelling import meant
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.lock_service import LockService
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S
from ebooklet.services.packing import UNSET, GroupBytes, check_packing
from ebooklet.services.place import RemoteLike
from ebooklet.services.policy import ConflictPolicy, check_policy
from ebooklet.services.request import FLAGS, Flag, check_branch, check_flag
from ebooklet.services.staying import check_version_goes
from ebooklet.services.versions import VersionLike

PathLike: TypeAlias = str | os.PathLike[str]
Lock: TypeAlias = str | LockService  # "exclusive", "optimistic", or what is registered so
Offline: TypeAlias = bool | Literal["auto"]
_WITHOUT_EFFECT: Final = frozenset(("group_bytes", "push_packers", "num_groups"))
_BY_POSITION: Final = (
    *("remote_conn", "file_path", "flag", "value_serializer", "n_buckets", "buffer_size"),
    "remote_conn_group",
)
F = TypeVar("F", bound=Callable[..., Any])


class OpenOptions(TypedDict, total=False):
    """The keyword-only options of `open`, for type checkers and for those that pass them on."""

    version: VersionLike | None
    branch: str | None
    lock: Lock
    lock_timeout: float
    force_lock: bool
    local: str | LocalStore
    offline: Offline
    allow_pickle: bool | None
    conflict: ConflictPolicy
    encryption: EncryptionLike | None
    history: History | None
    group_bytes: GroupBytes
    push_packers: int
    num_groups: None
    plugins: Sequence[object]
    clock: Clock | None
    registry: Registry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`OpenOptions` with their defaults; `open` says what each is."""

    version: VersionLike | None = None
    branch: str | None = None
    lock: Lock = "exclusive"
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S
    force_lock: bool = False
    local: str | LocalStore = "booklet"
    offline: Offline = False
    allow_pickle: bool | None = None
    conflict: ConflictPolicy = "error"
    encryption: EncryptionLike | None = None
    history: History | None = None
    group_bytes: GroupBytes = UNSET
    push_packers: int = 1
    num_groups: None = None
    plugins: Sequence[object] = ()
    clock: Clock | None = None
    registry: Registry | None = None

    @classmethod
    def of(cls, given: OpenOptions) -> Self:
        """What was given by keyword; a misspelt option is answered with those there are."""
        known = {each.name for each in fields(cls)}
        if unknown := given.keys() - known:
            misspelt = min(unknown)
            names = {*known - _WITHOUT_EFFECT, *_BY_POSITION}
            raise TypeError(f"unexpected keyword argument {misspelt!r}; {meant(misspelt, names)}")
        return cls(**given)

    def check(self, flag: Flag) -> None:
        """Refuse what can be refused before any file, lock or request."""
        check_branch(self.branch, self.version)
        check_policy(self.conflict)
        check_packing(self.group_bytes, self.push_packers, self.num_groups)
        if not any(self.offline is known for known in (False, True, "auto")):
            raise ValueError(f"offline must be False, 'auto' or True, not {self.offline!r}")
        if self.offline is True and flag != "r":
            raise ValueError(
                "offline=True goes with flag 'r' only; to write where the remote may be out of "
                "reach, pass offline='auto'"
            )
        check_version_goes(self.version, flag=flag, offline=self.offline)
        if self.history is not None:
            keep_of(self.history)
        check_seconds("lock_timeout", self.lock_timeout)
        if self.force_lock not in (True, False):  # "no" would count as yes
            raise TypeError(f"force_lock must be True or False, not {self.force_lock!r}")
        if self.allow_pickle not in (True, False, None):
            raise TypeError(f"allow_pickle must be True, False or None, not {self.allow_pickle!r}")
        plugins: object = self.plugins
        if isinstance(plugins, str) or not isinstance(plugins, Iterable):
            raise TypeError(
                "plugins is a list of hook plugins, as in plugins=[Audit()], not "
                f"{type(plugins).__name__}"
            )


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a caller gave to one of the functions that open a database; `open` says what each is."""

    remote_conn: RemoteLike | None
    file_path: PathLike | None
    flag: Flag
    value_serializer: Any
    n_buckets: int
    buffer_size: int
    options: Options
    type: DatabaseType  # where nothing exists yet
    only: bool = False  # nothing else will do

    def check(self) -> None:
        """Refuse what can be refused before any file, lock or request."""
        check_flag(self.flag, FLAGS)
        self.options.check(self.flag)
        if self.file_path in FLAGS:
            raise ValueError(
                f"file_path is {self.file_path!r}: flags come third, as flag={self.file_path!r}; "
                f"a file of that name is './{self.file_path}'"
            )
        if _is_url(self.file_path) and _is_path(self.remote_conn):
            raise ValueError(
                "remote_conn is no URL, and file_path is one: they look swapped; the remote comes "
                "first, then the local file, as in open('s3://bucket/key', 'local.blt')"
            )
        check_whole("n_buckets", self.n_buckets)
        check_whole("buffer_size", self.buffer_size)
        if self.file_path is not None and not Path(self.file_path).parent.is_dir():
            raise FileNotFoundError(
                errno.ENOENT, "the folder of the local file does not exist", str(self.file_path)
            )


def _is_url(given: object) -> bool:
    return isinstance(given, str) and "://" in given


def _is_path(given: object) -> bool:
    return isinstance(given, (str, os.PathLike)) and not _is_url(given)


def spelled_out(function: F) -> F:
    """Let `help` and `inspect.signature` show what stands behind `**options`, with the defaults."""
    plain = signature(function)
    named = [p for p in plain.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    options = [
        Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
        for each in fields(Options)
    ]
    full = plain.replace(parameters=named + options)
    function.__signature__ = full  # type: ignore[attr-defined]  # where `inspect` looks for it
    return function
