"""Known vulnerabilities of what is installed: `make audit`. Never silent when nobody could be asked.

Exit status: 0 everything was asked about and nothing is known; 1 something is known; 3 the advisory service
of the package index could not be asked, or knew only some of the packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

_TRIED: Final = "urllib3"
"""A package that every index knows: where it is not known, 150 more requests would tell no more."""
_SECONDS: Final = 20
_NOT_ASKED: Final = 3


def main() -> int:
    """Ask, and tell."""
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder, "one.txt")
        one.write_text(f"{_TRIED}=={version(_TRIED)}\n")
        tried = asked(["--requirement", str(one), "--no-deps", "--disable-pip"])
    found = asked(["--local", "--skip-editable"]) if tried and not left_out(tried) else tried
    return told(found)


def asked(options: Sequence[str]) -> list[dict[str, Any]] | None:
    """What pip-audit says of each package; None where it says nothing."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--vulnerability-service", "pypi", "--timeout", "5", *options]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS * 6
        )
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return packages


def left_out(packages: Sequence[dict[str, Any]]) -> list[str]:
    """Packages that the service did not know, or was not asked about."""
    return [package["name"] for package in packages if "skip_reason" in package]


def told(packages: Sequence[dict[str, Any]] | None) -> int:
    """Print what came of it; the exit status."""
    known = [
        f"{package['name']} {package['version']}: {each['id']}, mended in "
        f"{', '.join(each['fix_versions']) or 'no version yet'}"
        for package in packages or ()
        for each in package.get("vulns", ())
    ]
    for line in known:
        print(f"audit: {line}", file=sys.stderr)
    missing = left_out(packages or ())
    if known:
        return 1
    if packages is None or missing:
        what = "anything" if packages is None or len(missing) == len(packages) else missing
        print(
            f"audit: NOT AUDITED: the advisory service could not be asked about {what}",
            file=sys.stderr,
        )
        return _NOT_ASKED
    print(f"audit: nothing is known against {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
