"""The pytest plugin of EBooklet: whoever subclasses a contract runs all of it.

pytest loads it wherever EBooklet is installed (entry point `ebooklet` of `pytest11`; see
docs/decisions/0030-the-kit-is-a-plugin-that-is-always-there.md), so it imports no suite, no client
library and no hypothesis. To the tests of everybody else it does nothing.

A class is refused while its module is collected, with the tests that it would not run. What can
only be seen later fails the test: marks and fixtures that skip it, an item that somebody dropped.
What `-k`, `-m`, `--deselect` and the like leave out is left out, as the summary says so.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Sequence
from inspect import isclass
from pathlib import Path
from typing import Final

import pytest

from ebooklet.testing.contract import ENFORCED, Contract, excuse, faults_of, promised_by

__all__ = ["told"]

_PROPERTY: Final = "ebooklet.deviation"
_MATRIX: Final = "ebooklet.testing.matrix"
_EXCUSING: Final = ("skip", "skipif", "xfail")  # marks
_ANNOUNCED: Final = pytest.StashKey[set[pytest.Item]]()  # as left out, and counted so
_REFUSAL: Final = pytest.StashKey[str]()
_EXCUSE: Final = pytest.StashKey[pytest.Mark]()  # the only one that an item may carry
_REMEDY: Final = (
    "list it in `deviations` of the class, with the reason in words; where the whole adapter "
    "cannot work, do not define the class"
)

pytest.register_assert_rewrite(
    "ebooklet.testing.clock_contract",
    "ebooklet.testing.durable_local_store_contract",
    "ebooklet.testing.local_store_contract",
    "ebooklet.testing.lock_service_contract",
    "ebooklet.testing.remote_store",
    "ebooklet.testing.remote_store_contract",
    "ebooklet.testing.s3_store_contract",
    "ebooklet.testing.serializer_contract",
)


def pytest_configure(config: pytest.Config) -> None:
    """Say that the run is watched, and make the marker of `S3StoreContract` known."""
    config.stash[ENFORCED] = True
    config.stash[_ANNOUNCED] = set()
    if not config.pluginmanager.has_plugin(_MATRIX):
        config.addinivalue_line(
            "markers", f"matrix(table, row, column, …): a cell of a table; see {_MATRIX}"
        )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse a class that would not run all of its suite, and one that would run none."""
    report = yield
    faults: list[str] = []
    if report.outcome == "passed" and isinstance(collector, pytest.Module):
        faults = _idle(collector, report.result)
    elif report.outcome == "passed" and isinstance(collector, pytest.Class):
        faults = _left_out(collector.obj, report.result)
    if faults:
        report.outcome = "failed"
        report.longrepr = "\n".join(faults)
        report.result = []
    return report


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Note what is said to be left out."""
    for item in items:
        item.config.stash[_ANNOUNCED].add(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Put back what was dropped in silence, and let what was excused by a mark fail."""
    before = [item for item in items if _test_of(item) is not None]
    yield
    kept = set(items)
    for item in before:
        if item not in kept and item not in config.stash[_ANNOUNCED]:
            item.stash[_REFUSAL] = (
                f"{item.name} is a contract test, and was dropped from the run in silence: "
                "a hook that leaves tests out has to call `pytest_deselected` for them"
            )
            items.append(item)
        elif mark := _excusing_mark(item):
            item.stash[_REFUSAL] = _about_mark(item.name, mark)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Fail what is refused before any mark can skip it."""
    if (refusal := item.stash.get(_REFUSAL, None)) is not None:
        pytest.fail(refusal, pytrace=False)
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a contract test be skipped by its own suite only, and fail only where that is listed."""
    report = yield
    if report.skipped and (name := _test_of(item)) is not None:
        fault = ""
        if call.when == "setup":
            fault = (
                f"a fixture of {name} skips or fails, so that nothing of the contract was tried; "
                f"let it give what the suite asks for, or {_REMEDY}"
            )
        elif hasattr(report, "wasxfail"):
            if _EXCUSE not in item.stash:
                fault = f"{name} was expected to fail by other means; {_REMEDY}"
        elif not _skipped_by_suite(item, call):
            fault = f"{name} is a contract test, and something other than it skips it; {_REMEDY}"
        if fault:
            report.outcome = "failed"
            report.longrepr = fault
            if hasattr(report, "wasxfail"):
                del report.wasxfail
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the promises that were not kept, with the reasons."""
    found = [
        tuple(map(str, value))
        for outcome in ("xfailed", "xpassed")
        for report in terminalreporter.stats.get(outcome, ())
        for name, value in getattr(report, "user_properties", ())
        if name == _PROPERTY
    ]
    if lines := told(found):
        terminalreporter.write_sep("=", "promises not kept")
        for line in lines:
            terminalreporter.write_line(line)


def told(found: Iterable[Sequence[str]]) -> list[str]:
    """Lines about deviations, given as (class, test, reason, "always" or "sometimes")."""
    classes: dict[str, dict[tuple[str, str], list[str]]] = {}
    for kind, test, reason, when in sorted(set(map(tuple, found))):
        classes.setdefault(kind, {}).setdefault((when, reason), []).append(test)
    lines = []
    for kind, reasons in classes.items():
        always = sum(len(tests) for (when, _), tests in reasons.items() if when == "always")
        rest = sum(map(len, reasons.values())) - always
        counts = [f"{_promises(always)} not kept"] if always else []
        counts += [f"{_promises(rest)} not kept on every run"] if rest else []
        lines.append(f"{kind}: {', '.join(counts)}")
        lines += [f"  {', '.join(tests)}: {reason}" for (_, reason), tests in reasons.items()]
    return lines


def _promises(count: int) -> str:
    return f"{count} promise{'s' * (count != 1)}"


def _idle(module: pytest.Module, nodes: Iterable[pytest.Item | pytest.Collector]) -> list[str]:
    """Classes of a module that subclass a contract and run nothing, nor does a subclass."""
    running = {node.obj for node in nodes if isinstance(node, pytest.Class)}
    return [
        f"{cls.__name__} is a contract of which nothing runs: let its name begin with `Test`, "
        "and leave `__test__` alone"
        for cls in vars(module.obj).values()
        if isclass(cls)
        and issubclass(cls, Contract)
        and cls.__module__ == module.obj.__name__
        and cls not in running
        and not cls.__subclasses__()
    ]


def _left_out(cls: object, nodes: Iterable[pytest.Item | pytest.Collector]) -> list[str]:
    """What a class does not run of its suite; what it does run is marked with its deviations."""
    if not isclass(cls) or not issubclass(cls, Contract):
        return []
    faults = faults_of(cls)
    promised = promised_by(cls)
    functions = [node for node in nodes if isinstance(node, pytest.Function)]
    running = {node.originalname for node in functions if _is(node, promised)}
    if lost := sorted(set(promised) - running):
        faults.append(
            f"{cls.__name__} does not run the contract tests {lost}: let pytest collect them (no "
            "constructor, no `__test__ = False`), or list those that cannot pass in `deviations`, "
            "each with the reason"
        )
    for node in functions:
        name = node.originalname
        if _is(node, promised) and (mark := _excusing_mark(node)):
            faults.append(_about_mark(node.name, mark))
        if found := excuse(cls, name):
            reason, strict = found
            decorator = pytest.mark.xfail(reason=reason, strict=strict)
            node.add_marker(decorator)
            node.stash[_EXCUSE] = decorator.mark
            parent = node.parent.nodeid if node.parent else cls.__name__
            when = "always" if strict else "sometimes"
            node.user_properties.append((_PROPERTY, [parent, name, reason, when]))
    return faults


def _is(node: pytest.Function, promised: object) -> bool:
    return (
        isinstance(promised, dict)
        and node.originalname in promised
        and node.function is promised[node.originalname]
    )


def _test_of(item: pytest.Item) -> str | None:
    """The name of the contract test that an item is; None where it is none."""
    if not isinstance(item, pytest.Function):
        return None
    cls, name = item.cls, item.originalname
    if cls is None or not issubclass(cls, Contract):
        return None
    return name if name in promised_by(cls) else None


def _excusing_mark(item: pytest.Item) -> pytest.Mark | None:
    allowed = item.stash.get(_EXCUSE, None)
    marks = (mark for mark in item.iter_markers() if mark.name in _EXCUSING)
    return next((mark for mark in marks if mark is not allowed), None)


def _about_mark(name: str, mark: pytest.Mark) -> str:
    reason = mark.kwargs.get("reason") or ", ".join(map(str, mark.args))
    return f"{name} is a contract test, and a mark says `{mark.name}` ({reason}); {_REMEDY}"


def _skipped_by_suite(item: pytest.Item, call: pytest.CallInfo[None]) -> bool:
    """Whether the skip comes from the module of the test: an ability that an adapter has not."""
    home = sys.modules.get(item.function.__module__) if isinstance(item, pytest.Function) else None
    if call.excinfo is None or home is None or home.__file__ is None:
        return False
    places = [Path(entry.path) for entry in call.excinfo.traceback]
    outside = [place for place in places if "_pytest" not in place.parts]
    return bool(outside) and outside[-1] == Path(home.__file__)
