"""Packages that pip has really installed, beside this one."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest


def wheel(folder: Path, package: str, entry_points: str, modules: Mapping[str, str]) -> Path:
    """A wheel of a few modules, as a build would make it. `package`: name and version."""
    name, _, version = package.partition(" ")
    spelt = name.replace("-", "_")
    path = folder / f"{spelt}-{version}-py3-none-any.whl"
    info = f"{spelt}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        for module, source in modules.items():
            file.writestr(f"{module}.py", source)
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        file.writestr(f"{info}/WHEEL", tags)
        file.writestr(f"{info}/entry_points.txt", entry_points)
        file.writestr(f"{info}/RECORD", "")
    return path


def pip_install(site: Path, *wheels: Path) -> None:
    """Install wheels into a folder of their own, from files alone."""
    offline = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "install", *offline, "--target", str(site))
    subprocess.run([*pip, *map(str, wheels)], check=True, capture_output=True)


HERALD = """
from ebooklet.plugins.hooks import hookimpl

class Herald:
    @hookimpl
    def after_push(self, db, result):
        print("pushed", sorted(db), result.seq)

HERALD = Herald()
"""

MUTE = """
from ebooklet.plugins.hooks import hookimpl

class Asks:
    @hookimpl
    def after_push(self, bucket):
        print("never said")

HERALD, ASKS = 42, Asks()
"""

SERIALIZER = """
class {name}:
    name = "{word}"
    safe = True
    dumps = loads = staticmethod(bytes)
"""


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where three packages are installed: one in order, one that claims what others have, one broken."""
    folder = tmp_path_factory.mktemp("strangers")
    orderly = wheel(
        folder,
        "orderly 1.0",
        "[ebooklet.serializers]\nshape = orderly:Shape\ntwice = orderly:Twice\n",
        {
            "orderly": SERIALIZER.format(name="Shape", word="shape")
            + SERIALIZER.format(name="Twice", word="twice")
        },
    )
    rival = wheel(
        folder,
        "rival-package 2.0",
        "[ebooklet.serializers]\ntwice = rival:Twice\njson = rival:Json\n"
        "[ebooklet.remote_stores]\nmemory = rival:Twice\n",
        {"rival": SERIALIZER.format(name="Twice", word="twice")},
    )
    cracked = wheel(
        folder,
        "cracked 0.3",
        "[ebooklet.serializers]\nexits = cracked_exits:X\nstops = cracked_stops:X\n"
        "absent = no_such_module:X\nnoisy = cracked_noisy:Noisy\nplain = cracked_noisy:PLAIN\n"
        "[ebooklet.local_stores]\nflat = cracked_noisy:PLAIN\n"
        "[ebooklet.lock_services]\nrusty = cracked_exits:X\n"
        "[ebooklet.remote_stores]\nlost = cracked_noisy:NOT_THERE\nhollow = cracked_noisy:hollow\n",
        {
            "cracked_exits": "import sys\nsys.exit('out of here')\n",
            "cracked_stops": "raise GeneratorExit('no further')\n",
            "cracked_noisy": "print('NOISE')\nPLAIN = 42\nhollow = type\n"
            + SERIALIZER.format(name="Noisy", word="noisy"),
        },
    )
    site = folder / "site"
    pip_install(site, orderly, rival, cracked)
    return site


@pytest.fixture(scope="session")
def heralds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two packages with hook plugins are installed: one in order, one of plugins that are none."""
    folder = tmp_path_factory.mktemp("heralds")
    herald = wheel(
        folder,
        "herald 1.0",
        "[ebooklet.hooks]\nspoken = herald:HERALD\n",
        {"herald": HERALD},
    )
    mute = wheel(
        folder,
        "mute 0.1",
        "[ebooklet.hooks]\nspoken = mute:HERALD\nexits = mute_exits:X\nasks = mute:ASKS\n",
        {"mute_exits": "import sys\nsys.exit('not today')\n", "mute": MUTE},
    )
    site = folder / "site"
    pip_install(site, herald, mute)
    return site
