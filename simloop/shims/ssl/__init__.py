"""Shims of the module `ssl`."""
