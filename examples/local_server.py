"""Other examples, each run against an S3 server of this machine that is gone afterwards.

python examples/local_server.py SCRIPT...

It sets what they take from the environment, and makes the bucket; a real one of yours does as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ebooklet.testing.servers import start_moto


def main(scripts: Sequence[str]) -> int:
    """Run the scripts in turn; the exit code of the first that fails, or 0."""
    with tempfile.TemporaryDirectory() as folder, start_moto(Path(folder)) as server:
        settings = {
            "S3_ENDPOINT_URL": server.endpoint_url,
            "S3_BUCKET": server.new_bucket(),
            "S3_ACCESS_KEY_ID": server.access_key_id,
            "S3_ACCESS_KEY": server.access_key,
        }
        for script in scripts:
            done = subprocess.run(
                [sys.executable, script], env={**os.environ, **settings}, check=False
            )
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(f"usage: python {sys.argv[0]} SCRIPT...", file=sys.stderr)
        raise SystemExit(2)
    sys.exit(main(sys.argv[1:]))
