"""The kit for authors of plugins: contract suites, test servers and faulty stand-ins.

Names are resolved when first used: a suite loads pytest and hypothesis, which the extra `testing`
installs. docs/writing-plugins.md walks through the use of each.
"""

from __future__ import annotations

from importlib import import_module

# Type checkers read it as True; importing `typing` for it would double the cost of the import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ebooklet.testing.clock import ManualClock, SkewedClock
    from ebooklet.testing.clock_contract import ClockContract
    from ebooklet.testing.contract import Contract
    from ebooklet.testing.counting_proxy import CountingProxy
    from ebooklet.testing.durable_local_store_contract import DurableLocalStoreContract
    from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
    from ebooklet.testing.local_store_contract import LocalStoreContract, OpenLocalStore
    from ebooklet.testing.lock_service_contract import LockServiceContract, OpenService, Traces
    from ebooklet.testing.remote_store_contract import RemoteStoreContract, Wire
    from ebooklet.testing.s3_store_contract import S3StoreContract
    from ebooklet.testing.serializer_contract import JSON_VALUES, SerializerContract
    from ebooklet.testing.servers import S3Server

__all__ = [
    "JSON_VALUES",
    "ClockContract",
    "Contract",
    "CountingProxy",
    "DurableLocalStoreContract",
    "FaultyRemoteStore",
    "LocalStoreContract",
    "LockServiceContract",
    "ManualClock",
    "OpenLocalStore",
    "OpenService",
    "RemoteStoreContract",
    "S3Server",
    "S3StoreContract",
    "SerializerContract",
    "SkewedClock",
    "StoreFault",
    "StoreRule",
    "Traces",
    "Wire",
]

_HOMES = {
    "JSON_VALUES": "serializer_contract",
    "ClockContract": "clock_contract",
    "Contract": "contract",
    "CountingProxy": "counting_proxy",
    "DurableLocalStoreContract": "durable_local_store_contract",
    "FaultyRemoteStore": "faulty",
    "LocalStoreContract": "local_store_contract",
    "LockServiceContract": "lock_service_contract",
    "ManualClock": "clock",
    "OpenLocalStore": "local_store_contract",
    "OpenService": "lock_service_contract",
    "RemoteStoreContract": "remote_store_contract",
    "S3Server": "servers",
    "S3StoreContract": "s3_store_contract",
    "SerializerContract": "serializer_contract",
    "SkewedClock": "clock",
    "StoreFault": "faulty",
    "StoreRule": "faulty",
    "Traces": "lock_service_contract",
    "Wire": "remote_store_contract",
}
_OF_THE_EXTRA = ("hypothesis", "pytest")


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ebooklet.testing' has no attribute {name!r}")
    try:
        value: object = getattr(import_module(f"ebooklet.testing.{_HOMES[name]}"), name)
    except ModuleNotFoundError as exc:
        if exc.name not in _OF_THE_EXTRA:
            raise
        raise ModuleNotFoundError(
            f"ebooklet.testing.{name} needs {exc.name}, which is not installed: "
            "pip install 'ebooklet[testing]'",
            name=exc.name,
        ) from exc
    globals()[name] = value  # the next use finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
