"""Adapters: one module per technology, the only home of its client library."""
