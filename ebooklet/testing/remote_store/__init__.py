"""The parts of `RemoteStoreContract`, one for each kind of promise."""
