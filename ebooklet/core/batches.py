"""Items in batches that are bounded in number and in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item", bound=tuple[str, bytes, *tuple[object, ...]])


def take_batch(items: Iterator[Item], limit: int, max_bytes: int) -> tuple[list[Item], bool]:
    """Take the next items, until one of the bounds is reached or passed.

    Args:
        items: key, value and whatever else belongs to them.
        limit: number of items.
        max_bytes: of their values.

    Returns:
        The batch, and whether it was the last.
    """
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item[1])
        if len(batch) >= limit or size >= max_bytes:
            return batch, False
    return batch, True
