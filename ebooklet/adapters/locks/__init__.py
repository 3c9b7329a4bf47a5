"""Lock services: one writer at a time, by whatever the store offers."""
