"""The import path of S3Connection in older programs."""

from ebooklet.connection import S3Connection

__all__ = ["S3Connection"]
