"""Comparing a database with its objects, and sweeping those that nothing needs."""
