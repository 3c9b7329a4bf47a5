"""Migrates, and kills itself on the way: python killed.py ENDPOINT ID KEY BUCKET NEW FILE MOMENT

MOMENT is `reading N`, for the Nth look at a group of the old database, or `committed`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import ebooklet
from ebooklet.adapters.remote.boto3 import open_store
from ebooklet.connection import S3Connection
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(logging.Handler):
    """Ends the process when the commit has been acknowledged, and before that is written down."""

    def emit(self, record: logging.LogRecord) -> None:
        if "pushed commit" in record.getMessage():
            die()


def main() -> None:
    endpoint, access_key_id, access_key, bucket, new, file, moment = sys.argv[1:]
    connection = S3Connection(access_key_id, access_key, "db", bucket, endpoint_url=endpoint)
    store = FaultyRemoteStore(open_store(connection.address())[0])
    if moment == "committed":
        logging.getLogger("ebooklet.push").setLevel(logging.INFO)
        logging.getLogger("ebooklet.push").addHandler(Dying())
    else:
        skip = int(moment.removeprefix("reading "))
        store.add(
            StoreRule(
                StoreFault.DELAY, "get", key=lambda k: k.startswith("db/"), skip=skip, then=die
            )
        )
    ebooklet.migrate(store, new, file)


main()
