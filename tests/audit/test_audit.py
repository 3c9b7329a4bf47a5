"""What `make audit` answers: an advisory, nothing, or, aloud, that it could not ask."""

from __future__ import annotations

from typing import Any

import pytest

from tests.audit.__main__ import told

FINE: dict[str, Any] = {"name": "fine", "version": "1", "vulns": []}
KNOWN = {"name": "old", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
LEFT_OUT = {"name": "odd", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status", "says"),
    [
        ([FINE], 0, "nothing is known against 1 packages"),
        ([FINE, KNOWN], 1, "old 1: CVE-1, mended in 2"),
        ([KNOWN, LEFT_OUT], 1, "CVE-1"),
        ([FINE, LEFT_OUT], 3, "NOT AUDITED: the advisory service could not be asked about ['odd']"),
        ([LEFT_OUT], 3, "could not be asked about anything"),
        (None, 3, "could not be asked about anything"),
    ],
)
def test_the_answer(
    packages: Any, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what was asked about, all of it, counts as sound."""
    assert told(packages) == status
    assert says in "".join(capsys.readouterr())
