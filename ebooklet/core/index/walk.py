"""What every walk down the tree shares: spans of keys, and checks of a node against its parent.

The digests leave keys of inner nodes out, so a walk checks each node against the keys its parent
promised: wrong separators can then hide nothing and lead no walk astray.
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

from ebooklet.core.index.need import Nodes
from ebooklet.core.index.node import InnerNode, LeafNode, Node
from ebooklet.core.refs import NodeRef
from ebooklet.errors import RemoteIntegrityError


class Span(NamedTuple):
    """A subtree, and what its parent says of its keys."""

    ref: NodeRef
    after: str | None  # all its keys are above this one; None: no lower bound
    last: str | None  # its last key; None for the root, of which nobody says it


def verify(span: Span, node: Node) -> None:
    """Check a node's level and keys against its parent.

    Levels fall on the way down, so no walk can go round in a circle, whatever a bucket holds and
    whatever a cache answers for a block that two refs describe differently.

    Raises:
        RemoteIntegrityError: parent and node disagree.
    """
    if node.level != span.ref.level:
        raise RemoteIntegrityError(
            f"an index node is of level {node.level}, its parent says {span.ref.level}; run fsck",
            op="index",
        )
    if (span.last is not None and node.keys[-1] != span.last) or (
        span.after is not None and node.keys[0] <= span.after
    ):
        raise RemoteIntegrityError(
            "an index node does not hold the keys its parent says; run fsck", op="index"
        )


def children(span: Span, node: InnerNode) -> list[Span]:
    """The spans of a node's children, in key order."""
    return list(map(Span, node.children(), chain((span.after,), node.keys), node.keys))


def leaf(node: Node) -> LeafNode:
    """The node, which a ref of level 0 promised to be a leaf."""
    if not isinstance(node, LeafNode):
        raise RemoteIntegrityError("an inner node stands in place of a leaf", op="index")
    return node


def inner(node: Node) -> InnerNode:
    """The node, which a ref of a level above 0 promised to be an inner node."""
    if not isinstance(node, InnerNode):
        raise RemoteIntegrityError("a leaf stands in place of an inner node", op="index")
    return node


def sent(nodes: Nodes | None) -> Nodes:
    """The nodes that answer a need; a driver that sends none is at fault."""
    if nodes is None:
        raise TypeError("a need was answered with no nodes")
    return nodes
