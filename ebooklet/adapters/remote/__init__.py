"""Remote stores: whole objects under flat keys."""
