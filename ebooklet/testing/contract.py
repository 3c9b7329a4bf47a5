"""The base of all contract suites: what cannot be kept is listed with its reason, never hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

__all__ = ["Contract"]


class Contract:
    """A class of tests that every adapter of one port passes.

    A suite subclasses this and defines the tests; an adapter's tests subclass the suite and give
    it the fixtures it asks for. Tests may be added, never replaced.

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
        seen: set[str] = set()
        hidden: set[str] = set()
        for base in cls.__mro__:
            tests = {name for name in vars(base) if name.startswith("test_")}
            hidden |= tests & seen
            seen |= tests
        if hidden:
            raise TypeError(
                f"{cls.__name__} would hide contract tests {sorted(hidden)}; "
                "rename them, or list them in `deviations`"
            )
        for table in ("deviations", "unreliable"):
            reasons: Mapping[str, str] = getattr(cls, table)
            if unknown := set(reasons) - seen:
                raise TypeError(f"{cls.__name__}.{table} name no test: {sorted(unknown)}")
            if silent := sorted(name for name, reason in reasons.items() if not reason.strip()):
                raise TypeError(f"{cls.__name__}.{table} give no reason: {silent}")

    @pytest.fixture(autouse=True)
    def _expect_deviations(self, request: pytest.FixtureRequest) -> None:
        """Mark the tests listed as deviations before they run."""
        node = request.node
        if isinstance(node, pytest.Function):
            for reasons, strict in ((self.deviations, True), (self.unreliable, False)):
                if (reason := reasons.get(node.originalname)) is not None:
                    node.add_marker(pytest.mark.xfail(reason=reason, strict=strict))
