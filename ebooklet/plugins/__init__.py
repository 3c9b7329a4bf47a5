"""What other packages may add: adapters and serializers by name, and hooks."""
