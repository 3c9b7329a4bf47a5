"""Moving a database of EBooklet 0.11 into a new one, by one commit."""
