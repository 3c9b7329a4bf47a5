"""How the pure tree code asks for nodes it has not got.

A tree operation is a generator. It yields `Need` (fetch these nodes, all at once) and is sent a
mapping from each wanted ref to its decoded node; anything else it yields is a piece of its
result. `services.nodes` drives it with caches and parallel ranges; tests drive it from a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

from ebooklet.core.index.node import Node
from ebooklet.core.refs import NodeRef

Out = TypeVar("Out")
Result = TypeVar("Result")


class Need(NamedTuple):
    """Nodes wanted before the operation can go on: at least one, no duplicates."""

    refs: tuple[NodeRef, ...]


Nodes: TypeAlias = Mapping[NodeRef, Node]
Fetch: TypeAlias = Callable[[tuple[NodeRef, ...]], Nodes]
TreeOp: TypeAlias = Generator[Need, Nodes, Result]  # only needs, then a result
TreeScan: TypeAlias = Generator[Need | Out, Nodes | None, Result]  # needs mixed with pieces


def drive(op: TreeOp[Result], fetch: Fetch) -> Result:
    """Run an operation to its result, fetching what it asks for."""
    nodes: Nodes | None = None
    while True:
        try:
            need = next(op) if nodes is None else op.send(nodes)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        nodes = fetch(need.refs)


def drive_scan(scan: TreeScan[Out, object], fetch: Fetch) -> Iterator[Out]:
    """Yield the pieces of a scan, fetching what it asks for."""
    nodes: Nodes | None = None
    while True:
        try:
            piece = scan.send(nodes)
        except StopIteration:
            return
        if isinstance(piece, Need):
            nodes = fetch(piece.refs)
        else:
            nodes = None
            yield piece


def need(refs: list[NodeRef]) -> Need:
    """A `Need` of refs that may repeat."""
    return Need(tuple(dict.fromkeys(refs)))
