"""Numbers of the `decimal` module as text: exact, and readable in every language."""

from decimal import Decimal, InvalidOperation

from ebooklet.errors import SerializationError


class DecimalSerializer:
    """Decimals, with all their digits."""

    name = "decimal"
    safe = True  # reading bytes of strangers runs no code

    def dumps(self, value: object, /) -> bytes:
        """Write a number as text."""
        if not isinstance(value, Decimal):
            raise SerializationError(f"a {type(value).__name__} is no Decimal", op="dumps")
        return str(value).encode()

    def loads(self, data: bytes, /) -> Decimal:
        """Read a number."""
        try:
            return Decimal(bytes(data).decode("ascii"))
        except (InvalidOperation, ValueError) as exc:
            raise SerializationError("these bytes are no number", op="loads") from exc


DECIMAL = DecimalSerializer()
