"""Work on a remote database that changes nothing of what it says: merging, compaction, gc."""
