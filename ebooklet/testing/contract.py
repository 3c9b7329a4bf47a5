"""The base of all contract suites: what cannot be kept is listed with its reason, never hidden."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

import pytest

__all__ = ["ENFORCED", "Contract", "excuse", "faults_of", "promised_by"]

ENFORCED: Final = pytest.StashKey[bool]()
"""In the stash of a run's configuration where `ebooklet.testing.plugin` watches over it."""

_TEST: Final = "test_"
_WORDS_OF_A_REASON: Final = 2  # one word, such as "broken", says no more than the list itself
_WORD: Final = re.compile(r"[^\W\d_]{2,}")

# As the classes were written: what is taken out of one later is missed, not forgotten.
_written: WeakKeyDictionary[type, Mapping[str, object]] = WeakKeyDictionary()


class Contract:
    """A class of tests that every adapter of one port passes.

    A suite subclasses this and defines the tests; an adapter's tests subclass the suite and give
    it the fixtures it asks for. Tests may be added, never replaced. The plugin of this package
    (`ebooklet.testing.plugin`, which pytest loads by itself) sees to it that all of them run.

    Attributes:
        deviations: test name to the reason why this adapter cannot pass it. Each becomes a strict
            xfail: it must fail, so that the list cannot outlive the reason.
        unreliable: the same for promises that are kept on some runs and broken on others, as
            races are; a test listed here may pass.

    Raises:
        TypeError: at class creation, when a test would hide another of the same name, or a
            deviation names no test or gives no reason.
    """

    deviations: ClassVar[Mapping[str, str]] = {}
    unreliable: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _written[cls] = _tests_in(cls)
        if faults := faults_of(cls):
            raise TypeError("; ".join(faults))

    @pytest.fixture(autouse=True)
    def _watched(self, request: pytest.FixtureRequest) -> None:
        """Refuse to run where nobody would see what is left out."""
        if not request.config.stash.get(ENFORCED, False):
            pytest.fail(
                "a contract counts only under the pytest plugin of ebooklet, which is off: "
                "run pytest with `-p ebooklet`",
                pytrace=False,
            )


def promised_by(cls: type[Contract]) -> Mapping[str, object]:
    """The tests that a class inherits, by name, as their suites were written."""
    return {
        name: test
        for base in reversed(cls.__mro__[1:])
        if issubclass(base, Contract)
        for name, test in _written.get(base, {}).items()
    }


def excuse(cls: type[Contract], test: str) -> tuple[str, bool] | None:
    """Why a class may fail a test, and whether it has to; None where it may not."""
    for reasons, strict in ((cls.deviations, True), (cls.unreliable, False)):
        if (reason := reasons.get(test)) is not None:
            return reason, strict
    return None


def faults_of(cls: type[Contract]) -> list[str]:
    """What a class does to its suite that none may do, each with what to do instead."""
    faults = []
    tests = {
        (name, test)
        for base in cls.__mro__
        for name, test in (_written.get(base) or _tests_in(base)).items()
    }
    if hidden := sorted(
        {name for name, test in tests if inspect.getattr_static(cls, name, None) is not test}
    ):
        faults.append(
            f"{cls.__name__} would hide contract tests {hidden}: rename its own, or list those "
            "that cannot pass in `deviations`, each with the reason"
        )
    for table in ("deviations", "unreliable"):
        reasons: Mapping[str, str] = getattr(cls, table)
        if unknown := sorted(set(reasons) - {name for name, _ in tests}):
            faults.append(f"{cls.__name__}.{table} name no test: {unknown}; correct the names")
        if silent := sorted(name for name, reason in reasons.items() if not _is_reason(reason)):
            faults.append(
                f"{cls.__name__}.{table} give no reason: {silent}; say in words what the "
                "technology does instead"
            )
    return faults


def _tests_in(cls: type) -> Mapping[str, object]:
    return {name: value for name, value in vars(cls).items() if name.startswith(_TEST)}


def _is_reason(text: object) -> bool:
    return isinstance(text, str) and len(_WORD.findall(text)) >= _WORDS_OF_A_REASON
