"""Where objects are: what stores say of it that hold none themselves."""

from __future__ import annotations

from typing import Protocol

from ebooklet.ports.remote_store import Capabilities, Origin

__all__ = ["Place", "PlacedStore"]


class Place(Protocol):
    """A bucket or folder, of which a client library is not asked; any `RemoteStore` is one too."""

    @property
    def location(self) -> str:
        """See `RemoteStore.location`."""
        ...

    @property
    def endpoint(self) -> str:
        """See `RemoteStore.endpoint`."""
        ...

    @property
    def origin(self) -> Origin | None:
        """See `RemoteStore.origin`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """See `RemoteStore.capabilities`."""
        ...

    def copies_from(self, origin: Origin | None) -> bool:
        """See `RemoteStore.copies_from`."""
        ...


class PlacedStore:
    """The part of a `RemoteStore` that says of itself what its place says.

    Args:
        place: where its objects are.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    @property
    def location(self) -> str:
        """Endpoint and bucket, or the folder."""
        return self._place.location

    @property
    def endpoint(self) -> str:
        """The server, whatever bucket."""
        return self._place.endpoint

    @property
    def origin(self) -> Origin | None:
        """Where the objects are, to stores that copy from here."""
        return self._place.origin

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked for; servers differ in what they keep of it."""
        return self._place.capabilities

    def copies_from(self, origin: Origin | None) -> bool:
        """Whether `copy` can take objects from there."""
        return self._place.copies_from(origin)
