"""Runs the steps of one peer, in the peer's environment, as the parent names them.

    python -m benchmarks.peers.runner MODULE KIND

On standard input: a `Place`, then steps, each as a line of JSON. Answers come as lines of JSON:
the seconds of a step and of its parts, that the peer has no such step, or why it failed.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from typing import Any

from benchmarks.peers.peer import Data, Local, NotOffered, Place, Reader, Remote

Parts = Mapping[str, float] | None


class Clock:
    """Seconds of what is measured of a step; checks of what came back are not."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, work: Callable[[], Any]) -> Any:
        """Do it."""
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds += time.perf_counter() - began


def expect(found: object, expected: object, what: str) -> None:
    """A peer that reads what was not written is no peer."""
    if found != expected:
        raise AssertionError(f"{what} came back as something else")


class RemoteSteps:
    """The life of data in a bucket."""

    def __init__(self, peer: Remote, data: Data) -> None:
        self._peer = peer
        self._data = data
        self._known: Reader | None = None  # one that has the keys at hand

    def run(self, step: Mapping[str, Any], clock: Clock) -> Parts:
        """One step by its name; `n` is of how many keys."""
        name, n = step["step"], step.get("n", 0)
        peer, data = self._peer, self._data
        if n > len(data.keys):
            raise NotOffered
        parts: Parts = None
        if name == "prepare":
            clock(peer.prepare)
        elif name == "write all":
            parts = clock(lambda: peer.write_all(data.values))
        elif name == "push":
            changed = data.changed(n)
            parts = clock(lambda: peer.push(changed))
            data.values.update(changed)
        elif name == "changes":
            changed = data.changed(n)
            expect(clock(lambda: peer.changes(changed)), n, "the number of changes")
            data.values.update(changed)
        elif name == "resume":
            peer.resume()
        elif name == "pause":
            peer.pause()
            peer.settle()
        elif name == "settle":
            peer.settle()
        elif name == "change":
            changed = data.changed(n)
            parts = clock(lambda: peer.change(changed))
            data.values.update(changed)
        elif name == "get":
            near = step["near"]
            keys = data.neighbouring(n) if near else data.scattered(n)
            with closing(clock(peer.reader)) as reader:
                found = clock(lambda: reader.get(keys))
                expect(found, {key: data.values[key] for key in keys}, f"{n} values")
        elif name == "list":
            with closing(clock(peer.reader)) as reader:
                expect(sorted(clock(reader.keys)), data.keys, "the keys")
        elif name == "know":
            reader = peer.reader()
            reader.know_keys()
            self._known = reader
        elif name == "list again":
            if (known := self._known) is None:
                raise NotOffered
            with closing(known):
                expect(clock(lambda: len(known.keys())), len(data.keys), "the number of keys")
        elif name == "read all":
            with closing(clock(peer.reader)) as reader:
                expect(clock(reader.all), data.values, "the values")
        elif name == "load":
            with closing(clock(lambda: peer.reader(keep=True))) as reader:
                clock(reader.load)
        else:
            raise ValueError(f"no step is named {name!r}")
        return parts


class LocalSteps:
    """Work on one file."""

    def __init__(self, peer: Local, data: Data) -> None:
        self._peer = peer
        self._data = data
        self._shuffled = data.scattered(len(data.keys))
        self._value = data.values[data.keys[0]]

    def run(self, step: Mapping[str, Any], clock: Clock) -> Parts:
        """One step by its name; `from` and `to` are of which keys."""
        name, peer, data = step["step"], self._peer, self._data
        part = slice(step.get("from"), step.get("to"))
        if name == "open":
            clock(peer.open)
        elif name == "bulk":
            peer.close()
            peer.open()
            clock(lambda: peer.bulk(data.values))
        elif name == "set":
            keys = data.keys[part]
            clock(lambda: peer.set(keys, self._value))
        elif name == "get":
            keys = self._shuffled[part]
            clock(lambda: peer.get(keys))
        elif name == "keys":
            expect(clock(peer.keys), len(data.keys), "the number of keys")
        elif name == "all":
            expect(clock(peer.all), len(data.keys), "the number of values")
        else:
            raise ValueError(f"no step is named {name!r}")
        return None


def failure(error: Exception) -> dict[str, object]:
    """What is told of it; the whole goes to standard error."""
    traceback.print_exception(error)
    told = str(error).strip().splitlines() or [""]
    return {"failed": f"{type(error).__name__}: {told[0]}"}


def answers(module: str, kind: str, lines: Iterator[str]) -> Iterator[dict[str, object]]:
    """What comes of the beginning and of each step; after a failure there are no more."""
    try:
        place = Place(**json.loads(next(lines)))
        data = Data(place.n_keys, place.value_bytes)
        peer = getattr(import_module(f"benchmarks.peers.{module}"), kind)(place)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in the results
        yield failure(error)
        return
    steps = LocalSteps(peer, data) if kind == "Local" else RemoteSteps(peer, data)
    yield {"ready": True}
    for line in lines:
        clock = Clock()
        try:
            parts = steps.run(json.loads(line), clock)
        except NotOffered:
            yield {"absent": True}
        except Exception as error:  # noqa: BLE001 - likewise
            yield failure(error)
            return
        else:
            yield {"seconds": clock.seconds, "parts": dict(parts or {})}
    peer.close()


def main(arguments: Sequence[str]) -> None:
    """Answer on what was standard output; what libraries print goes to standard error."""
    module, kind = arguments
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for answer in answers(module, kind, sys.stdin):
            print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
