"""Sealed blocks: what opens, what does not, and what they look like."""

from __future__ import annotations

from functools import partial
from hashlib import blake2b
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.adapters.encryption.aesgcm import AesGcmCipher
from ebooklet.core.derivedkeys import DerivedKeys
from ebooklet.core.digest import value_digest
from ebooklet.core.sealing import PLAIN, Content, KeyedSealer, key_tag
from ebooklet.errors import EncryptionError, RemoteIntegrityError

PIECE = 8  # bytes, so that small blocks have several pieces
USER_KEYS = {"old": bytes(range(32)), "new": bytes(range(1, 33))}
VAULT = bytes(16)
GOLDEN = bytes.fromhex(  # made once; b"hello" as a node under "old", in the vault of zeros
    "012ebc1a4fd83810ffaf1546e855e12a09b914e6adc83416fc53d1fca14cfcaa515d8b3e5def"
)


def make(
    current: str = "new", *, vault: bytes = VAULT, piece: int = PIECE, names: tuple[str, ...] = ()
) -> KeyedSealer:
    keys = DerivedKeys(vault, USER_KEYS.__getitem__)
    return KeyedSealer(
        AesGcmCipher(),
        current,
        {key_tag(name): name for name in names},
        partial(keys.checked, {}),
        b"d" * 32,
        piece_bytes=piece,
    )


@settings(max_examples=60)
@given(st.binary(max_size=4 * PIECE + 1), st.sampled_from(Content), st.binary(max_size=20))
def test_what_was_sealed_opens(plain: bytes, content: Content, extra: bytes) -> None:
    """Blocks of any length, of one piece or several, whoever of the key's holders opens them."""
    stored = make("old").seal(content, plain, extra)
    assert len(stored) == make().stored_length(len(plain))
    assert make("new", names=("old",)).open(content, stored, extra) == plain
    assert make("old").open(content, memoryview(bytearray(stored)), extra) == plain


@settings(max_examples=20)
@given(st.binary(max_size=2 * PIECE + 1), st.data())
def test_no_byte_can_be_changed(plain: bytes, data: st.DataObject) -> None:
    """A block with any bit changed, cut anywhere or with more at its end is refused."""
    sealer = make()
    stored = bytearray(sealer.seal(Content.VALUE, plain))
    at = data.draw(st.integers(0, len(stored) - 1))
    changed = bytearray(stored)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (changed, stored[:at], stored + b"x"):
        with pytest.raises(RemoteIntegrityError):
            sealer.open(Content.VALUE, damaged)


def test_a_block_passes_for_no_other() -> None:
    """Not for one of another content, with another context, or of another database."""
    stored = make().seal(Content.NODE, b"x", b"context")
    assert make().open(Content.NODE, stored, b"context") == b"x"
    for content in set(Content) - {Content.NODE}:
        with pytest.raises(RemoteIntegrityError):
            make().open(content, stored, b"context")
    with pytest.raises(RemoteIntegrityError):
        make().open(Content.NODE, stored)
    with pytest.raises(RemoteIntegrityError):
        make(vault=bytes(15) + b"x").open(Content.NODE, stored, b"context")


def test_pieces_keep_their_order_and_number() -> None:
    """Pieces cannot be swapped, repeated or left out, the last ones included."""
    sealer = make()
    stored = bytes(sealer.seal(Content.VALUE, b"a" * PIECE * 3))
    size = PIECE + 28
    header = stored[:5]
    cuts = [*range(5, len(stored), size), len(stored)]
    one, two, three = (stored[a:b] for a, b in pairwise(cuts))
    assert sealer.open(Content.VALUE, header + one + two + three) == b"a" * PIECE * 3
    for pieces in ((two, one, three), (one, two), (one, three), (one, one, three), (three,), ()):
        with pytest.raises(RemoteIntegrityError):
            sealer.open(Content.VALUE, header + b"".join(pieces))


def test_two_seals_of_one_block_differ() -> None:
    """Equal blocks cannot be told by their stored bytes."""
    sealer = make()
    assert len({bytes(sealer.seal(Content.VALUE, b"x")) for _ in range(50)}) == 50


def test_digests_are_keyed() -> None:
    """They are stable, differ from the plain ones, and from those of another key."""
    sealer = make()
    assert sealer.digest(b"x") == make("old").digest(b"x")
    assert sealer.digest(b"x") != value_digest(b"x") == PLAIN.digest(b"x")
    assert (
        sealer.digest(b"x")
        == blake2b(b"x", key=b"d" * 32, digest_size=16, person=b"ebk-val").digest()
    )
    hasher = sealer.stored_hasher()
    stored = memoryview(bytes(sealer.seal(Content.VALUE, b"value")))
    for at in range(len(stored)):
        hasher.update(stored[at : at + 1])
    assert hasher.digest() == sealer.digest(b"value")


def test_a_block_under_a_key_that_is_not_named_is_damage() -> None:
    """The head names all keys there are; what claims another one is no block of this database."""
    stored = make("old").seal(Content.VALUE, b"x")
    with pytest.raises(RemoteIntegrityError, match="does not name"):
        make("new").open(Content.VALUE, stored)


def test_a_key_is_told_from_another() -> None:
    """By a check that says nothing of it, so that a wrong one is not mistaken for damage."""
    right = DerivedKeys(VAULT, lambda _: b"k" * 32)
    wrong = DerivedKeys(VAULT, lambda _: b"w" * 32)
    checks = {"id": right.check("id")}
    assert len(right.checked(checks, "id")) == 32
    with pytest.raises(EncryptionError, match="not the one") as caught:
        wrong.checked(checks, "id")
    assert caught.value.key_id == "id"


def test_the_format_stands() -> None:
    """A block that was stored once opens for ever."""
    assert make("old", piece=1 << 26).open(Content.NODE, GOLDEN) == b"hello"
    assert GOLDEN[:5] == b"\x01" + key_tag("old")
