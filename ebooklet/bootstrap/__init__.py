"""The composition root: turns URLs, names and options into adapters and hands them to services.

The one package that knows both sides. Whatever an argument names may also be passed ready built.
"""

from ebooklet.bootstrap.arguments import OpenOptions
from ebooklet.bootstrap.checking import fsck
from ebooklet.bootstrap.migrating import migrate
from ebooklet.bootstrap.opening import open, open_ebooklet, open_rcg  # noqa: A004  the dbm name
from ebooklet.bootstrap.sessions import open_session

__all__ = ["OpenOptions", "fsck", "migrate", "open", "open_ebooklet", "open_rcg", "open_session"]
