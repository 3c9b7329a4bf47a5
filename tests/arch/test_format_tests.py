"""The twenty tests that must exist (FORMAT §10): each is there, and says what it was seen to catch."""

from __future__ import annotations

from tests.mutants.listed import NUMBERED, ROOT, Edit, mutants, numbered_tests, rules_in


def test_each_of_the_twenty_is_there() -> None:
    """A number that nobody claims is a test that does not exist."""
    claimed = {
        int(number) for text in numbered_tests().values() for number in NUMBERED.findall(text)
    }
    assert claimed == set(range(1, 21))


def test_each_rule_it_fails_without_can_be_removed() -> None:
    """`make mutants` removes what a test names after its "Fails without:", all of it and no more."""
    said = {name: rules_in(text) for name, text in numbered_tests().items()}
    removed: dict[str, list[str]] = {}
    for mutant in mutants():
        removed.setdefault(mutant.test, []).append(mutant.rule)
    assert removed == said


def test_what_is_removed_is_there() -> None:
    """A mutant whose text the library no longer has, or has twice, removes nothing that is known."""
    astray = [
        (mutant.rule, edit)
        for mutant in mutants()
        for edit in mutant.edits
        if not (ROOT / edit.file).exists() or count(edit) != 1
    ]
    assert astray == [], "name the file and the text again in tests/mutants/mutants.toml"


def count(edit: Edit) -> int:
    """How often its text stands in its file."""
    return (ROOT / edit.file).read_text("utf-8").count(edit.old)
