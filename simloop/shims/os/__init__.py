"""Shims of the module `os`, by subject."""
