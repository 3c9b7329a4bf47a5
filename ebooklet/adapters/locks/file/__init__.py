"""Locks of the operating system on a file (FORMAT §7): for `file://` remotes and local files.

The file stays when the lock is released, as it carries the last token and the holder's name. The
system frees the lock of a dead process at once; that of a suspended one only `force` can take, by
putting a new file in the place of the locked one, which the former holder notices.
"""

from ebooklet.adapters.locks.file.service import FileLockService, open_service

__all__ = ["FileLockService", "open_service"]
