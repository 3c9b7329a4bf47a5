"""Encryption: the cipher, and files of keys."""
