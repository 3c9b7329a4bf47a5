"""Work on a remote database that changes nothing of what it says: compaction, minor and on demand, and gc."""
