"""Shims of the module `os`, one file for each subject."""
