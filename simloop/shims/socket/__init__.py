"""Shims of the module `socket`."""
