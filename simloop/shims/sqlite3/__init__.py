"""Shims of `sqlite3`: SQLite itself, over the files of the current simulated process."""
