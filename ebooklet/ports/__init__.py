"""What the core needs of the world: small Protocols with numbered promises.

Each port has a contract suite in `ebooklet.testing` that every adapter passes.
"""
