"""What is measured: a module for each library, run in an environment of its own.

Nothing here imports `ebooklet`, but for the module that measures it.
"""
