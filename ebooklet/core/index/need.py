"""How the pure tree code asks for nodes it has not got.

A tree operation is a generator. It yields `Need` (fetch these nodes, all at once) and is sent a
mapping from each wanted ref to its decoded node; anything else it yields is a piece of its
result. `services.nodes` drives it with caches and parallel ranges; tests drive it from a dict.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

from ebooklet.core.index.node import Node
from ebooklet.core.refs import NodeRef

Out = TypeVar("Out")
Result = TypeVar("Result")


class Need(NamedTuple):
    """Nodes wanted before the operation can go on: at least one, no duplicates."""

    refs: tuple[NodeRef, ...]


Nodes: TypeAlias = Mapping[NodeRef, Node]
TreeOp: TypeAlias = Generator[Need, Nodes, Result]  # only needs, then a result
TreeScan: TypeAlias = Generator[Need | Out, Nodes | None, Result]  # needs mixed with pieces
