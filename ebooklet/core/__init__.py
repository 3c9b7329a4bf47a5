"""Decisions without I/O: the index, the codecs of the bucket's objects, plans and merges.

Nothing here reads a clock, a file or a network. Where a decision needs bytes it has not got, it
is a generator that yields what it needs and is sent the answer (see `core.index.need`).
"""
