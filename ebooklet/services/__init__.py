"""Use cases: port calls in order. What to do is decided in `core`; here it is done."""
