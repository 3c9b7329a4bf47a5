"""Comparing a database with its objects; repairing it, rescuing it, and sweeping what nothing needs."""
