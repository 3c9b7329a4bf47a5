"""The plugin that refuses contracts of which something does not run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ebooklet.testing.plugin import told

pytest_plugins = ["pytester"]

SUITE = '''
"""A contract of two promises, as a package of somebody's ships it; new for each who asks."""
import pytest
from ebooklet.testing import Contract

def new():
    class PairContract(Contract):
        def test_one(self, pair):
            assert pair[0] == 1

        @pytest.mark.parametrize("place", [0, 1])
        def test_whole(self, pair, place):
            if pair[place] is None:
                pytest.skip("this pair has no such half, and says so")
            assert isinstance(pair[place], int)

    return PairContract
'''
HEAD = """
import pytest
import suite

PairContract = suite.new()

class Gives:
    @pytest.fixture
    def pair(self): return (1, 2)

"""
# Of the plugins that are installed, the one that is tried: the others take seconds to begin.
ALONE = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:timeout", "-W", "default")

AT_COLLECTION = {
    "hidden": (
        "class TestPair(Gives, PairContract):\n  def test_one(self): pass",
        ("would hide contract tests ['test_one']", "`deviations`"),
    ),
    "hidden by a mixin": (
        "class Own:\n  def test_one(self): pass\nclass TestPair(Own, Gives, PairContract): pass",
        ("would hide contract tests ['test_one']",),
    ),
    "set to None": (
        "class TestPair(Gives, PairContract): pass\nTestPair.test_one = None",
        ("would hide contract tests ['test_one']", "does not run"),
    ),
    "set to a lambda": (
        "class TestPair(Gives, PairContract):\n  test_one = lambda self: None",
        ("would hide contract tests ['test_one']",),
    ),
    "taken out of the suite": (
        "del PairContract.test_one\nclass TestPair(Gives, PairContract): pass",
        ("would hide contract tests ['test_one']",),
    ),
    "emptied in the suite": (
        "PairContract.test_one = lambda self: None\nclass TestPair(Gives, PairContract): pass",
        ("would hide contract tests ['test_one']",),
    ),
    "a class with a constructor": (
        "class TestPair(Gives, PairContract):\n  def __init__(self): pass",
        ("does not run the contract tests ['test_one', 'test_whole']",),
    ),
    "no tests by its own word": (
        "class TestPair(Gives, PairContract):\n  __test__ = False",
        ("TestPair", "`__test__"),
    ),
    "no tests by its name": (
        "class Pair(Gives, PairContract): pass",
        ("Pair is a contract of which nothing runs", "begin with `Test`"),
    ),
    "a class that is skipped": (
        "@pytest.mark.skip(reason='later')\nclass TestPair(Gives, PairContract): pass",
        ("test_one is a contract test, and a mark says `skip` (later)", "`deviations`"),
    ),
    "a class that may fail": (
        "class TestPair(Gives, PairContract):\n  pytestmark = pytest.mark.xfail",
        ("test_one is a contract test, and a mark says `xfail`",),
    ),
    "a module that is skipped": (
        (
            "pytestmark = pytest.mark.skipif(True, reason='not here')\n"
            "class TestPair(Gives, PairContract): pass"
        ),
        ("a mark says `skipif` (not here)", "do not define the class"),
    ),
    "parametrised to nothing": (
        "@pytest.mark.parametrize('pair', [])\nclass TestPair(PairContract): pass",
        ("] is a contract test, and a mark says `skip`", "empty parameter set"),
    ),
    "a fixture of no values": (
        (
            "class TestPair(PairContract):\n"
            "  @pytest.fixture(params=[])\n"
            "  def pair(self, request): return (1, 2)"
        ),
        ("a mark says `skip`", "empty parameter set"),
    ),
    "no reason": (
        "class TestPair(Gives, PairContract):\n  deviations = {'test_one': '...'}",
        ("give no reason: ['test_one']", "in words"),
    ),
    "a reason of one word": (
        "class TestPair(Gives, PairContract):\n  deviations = {'test_one': 'broken!'}",
        ("give no reason: ['test_one']",),
    ),
    "a deviation that was slipped in": (
        (
            "class TestPair(Gives, PairContract):\n  deviations = {}\n"
            "TestPair.deviations['test_one'] = ''"
        ),
        ("give no reason: ['test_one']",),
    ),
    "a deviation of nothing": (
        "class TestPair(Gives, PairContract):\n  deviations = {'test_oen': 'it has no first'}",
        ("name no test: ['test_oen']",),
    ),
}


def run(pytester: pytest.Pytester, cases: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """What one run of pytest has to complain of in each case, a folder with a test and a conftest."""
    pytester.makepyfile(suite=SUITE)
    pytester.syspathinsert()
    for name, (text, *conftest) in cases.items():
        folder = pytester.mkdir(name.replace(" ", "_"))
        (folder / "test_pair.py").write_text(HEAD + text)
        (folder / "conftest.py").write_text("import pytest\n" + "".join(conftest))
    record = pytester.inline_run(
        *ALONE, "--import-mode=importlib", "--continue-on-collection-errors"
    )
    complaints = dict.fromkeys(cases, "")
    for report in record.getreports("pytest_collectreport pytest_runtest_logreport"):
        if report.failed:
            case, _, test = report.nodeid.partition("/")
            complaints[case.replace("_", " ")] += f"{test}: {report.longreprtext}\n"
    return complaints


def test_a_class_that_leaves_something_out(pytester: pytest.Pytester) -> None:
    """It is refused before anything runs, by an error that names the test and the remedy."""
    complaints = run(pytester, {name: (text,) for name, (text, _) in AT_COLLECTION.items()})
    unsaid = {
        name: (missing, complaints[name])
        for name, (_, words) in AT_COLLECTION.items()
        if (missing := [word for word in words if word not in complaints[name]])
    }
    assert unsaid == {}


PLAIN = "class TestPair(Gives, PairContract): pass"
LATER = {
    "unseen by pytest": (
        PLAIN,
        """
def pytest_pycollect_makeitem(name):
  if name == "test_one": return []
""",
        ("TestPair does not run the contract tests ['test_one']", "let pytest collect them"),
    ),
    "dropped by a hook": (
        PLAIN,
        (
            "def pytest_collection_modifyitems(items):\n"
            "  items[:] = [item for item in items if 'dropped' not in item.nodeid]"
        ),
        ("test_one is a contract test, and was dropped", "pytest_deselected"),
    ),
    "marked by a hook": (
        PLAIN,
        (
            "def pytest_collection_modifyitems(items):\n"
            "  for item in items:\n    if 'marked' in item.nodeid: item.add_marker(pytest.mark.skip(reason='slow'))"
        ),
        ("test_one is a contract test, and a mark says `skip` (slow)", "test_whole[1]"),
    ),
    "skipped by a hook": (
        PLAIN,
        "def pytest_runtest_setup(item): pytest.skip('not today')",
        ("a fixture of test_one skips or fails", "`deviations`"),
    ),
    "skipped by a fixture": (
        (
            "class TestPair(PairContract):\n"
            "  @pytest.fixture\n  def pair(self): pytest.skip('no server')"
        ),
        "",
        ("a fixture of test_one skips or fails", "nothing of the contract was tried"),
    ),
    "failed by a fixture": (
        (
            "class TestPair(PairContract):\n"
            "  deviations = dict.fromkeys(('test_one', 'test_whole'), 'nothing works here')\n"
            "  @pytest.fixture\n  def pair(self): raise OSError"
        ),
        "",
        ("a fixture of test_one skips or fails", "a fixture of test_whole skips"),
    ),
    "skipped by the adapter": (
        (
            "class Pair:\n"
            "  def __getitem__(self, place): pytest.skip('cannot say')\n"
            "class TestPair(PairContract):\n"
            "  @pytest.fixture\n  def pair(self): return Pair()"
        ),
        "",
        ("test_one is a contract test, and something other than it skips it",),
    ),
    "expected to fail by a fixture": (
        (
            "class TestPair(PairContract):\n"
            "  @pytest.fixture\n"
            "  def pair(self, request):\n"
            "    request.applymarker(pytest.mark.xfail(reason='oh'))\n"
            "    return ('1', '2')"
        ),
        "",
        ("test_one was expected to fail by other means",),
    ),
    "a deviation that is none": (
        "class TestPair(Gives, PairContract):\n  deviations = {'test_one': 'the first is missing'}",
        "",
        ("XPASS(strict)", "the first is missing"),
    ),
}


def test_what_shows_later(pytester: pytest.Pytester) -> None:
    """What excuses a contract test behind its class's back fails that test."""
    complaints = run(pytester, {name: case[:2] for name, case in LATER.items()})
    unsaid = {
        name: (missing, complaints[name])
        for name, (*_, words) in LATER.items()
        if (missing := [word for word in words if word not in complaints[name]])
    }
    assert unsaid == {}


def test_what_is_allowed(pytester: pytest.Pytester) -> None:
    """Deviations are listed with their reasons; abilities, own tests and `-k` are the user's."""
    pytester.makepyfile(
        suite=SUITE,
        test_pair=HEAD
        + """
class Half(PairContract):
    deviations = {"test_one": "the first half is lost, as in every half"}
    @pytest.fixture
    def pair(self): return (None, 2)

class TestHalf(Half):
    @pytest.mark.skip
    def test_own(self): pass

class TestPair(Gives, PairContract):
    unreliable = {"test_whole": "a second may be missing"}
""",
    )
    result = pytester.runpytest_inprocess(*ALONE)
    result.assert_outcomes(passed=2, xfailed=1, xpassed=2, skipped=2)
    out = result.stdout.str()
    assert out[out.index("= promises not kept =") :].splitlines()[1:5] == [
        "test_pair.py::TestHalf: 1 promise not kept",
        "  test_one: the first half is lost, as in every half",
        "test_pair.py::TestPair: 1 promise not kept on every run",
        "  test_whole: a second may be missing",
    ]
    chosen = pytester.runpytest_inprocess(*ALONE, "-k", "TestPair and test_one")
    chosen.assert_outcomes(passed=1, deselected=6)
    assert "promises not kept" not in chosen.stdout.str()
    one = pytester.runpytest_inprocess(*ALONE, "test_pair.py::TestPair::test_one")
    one.assert_outcomes(passed=1)


def test_other_processes_tell_the_deviations(pytester: pytest.Pytester) -> None:
    """The list is the same where pytest-xdist runs the tests."""
    pytester.makepyfile(
        suite=SUITE,
        test_pair=HEAD + "class TestPair(Gives, PairContract):\n"
        "  deviations = {'test_whole': 'only ones are counted'}\n"
        "  @pytest.fixture\n  def pair(self): return (1, '2') if 0 else ('1', '2')\n"
        "  unreliable = {'test_one': 'a text is no number'}",
    )
    result = pytester.runpytest_subprocess("-n", "1", *ALONE)
    assert "1 promise not kept, 1 promise not kept on every run" in result.stdout.str()


def test_without_the_plugin(pytester: pytest.Pytester) -> None:
    """Where it was turned off, every contract test fails and says how to turn it on."""
    pytester.makepyfile(suite=SUITE, test_pair=HEAD + PLAIN)
    assert (
        "run pytest with `-p ebooklet`"
        in pytester.runpytest_inprocess(*ALONE, "-p", "no:ebooklet").stdout.str()
    )


def test_the_list_joins_equal_reasons() -> None:
    """Tests that fail for one reason share a line, and parameters count once."""
    found = [("TestA", test, "no such thing", "always") for test in ("test_b", "test_a", "test_a")]
    assert told(found) == ["TestA: 2 promises not kept", "  test_a, test_b: no such thing"]
    assert told([]) == []


def test_it_costs_others_nothing() -> None:
    """Loading it loads neither a suite nor hypothesis nor any client library."""
    code = "import sys, ebooklet.testing.plugin; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.startswith("ebooklet")}
    assert ours == {
        "ebooklet",
        "ebooklet.testing",
        "ebooklet.testing.contract",
        "ebooklet.testing.plugin",
    }
    assert not loaded & {"boto3", "booklet", "cbor2", "hypothesis", "orjson", "zstandard"}


def test_a_program_that_imported_it_is_not_warned(tmp_path: Path) -> None:
    """pytest rewrites packages that have plugins, and warns where one was imported before; not here."""
    (tmp_path / "conftest.py").write_text(
        "import pytest\npytest.register_assert_rewrite('ebooklet')"
    )
    (tmp_path / "test_one.py").write_text("def test_one(): pass")
    code = "import sys, ebooklet, pytest; sys.exit(pytest.main(['-q', '-W', 'error']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
