"""A database made where the probe found out what the server is, and all its life there (§10.12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebooklet.testing.faulty import Manners
from tests.hostile.worlds import Mode, World


@pytest.mark.parametrize(
    ("manners", "mode"),
    [
        (Manners(), "cas"),
        (Manners(bare_etags_only=True), "cas"),
        (Manners(ignores_if_absent=True, ignores_if_match=True), "lock"),
        (Manners(ignores_if_match=True), "lock"),
        (Manners(races=True), "lock"),
        (Manners(always_refuses=True), "lock"),
        (Manners(matches_absent=True), "lock"),
        (Manners(unsupported=True), "lock"),
    ],
    ids=[
        "good",
        "bare ETags",
        "ignores all",
        "ignores If-Match",
        "races",
        "always 412",
        "If-Match on absent",
        "501",
    ],
)
def test_a_whole_life(
    tmp_path: Path, manners: Manners, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORMAT 10.12: created, pushed, taken over by a second writer, read cold: nothing is lost.

    Nobody conditions a write where conditions mean nothing, and heads stand twice there.

    Fails without: the probe's absent object; its race; its second form of ETags; sending them in
    the form that it found.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    world = World(tmp_path, mode, manners, known=False)
    with world.open("a") as db:
        db.update({"k": 1, "large": "v" * 1000})
        probed = len(world.store.calls)
        assert db.push()
        db["k"] = 2
        assert db.push()
    with world.open("b") as db:
        db["theirs"] = 3
        del db["large"]
        assert db.push()
    with world.open("a") as db:
        db["k"] = 4
        assert db.push()
    with world.look() as db:
        assert dict(db.items()) == {"k": 4, "theirs": 3}
        base = db._copy.base
        assert base is not None
        assert base.head.proto.mode == mode
    conditional = [call for call in world.store.calls[probed:] if call.conditional]
    assert bool(conditional) == (mode == "cas")
    assert len(world.heads()) == (1 if mode == "cas" else 2)
