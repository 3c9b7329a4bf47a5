"""Serializers: one module per format, loaded by name through `ebooklet.plugins`."""
