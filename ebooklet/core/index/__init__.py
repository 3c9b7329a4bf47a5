"""The index: a history-independent Merkle search tree over the keys (FORMAT §3)."""
