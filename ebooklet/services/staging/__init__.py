"""Staging: writers anywhere lay values into the bucket, and one commit takes them in (decision 0038)."""
