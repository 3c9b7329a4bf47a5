"""What is installed in this process, where callers who bring no registry have names looked up."""

from __future__ import annotations

import os
from typing import Final

from ebooklet.plugins.registry import Registry

INSTALLED: Final = Registry(prefer=os.environ.get("EBOOKLET_PREFER", "").replace(",", " ").split())
