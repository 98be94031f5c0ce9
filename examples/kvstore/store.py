"""A small key-value store on disk: a log of what was put, and a snapshot so that the log does not grow for ever.

What `put` and `delete` have returned from is kept, whatever happens to the machine afterwards. That takes three things
that are easy to forget; `mistakes.py` has a version without each of them.

    directory/log         records since the snapshot, appended and synced one by one
    directory/snapshot    all that was there when the log was last emptied, in records, too
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator

_HEADER = struct.Struct(">II")  # size and CRC-32 of what follows


class Store:
    """Keys and values, both text. One process may use a directory at a time."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)
        os.makedirs(self._directory, exist_ok=True)
        self._items: dict[str, str] = {}
        self._recover()

    def get(self, key: str) -> str | None:
        return self._items.get(key)

    def items(self) -> dict[str, str]:
        return dict(self._items)

    def put(self, key: str, value: str) -> None:
        """Once this has returned, `value` is on disk."""
        self._log_change(key, value)
        self._items[key] = value

    def delete(self, key: str) -> None:
        """Once this has returned, `key` is gone from the disk."""
        self._log_change(key, None)
        self._items.pop(key, None)

    def compact(self) -> None:
        """Write a snapshot of everything, and begin the log anew."""
        self._write_snapshot()
        # Only now the log is not needed any more.
        self._log.truncate(0)
        self._log.seek(0)
        os.fsync(self._log.fileno())

    def close(self) -> None:
        self._log.close()

    # --- files ----------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _log_change(self, key: str, value: str | None) -> None:
        self._log.write(pack(key, value))
        self._log.flush()
        os.fsync(self._log.fileno())

    def _write_snapshot(self) -> None:
        new = self._path("snapshot.new")
        with open(new, "wb") as file:
            for key, value in self._items.items():
                file.write(pack(key, value))
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, self._path("snapshot"))
        self._sync_directory()

    def _sync_directory(self) -> None:
        """Names are on disk when their directory was synced: new files, and what was renamed."""
        fd = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _recover(self) -> None:
        try:
            with open(self._path("snapshot"), "rb") as file:
                self._replay(file.read())
        except FileNotFoundError:
            pass
        self._log = open(self._path("log"), "a+b")  # noqa: SIM115  closed by close()
        self._sync_directory()
        self._log.seek(0)
        good = self._replay(self._log.read())
        # Behind the last whole record is what a crash has left of a change that nobody was told had been made.
        self._log.truncate(good)
        self._log.seek(good)
        os.fsync(self._log.fileno())

    def _replay(self, data: bytes) -> int:
        """Make the changes that `data` holds. Returns how far it can be trusted."""
        good = 0
        for key, value, end in self.unpack(data):
            if value is None:
                self._items.pop(key, None)
            else:
                self._items[key] = value
            good = end
        return good

    def unpack(self, data: bytes) -> Iterator[tuple[str, str | None, int]]:
        """The whole records at the beginning of `data`, each with where it ends."""
        start = 0
        while start + _HEADER.size <= len(data):
            size, crc = _HEADER.unpack_from(data, start)
            body = data[start + _HEADER.size : start + _HEADER.size + size]
            # A page that never reached the disk reads as zeros, whose CRC is right for a record of no size.
            if not size or len(body) < size or zlib.crc32(body) != crc:
                return
            start += _HEADER.size + size
            key, value = json.loads(body)
            yield key, value, start


def pack(key: str, value: str | None) -> bytes:
    """One record."""
    body = json.dumps([key, value]).encode()
    return _HEADER.pack(len(body), zlib.crc32(body)) + body
