"""What local stores of one file share: the folder beside it, its locks, and how threads share it."""
