"""Local stores: the half of a database that lives on this machine."""
