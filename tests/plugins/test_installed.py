"""Plugins as users have them: packages that pip installed, met by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.plugins.extras import EXTRAS

pytestmark = pytest.mark.xdist_group("installed")  # one process asks, and all look at its answers

LEAN = Path(__file__).parents[1] / "lean"

LAZY = """
import sys
import ebooklet

def strangers():
    return {name for name in sys.modules if name.startswith(("orderly", "rival", "cracked"))}

assert not strangers()
with ebooklet.open(None, flag="c", value_serializer="orjson") as db:
    db["k"] = 1
assert not strangers(), strangers()
with ebooklet.open(None, flag="c", value_serializer="shape") as db:
    db["k"] = b"v"
    assert db["k"] == b"v"
assert strangers() == {"orderly"}, strangers()
"""

ASKED = """
import json
import ebooklet

asked = [
    *({"value_serializer": n} for n in ("twice", "json", "exits", "stops", "absent", "plain")),
    *({"value_serializer": n} for n in ("noisy", "shape", "nothing")),
    *({"local": "flat"}, {"local": "nothing"}, {"lock": "rusty"}, {"lock": "nothing"}),
    *({"remote_conn": url} for url in ("memory://a", "lost://a", "hollow://a", "nothing://a")),
]
answers = []
for options in asked:
    try:
        ebooklet.open(**{"remote_conn": None, "flag": "c", "value_serializer": "cbor", **options}).close()
        answers.append(["", "", ""])
    except ebooklet.Error as error:
        answers.append([type(error).__name__, str(error), repr(error.__cause__)])
print(json.dumps({f"{k} {v}": said for o, said in zip(asked, answers) for k, v in o.items()}))
"""


def run(site: Path, *command: str, prefer: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python with the packages in `site`, and without those for frames where none is listed."""
    lists_extras = command[0] != "-c" or command[1] == WITHOUT_MSGPACK
    paths = [str(site), *([] if lists_extras else [str(LEAN)])]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "COLUMNS": "250",
        "NO_COLOR": "1",
        "EBOOKLET_PREFER": prefer,
    }
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def answers(strangers: Path) -> dict[str, list[str]]:
    """What `open` says to each name: the error's class, message and cause; empty where it opens."""
    done = run(strangers, "-c", ASKED)
    assert done.returncode == 0, done.stderr
    said: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.fixture(scope="module")
def listing(strangers: Path) -> dict[str, Any]:
    """What `ebooklet plugins --json` prints."""
    done = run(strangers, "-m", "ebooklet.cli", "plugins", "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)  # as a whole: what modules print is not in it
    assert "NOISE" in done.stderr
    return answer


def test_asking_for_one_imports_no_other(strangers: Path) -> None:
    """A database of a built-in format imports no plugin; one of a plugin's, that plugin alone.

    Mutation: loading every entry point in `_tabulate` fails this.
    """
    done = run(strangers, "-c", LAZY)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("asked", "claims"),
    [
        ("value_serializer twice", ("orderly 1.0 (orderly:Twice)", "rival-package 2.0 (rival:")),
        ("value_serializer json", (f"ebooklet {ebooklet.__version__} (ebooklet.serial", "rival-p")),
        ("remote_conn memory://a", (f"ebooklet {ebooklet.__version__} (", "rival-package 2.0 (")),
    ],
)
def test_a_clash_names_both_packages(
    asked: str, claims: tuple[str, str], answers: dict[str, list[str]]
) -> None:
    """Whoever asks for a name that two packages claim learns of both, a built-in's name included."""
    kind, message, _ = answers[asked]
    assert kind == "PluginError"
    assert all(claim in message for claim in claims)
    assert "uninstall all but one" in message
    assert "EBOOKLET_PREFER=" in message


PREFERRED = """
import ebooklet

with ebooklet.open("memory://chosen", flag="c", value_serializer="json") as db:
    db["a"] = 1
    assert db.push()
with ebooklet.open(None, flag="c", value_serializer="twice") as db:
    print(db._serializer.source.__module__)
"""


