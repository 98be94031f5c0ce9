"""Three versions of the store, each with a mistake that stores on disk are known for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from store import _HEADER, Store, pack


class NoFsyncBeforeRename(Store):
    """The name may reach the disk before the data does: an empty snapshot, and the log is gone."""

    def _write_snapshot(self) -> None:
        new = self._path("snapshot.new")
        with open(new, "wb") as file:
            for key, value in self._items.items():
                file.write(pack(key, value))
        os.rename(new, self._path("snapshot"))
        self._sync_directory()


class NoFsyncOfDirectory(Store):
    """The data are on disk, but not the name: there is no snapshot, and the log is gone."""

    def _sync_directory(self) -> None:
        pass


class TrustsTheTail(Store):
    """What a crash has left of the last record is taken for a record."""

    def unpack(self, data: bytes) -> Iterator[tuple[str, str | None, int]]:
        start = 0
        while start + _HEADER.size <= len(data):
            size, _ = _HEADER.unpack_from(data, start)
            body = data[start + _HEADER.size : start + _HEADER.size + size]
            if len(body) < size:
                return
            start += _HEADER.size + size
            key, value = json.loads(body)
            yield key, value, start
