"""What every process of a run needs, imported once: they are forked from one that has it.

Nothing here starts a thread, or leaves a file open that a child would share.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import boto3

import ebooklet

_USED: Final = (
    "ebooklet.adapters.local.booklet",
    "ebooklet.adapters.locks.lease",
    "ebooklet.adapters.remote.boto3",
    "ebooklet.serializers.raw",
    "tests.torture.readers",
    "tests.torture.writers",
)

for name in _USED:
    import_module(name)
# The model of S3, and what botocore imports when it reads it.
boto3.client("s3", "us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
ebooklet.open("memory://warm", None, "c", "bytes").close()
