"""An example of a plugin of EBooklet: a serializer and a remote store."""
