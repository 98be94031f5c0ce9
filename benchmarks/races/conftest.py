"""Puts this folder on the import path, for the servers that tests of several folders use."""
