"""The life of a database in a real bucket, measured: run it with `make demo`.

It starts an S3 server on this machine with a proxy before it that counts, puts the Unicode
Character Database into a database, and takes that through a first push, a small change, a cold
read from elsewhere and edits made with plain Booklet. Every result is compared with `unicodedata`
again; the exit code is 0 only if all of them agree. Nothing is written outside a temporary folder.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import booklet
import ucd
from rich import box
from rich.console import Console
from rich.table import Table

import ebooklet
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import S3Server, start_moto, start_rclone, start_seaweedfs

SERVERS: dict[str, Callable[[Path], AbstractContextManager[S3Server]]] = {
    "SeaweedFS": start_seaweedfs,
    "moto": start_moto,
    "rclone": start_rclone,
}
NOTED = tuple("€ß½Åéあ漢😀ﬁΩ")  # the ten characters that are edited, as somebody might
SAMPLE = 100  # keys


@dataclass
class Measurements:
    """The table of steps, filled as they happen."""

    proxy: CountingProxy
    rows: list[tuple[str, ...]] = field(default_factory=list)

    @contextmanager
    def step(self, what: str, keys: int | None = None) -> Iterator[None]:
        """Count and time what happens inside; nothing is noted of a step that fails."""
        self.proxy.reset()
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        counts = self.proxy.counts()
        self.rows.append(
            (
                what,
                "" if keys is None else f"{keys:,}",
                f"{counts.requests:,}",
                size(counts.bytes_up),
                size(counts.bytes_down),
                f"{seconds:.2f}",
            )
        )

    def table(self, title: str) -> Table:
        """Everything so far; bytes are counted on the wire, heads included."""
        table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=0)
        table.add_column("step", no_wrap=True)
        for name in ("keys", "requests", "up", "down", "s"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table


class WrongResult(Exception):
    """A step did not do what it should."""


def verify(holds: bool, what: str) -> None:
    """Stop the demo unless `holds`."""
    if not holds:
        raise WrongResult(what)


def size(count: int) -> str:
    """Bytes for a reader: 512 B, 12.3 kB, 4.5 MB."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:,.1f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def start_server(
    names: Sequence[str], stack: ExitStack, folder: Path, console: Console
) -> S3Server:
    """The first of the servers that starts on this machine; it stops with the stack."""
    for name in names:
        try:
            return stack.enter_context(SERVERS[name](folder / name))
        except (OSError, RuntimeError) as exc:
            console.print(f"{name} does not start here: {exc}", markup=False, style="yellow")
    raise WrongResult("no S3 server starts on this machine")