def test_whose_is_meant_can_be_said(strangers: Path) -> None:
    """With `EBOOKLET_PREFER` a built-in works beside its rival, and the command shows the choice."""
    prefer = "ebooklet, Rival.Package"
    done = run(strangers, "-c", PREFERRED, prefer=prefer)
    assert (done.returncode, done.stdout.split()) == (0, ["rival"]), done.stderr
    done = run(strangers, "-m", "ebooklet.cli", "plugins", "--json", prefer=prefer)
    states = {
        (each["name"], each["package"]): each["state"]
        for each in json.loads(done.stdout)["plugins"]
    }
    assert states["json", "ebooklet"] == states["twice", "rival-package"] == "ready"
    assert states["json", "rival-package"] == states["twice", "orderly"] == "passed over"


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        ("value_serializer exits", "SystemExit('out of here')"),
        ("value_serializer stops", "GeneratorExit('no further')"),
        ("value_serializer absent", "ModuleNotFoundError(\"No module named 'no_such_module'\")"),
        ("lock rusty", "SystemExit('out of here')"),
        ("remote_conn lost://a", "AttributeError("),
    ],
)
def test_a_broken_import_is_named_with_its_cause(
    asked: str, cause: str, answers: dict[str, list[str]]
) -> None:
    """What cannot be imported is named with its package, though it tried to end the program.

    Mutation: `except Exception` in `Plugin.load` lets SystemExit end this process.
    """
    kind, message, shown = answers[asked]
    assert kind == "PluginError"
    assert "of the package 'cracked' failed to load" in message
    assert cause in shown


@pytest.mark.parametrize("asked", ["value_serializer plain", "local flat"])
def test_an_object_of_the_wrong_shape_is_named(asked: str, answers: dict[str, list[str]]) -> None:
    """What imports, but is no serializer and no function, is refused by package and object."""
    kind, message, _ = answers[asked]
    assert kind == "PluginError"
    assert "of the package 'cracked', cracked_noisy:PLAIN, is not a" in message


def test_a_scheme_that_opens_nothing_is_named(answers: dict[str, list[str]]) -> None:
    """A function that returns anything but a store and a key is an error of that scheme's plugin."""
    kind, message, _ = answers["remote_conn hollow://a"]
    assert kind == "PluginError"
    assert "'hollow' of the package 'cracked' returned type, not a RemoteStore and" in message


def test_the_others_work(answers: dict[str, list[str]]) -> None:
    """A plugin in order works beside the broken ones, and so does one that prints."""
    assert answers["value_serializer shape"] == answers["value_serializer noisy"] == ["", "", ""]


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("value_serializer nothing", ("cbor", "shape", "twice", "+zstd")),
        ("local nothing", ("booklet", "flat", "memory")),
        ("lock nothing", ("file", "lease", "rusty", "ticket")),
        ("remote_conn nothing://a", ("file", "lost", "s3")),
    ],
)
def test_an_unknown_name_lists_those_there_are(
    asked: str, known: tuple[str, ...], answers: dict[str, list[str]]
) -> None:
    """Each kind of name that nobody has is answered with those there are, of all packages."""
    kind, message, _ = answers[asked]
    assert kind == "UnknownNameError"
    assert "'nothing'" in message
    assert all(name in message.partition("known: ")[2] for name in known)


def test_the_command_lists_every_state(listing: dict[str, Any]) -> None:
    """`ebooklet plugins` says of each name where it comes from and what asking for it would meet."""
    found = {
        (each["group"].rpartition(".")[2], each["name"], each["package"], each["version"]): each
        for each in listing["plugins"]
    }
    states = {key: each["state"] for key, each in found.items()}
    version = ebooklet.__version__
    expected = {
        ("serializers", "shape", "orderly", "1.0"): "ready",
        ("serializers", "noisy", "cracked", "0.3"): "ready",
        ("serializers", "twice", "orderly", "1.0"): "claimed",
        ("serializers", "twice", "rival-package", "2.0"): "claimed",
        ("serializers", "json", "ebooklet", version): "claimed",
        ("remote_stores", "memory", "rival-package", "2.0"): "claimed",
        ("serializers", "orjson", "ebooklet", version): "ready",
        ("serializers", "exits", "cracked", "0.3"): "broken",
        ("serializers", "stops", "cracked", "0.3"): "broken",
        ("serializers", "plain", "cracked", "0.3"): "broken",
        ("local_stores", "flat", "cracked", "0.3"): "broken",
        ("lock_services", "rusty", "cracked", "0.3"): "broken",
    }
    assert {key: states.get(key) for key in expected} == expected
    assert "out of here" in found["serializers", "exits", "cracked", "0.3"]["reason"]
    assert "is not a serializer" in found["serializers", "plain", "cracked", "0.3"]["reason"]


