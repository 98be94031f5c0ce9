"""Shims of `sqlite3`: the real SQLite library, over the files of the current simulated process."""