def life(connection: ebooklet.S3Connection, folder: Path, measured: Measurements) -> int:
    """Take a database through its life; return the number of its keys.

    Raises:
        WrongResult: something differs from what `unicodedata` says.
    """
    expected = {ucd.key_of(character): ucd.properties(character) for character in ucd.characters()}
    home, elsewhere = folder / "home", folder / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()

    with measured.step("create: probe, lock"):
        db = ebooklet.open(connection, home / "ucd.blt", "c", value_serializer="orjson")
    with db:
        with measured.step("fill", len(expected)):
            db.update(expected)
            db.sync()
        with measured.step("push", len(expected)):
            pushed = db.push("every assigned character")
        verify(bool(pushed) and pushed.n_set == len(expected), "the first push")

        for character in NOTED:
            expected[ucd.key_of(character)]["note"] = f"seen in the wild: {character}"
        edited = [ucd.key_of(character) for character in NOTED]
        with measured.step("change ten keys", len(edited)):
            for key in edited:
                db[key] = expected[key]
        with measured.step("list the changes", len(edited)):
            listed = [change["key"] for change in db.changes().iter_changes()]
        verify(listed == sorted(edited), "the list of changes")
        with measured.step("push", len(edited)):
            pushed = db.push("ten notes")
        verify(bool(pushed) and pushed.n_set == len(edited), "the second push")
        with measured.step("list the changes", 0):
            verify(not list(db.changes()), "nothing is pending after a push")
        with measured.step("close, free the lock"):
            db.close()

    with measured.step("second folder: open, one key", 1):
        reader = ebooklet.open(connection, elsewhere / "ucd.blt")
        found = reader["U+20AC"]
    with reader:
        verify(found == expected["U+20AC"], "one key, read cold")
        sample = list(expected)[:: len(expected) // SAMPLE][:SAMPLE]
        with measured.step("second folder: 100 keys", len(sample)):
            some = dict(reader.get_items(sample))
        verify(some == {key: expected[key] for key in sample}, "a hundred keys, read cold")
        with measured.step("second folder: everything", len(expected)):
            failures = reader.load_items()
            everything = dict(reader.items())
        verify(not failures and everything == expected, "every key, read cold")
        verify(len(reader) == len(expected), "the number of keys")

        added, removed, changed = edit_with_booklet(home / "ucd.blt", expected, measured)
        with measured.step("open, list the changes", 3):
            db = ebooklet.open(connection, home / "ucd.blt", "w")
            kinds = {change["key"]: change["kind"] for change in db.changes()}
        with db:
            verify(
                kinds == {added: "added", removed: "deleted", changed: "modified"},
                "edits made with plain Booklet",
            )
            with measured.step("push", 3):
                pushed = db.push("edited with plain Booklet")
            verify((pushed.n_set, pushed.n_deleted) == (2, 1), "the third push")

        with measured.step("second folder: pull", 3):
            verify(reader.pull().n_changed == 3, "what the pull found")
        with measured.step("second folder: everything", len(expected)):
            everything = dict(reader.items())
        verify(everything == expected, "every key, after the pull")
    return len(expected)


def edit_with_booklet(
    path: Path, expected: dict[str, ucd.Properties], measured: Measurements
) -> tuple[str, str, str]:
    """Add, delete and change a key without EBooklet; return the three keys."""
    added, removed, changed = "U+E000", "U+0000", "U+0041"
    expected[added] = {**ucd.properties("\ue000"), "name": "our own sign"}
    expected[changed]["note"] = "the first letter"
    del expected[removed]
    with measured.step("change the file with Booklet", 3), booklet.open(path, "w") as file:
        file[added] = expected[added]
        file[changed] = expected[changed]
        del file[removed]
    return added, removed, changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the process's exit code."""
    parser = ArgumentParser(description="The life of a database in a real bucket, measured.")
    parser.add_argument("--server", choices=SERVERS, help="by default the first that starts")
    chosen: str | None = parser.parse_args(arguments).server
    console = Console()
    began = time.perf_counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ebooklet-demo-")))
        # What was learnt about this server is of no use once it is gone.
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        try:
            server = start_server([chosen] if chosen else list(SERVERS), stack, folder, console)
            bucket = server.new_bucket()
            proxy = stack.enter_context(CountingProxy(server.endpoint_url))
            measured = Measurements(proxy)
            connection = server.at(proxy.url).connection(bucket, "demo/ucd")
            console.print(f"{server.name} runs at {server.endpoint_url}, bucket {bucket}")
            title = f"Unicode {ucd.VERSION} in {server.name}"
            try:
                keys = life(connection, folder, measured)
            finally:
                if measured.rows:
                    console.print(measured.table(title))
        except (WrongResult, ebooklet.EBookletError) as exc:
            console.print(f"failed: {type(exc).__name__}: {exc}", markup=False, style="bold red")
            return 1
    seconds = time.perf_counter() - began
    console.print(
        f"All {keys:,} keys agree with unicodedata.\n"
        f"The server is stopped and its files are gone; {seconds:.0f} s in all."
    )
    return 0


def _stop(*_: object) -> NoReturn:
    raise SystemExit("stopped before the end")  # the server is stopped on the way out


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, _stop)
    sys.exit(main())
