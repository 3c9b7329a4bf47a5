"""`python -m ebooklet.cli`, for where the console script is not on the path."""

from ebooklet.cli import main

main()
