"""Which branches there were, and their history, where only commit records are known (decision 0045)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import NamedTuple

from ebooklet.core.advance import DEFAULT_KEEP, FIRST_BRANCH
from ebooklet.core.descent import Descent, FoundCommit, ancestors, descent, loose_ends
from ebooklet.core.head import Branch, Recent
from ebooklet.core.refnames import check_ref_name

__all__ = ["Lines", "lines_of"]


class Lines(NamedTuple):
    """The lines of commits that a head can be made of."""

    main: Descent  # of the default branch
    branches: dict[str, Branch]  # the others
    rows: list[Recent]  # the history of them all, oldest first
    n_branches: int  # that there are: those above the limit are left out


def lines_of(
    tip: FoundCommit,
    known: Mapping[bytes, FoundCommit],
    whole: Callable[[FoundCommit], bool],
    *,
    limit: int,
) -> Lines:
    """Work out the branches: those that records name, then what nothing else leads to.

    A history has one commit of each seq. Of two, which were made in a race, it is that of the
    branch that comes first.

    Args:
        tip: of the default branch.
        known: every record that was found, by its id.
        whole: whether a commit can be retained.
        limit: how many branches beside the default one there may be.
    """
    main = descent(tip, known, whole)
    rows = {each.commit.seq: each for each in main.commits}

    def fits(one: FoundCommit) -> bool:
        return rows.get(one.commit.seq, one).ref.id == one.ref.id and whole(one)

    ends = _ends(tip, known, whole)
    branches = {}
    for name, end in islice(ends.items(), limit):
        side = descent(end, known, fits)
        for each in side.commits:
            rows.setdefault(each.commit.seq, each)
        branches[name] = Branch(end.ref, side.oldest_seq, DEFAULT_KEEP.n, DEFAULT_KEEP.ms)
    history = [_row(each, branches) for _, each in sorted(rows.items())]
    return Lines(main, branches, history, len(ends))


def _ends(
    tip: FoundCommit,
    known: Mapping[bytes, FoundCommit],
    whole: Callable[[FoundCommit], bool],
) -> dict[str, FoundCommit]:
    """The newest commit of each branch beside the default one."""
    candidates = [each for each in known.values() if whole(each)]
    named: dict[str, FoundCommit] = {}
    for each in sorted(candidates, key=lambda one: one.age):
        if _can_be_named(each.commit.branch):
            named[each.commit.branch] = each
    met = ancestors(tip, known).union(*(ancestors(end, known) for end in named.values()))
    nameless = loose_ends(candidates, known, met)
    return named | {f"rescued-{end.ref.id.hex()[:12]}": end for end in nameless}


def _can_be_named(branch: str) -> bool:
    try:
        check_ref_name(branch, "branch")
    except ValueError:
        return False
    return branch != FIRST_BRANCH


def _row(each: FoundCommit, branches: Mapping[str, Branch]) -> Recent:
    commit = each.commit
    branch = commit.branch if commit.branch in branches else FIRST_BRANCH
    return Recent(commit.write_id, commit.seq, commit.ms, branch, each.ref)
