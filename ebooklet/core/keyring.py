"""From a head and the caller's keys to what opens and seals the blocks of its database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial
from typing import Final

from ebooklet.core import cbor
from ebooklet.core.commit import Commit
from ebooklet.core.derivedkeys import DerivedKeys
from ebooklet.core.encryption import MAX_KEY_IDS, check_key, check_key_id
from ebooklet.core.headfields import params_row
from ebooklet.core.headtypes import Head, KeyTable
from ebooklet.core.notes import check_record
from ebooklet.core.params import TreeParams
from ebooklet.core.sealing import PLAIN, Content, DatabaseSealer, KeyedSealer, key_tag
from ebooklet.core.tagnotes import key_tag_of
from ebooklet.errors import EncryptionError, RemoteIntegrityError, UnsupportedFormatError
from ebooklet.ports.cipher import KEY_BYTES, Cipher, KeySource

VAULT_BYTES: Final = 16
SALT_BYTES: Final = 16


class Keyring:
    """What a caller has to open encrypted databases with: a cipher and keys, or neither.

    Args:
        cipher: seals and opens.
        keys: where keys come from; None opens plain databases only.

    Attributes:
        wanted: the caller insists on an encrypted database.
    """

    def __init__(self, cipher: Cipher | None = None, keys: KeySource | None = None) -> None:
        self._cipher = cipher
        self._keys = keys
        self.wanted: Final = keys is not None
        self._derived: DerivedKeys | None = None  # of the vault that was met last
        self._last: tuple[KeyTable, bytes, VaultSealer] | None = None

    def __repr__(self) -> str:
        return f"<Keyring, {'with keys' if self.wanted else 'without keys'}>"

    def sealer_of(self, head: Head, record: Commit | None = None) -> DatabaseSealer:
        """The sealer of a head's database; says so if it cannot be opened by these keys.

        Args:
            head: what it says of keys counts.
            record: the tip of the branch that is read, if that is not the head's default one.

        Raises:
            EncryptionError: it is encrypted and there are no keys, or the wrong ones, or one that
                it needs is missing; or it is plain, and the caller gave keys.
            RemoteIntegrityError: the head was changed by who has not the key.
            UnsupportedFormatError: it is encrypted in a way that is not known.
        """
        try:
            return self._sealer_of(head, (head.tip,) if record is None else (head.tip, record))
        except EncryptionError as exc:
            exc.key = exc.key or head.name
            raise

    def _sealer_of(self, head: Head, tips: Iterable[Commit]) -> DatabaseSealer:
        if not head.encrypted:
            if self.wanted:
                raise EncryptionError(
                    "this database is not encrypted, and a key was given: leave encryption= out, or "
                    "choose another place to create an encrypted one",
                    op="open",
                )
            return PLAIN
        table = head.encryption
        if table is None or (self._cipher and head.params.encryption != self._cipher.name):
            raise UnsupportedFormatError(
                f"this version cannot read what is encrypted with {head.params.encryption!r}: "
                "upgrade ebooklet",
                op="open",
            )
        sealer = self._sealer(head, table)
        for tip in tips:
            for key_id in tip.key_ids:
                sealer.require(key_id)
            check_record(tip, sealer)
        return sealer

    def renew(self) -> None:
        """Ask anew which key is the current one, from the next head on."""
        self._last = None

    def create(self, random: Callable[[int], bytes]) -> VaultSealer:
        """The sealer of a database that does not exist yet.

        Args:
            random: so many random bytes.

        Raises:
            EncryptionError: no key is said to be the current one, or there is none of that id.
        """
        assert self._cipher is not None and self._keys is not None  # noqa: S101, PT018
        current = self._keys.current
        if current is None:
            raise EncryptionError(
                "creating an encrypted database needs to know which key is the current one: pass "
                "encryption=Encryption(keys, current=...)",
                op="open",
            )
        vault = random(VAULT_BYTES)
        table = KeyTable(vault, current, b"", ())
        keys = self._keys_of(vault)
        return VaultSealer(self._cipher, table, b"", current, keys, random(KEY_BYTES))

    def params(self, random: Callable[[int], bytes]) -> TreeParams:
        """The parameters of an encrypted database that does not exist yet."""
        assert self._cipher is not None  # noqa: S101
        return TreeParams(salt=random(SALT_BYTES), encryption=self._cipher.name)

    def _sealer(self, head: Head, table: KeyTable) -> VaultSealer:
        fixed = fixed_fields(head)
        last = self._last
        if last is not None and last[:2] == (table, fixed):
            return last[2]
        if self._keys is None or self._cipher is None:
            raise EncryptionError(
                f"this database is encrypted, and no key was given: it needs the key with id "
                f"{table.key_id!r}; pass encryption=KeyFile(path), or a function from key id to "
                "key",
                op="open",
                key_id=table.key_id,
            )
        keys = self._keys_of(table.vault)
        opener = KeyedSealer(
            self._cipher,
            table.key_id,
            {},
            partial(keys.checked, dict(table.checks)),
            bytes(KEY_BYTES),
        )
        try:
            digest_key = opener.open(Content.DIGEST_KEY, table.digest_key, fixed)
        except RemoteIntegrityError as exc:
            raise RemoteIntegrityError(
                "the head was changed by who has not the key: its type, serializer or parameters "
                "are not those it was written with. Restore an older version of the object",
                op="open",
            ) from exc
        current = self._keys.current or table.key_id
        sealer = VaultSealer(self._cipher, table, fixed, current, keys, digest_key)
        self._last = table, fixed, sealer
        return sealer

    def _keys_of(self, vault: bytes) -> DerivedKeys:
        known = self._derived
        if known is None or known.vault != vault:
            known = self._derived = DerivedKeys(vault, self._fetch)
        return known

    def _fetch(self, key_id: str) -> bytes:
        assert self._keys is not None  # noqa: S101
        try:
            key = self._keys.key(key_id)
        except LookupError as exc:
            raise EncryptionError(
                f"this database needs the key with id {key_id!r}, and there is none of that id "
                "among those given: add it",
                op="open",
                key_id=key_id,
            ) from exc
        try:
            return check_key(key)
        except ValueError as exc:
            raise EncryptionError(
                f"what was given for key id {key_id!r} is no key ({exc}): give the bytes that "
                "the database was made with",
                op="open",
                key_id=key_id,
            ) from None


class VaultSealer(KeyedSealer):
    """The sealer of one database, which also writes what its heads say of keys.

    Args:
        cipher: does the work.
        table: what the head says of keys.
        fixed: what the digest key in it is bound to.
        current: id of the key that new blocks are sealed under.
        keys: the cipher's keys.
        digest_key: that digests of values are made with.
    """

    def __init__(
        self,
        cipher: Cipher,
        table: KeyTable,
        fixed: bytes,
        current: str,
        keys: DerivedKeys,
        digest_key: bytes,
    ) -> None:
        names = {key_tag(key_id): key_id for key_id, _ in table.checks}
        check_key_id(current)
        if names.get(key_tag(current), current) != current:
            raise EncryptionError(
                f"key id {current!r} cannot be told from {names[key_tag(current)]!r} in a block: "
                "choose another id for the new key",
                op="open",
                key_id=current,
            )
        self._checked = partial(keys.checked, dict(table.checks))
        super().__init__(cipher, current, names, self._checked, digest_key)
        self._fixed = fixed
        self._table = table
        self._keys_of_vault = keys

    def require(self, key_id: str) -> None:
        """Raise `EncryptionError` unless the key of this id is there and the right one."""
        self._checked(key_id)

    def protect(self, head: Head, /) -> Head:
        """The head with what it says of keys: all that were named before, and the current one.

        The key of the digests is sealed anew where the current key is another, or what it is bound
        to.

        Raises:
            EncryptionError: it would name more keys than a head can.
        """
        fixed = fixed_fields(head)
        before = head.encryption
        if before == self._table and fixed == self._fixed and before.key_id == self.current:
            return head
        checks = dict(before.checks) if before is not None else {}
        checks[self.current] = self._keys_of_vault.check(self.current)
        if len(checks) > MAX_KEY_IDS:
            raise EncryptionError(
                f"the database's history lies under {len(checks)} keys, more than a head can "
                "name: rotate, and let old commits expire, before another key is used",
                op="push",
                key=head.name,
                key_id=self.current,
            )
        sealed = self.seal(Content.DIGEST_KEY, self.digest_key, fixed)
        table = KeyTable(
            self._table.vault, self.current, bytes(sealed), tuple(sorted(checks.items()))
        )
        return replace(head, encryption=table)


def forget_keys(head: Head, needed: Collection[str]) -> Head:
    """The head without the ids of keys that nothing retained lies under any more; needs no key.

    Args:
        head: to be written.
        needed: what its retained commits list, each in its `key_ids`: metadata and dictionaries
            that the head holds lie under keys that its tip lists. What the messages of its tags lie
            under is kept besides.
    """
    table = head.encryption
    if table is None:
        return head
    keep = {*needed, *head.tip.key_ids, table.key_id}
    tagged = {key_tag_of(tag) for tag in head.tags.values()}
    checks = tuple(
        (key_id, check)
        for key_id, check in table.checks
        if key_id in keep or key_tag(key_id) in tagged
    )
    return replace(head, encryption=replace(table, checks=checks))


def fixed_fields(head: Head) -> bytes:
    """What of a head is settled when its database is created, and bound to the digest key."""
    return cbor.encode(
        [head.type, head.key_serializer, head.value_serializer, *params_row(head.params)]
    )