WITHOUT_MSGPACK = """
import sys
sys.modules["msgpack"] = None  # as where the extra is not installed
from ebooklet.cli import main
sys.argv = ["ebooklet", "plugins", *sys.argv[1:]]
main()
"""


def test_the_command_in_words(strangers: Path) -> None:
    """Without `--json` the same stands in tables, and the command succeeds beside broken plugins."""
    done = run(strangers, "-c", WITHOUT_MSGPACK)
    assert done.returncode == 0, done.stderr
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "shape orderly 1.0 ready" in rows
    assert "exits cracked 0.3 broken: SystemExit('out of here')" in rows
    claimed = "claimed by several packages: uninstall all but one, or set EBOOKLET_PREFER"
    assert f"twice rival-package 2.0 {claimed}" in rows
    assert "More with: pip install 'ebooklet[msgpack]' (serializer msgpack)" in rows
    assert "NOISE" not in done.stdout


def test_extras_that_would_add_more(tmp_path: Path) -> None:
    """What lacks its library is listed with the extra that brings it, and no other is offered."""
    done = run(tmp_path, "-c", WITHOUT_MSGPACK, "--json")
    answer = json.loads(done.stdout)
    assert answer["extras"] == [
        {
            "extra": "msgpack",
            "install": "pip install 'ebooklet[msgpack]'",
            "adds": ["serializer msgpack"],
        }
    ]
    [needing] = [each for each in answer["plugins"] if each["state"] == "needs"]
    assert (needing["name"], needing["extra"]) == ("msgpack", "msgpack")
    assert (
        "More with: pip install 'ebooklet[msgpack]'" in run(tmp_path, "-c", WITHOUT_MSGPACK).stdout
    )


def test_no_extra_is_promised_without_code(listing: dict[str, Any]) -> None:
    """Every name that an extra is said to bring is registered by this package, and the extra is one."""
    ours = {(each["group"], each["name"]) for each in listing["plugins"]}
    assert set(EXTRAS) - ours == set()
    assert set(EXTRAS.values()) <= set(metadata("ebooklet").get_all("Provides-Extra") or ())


HOOKED = """
import warnings
import ebooklet

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with ebooklet.open("memory://hooked", flag="c", value_serializer="json") as db:
        db["k"] = 1
        db.push()
for each in caught:
    print("WARNED", each.category.__name__, each.message)
"""


def test_installed_hooks_are_called_and_broken_ones_left_out(heralds: Path) -> None:
    """A package's hook is called for every database; those that cannot be are named, and stop nothing."""
    done = run(heralds, "-c", HOOKED)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "pushed ['k'] 1" in said
    warned = sorted(line for line in said if line.startswith("WARNED RuntimeWarning left out: "))
    assert len(warned) == 3
    assert "'asks' of the package 'mute'" in warned[0]
    assert "bucket" in done.stdout
    assert "'exits' of the package 'mute' failed to load (SystemExit: not today)" in warned[1]
    assert "'spoken' of the package 'mute', mute:HERALD, is not a hook plugin" in warned[2]


def test_the_command_lists_hooks(heralds: Path) -> None:
    """Two packages may name a hook plugin alike; one that could not be called is listed as broken."""
    done = run(heralds, "-m", "ebooklet.cli", "plugins", "--json")
    assert done.returncode == 0, done.stderr
    states = {
        (each["name"], each["package"]): each["state"]
        for each in json.loads(done.stdout)["plugins"]
        if each["group"] == "ebooklet.hooks"
    }
    assert states == {
        ("spoken", "herald"): "ready",
        ("spoken", "mute"): "broken",
        ("exits", "mute"): "broken",
        ("asks", "mute"): "broken",
    }
