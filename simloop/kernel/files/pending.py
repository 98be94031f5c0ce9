"""What of a regular file's data is in memory only, and what the disk holds in its place.

The contents in memory are the ones that programs see. Beside them stands what a power cut would bring back: the
size that the disk knows, and of every page that was overwritten since the last sync, its old bytes.
"""

from __future__ import annotations

from simloop.kernel.files.contents import PAGE, Contents, pages
from simloop.kernel.files.intervals import Intervals


class Pending:
    """The difference between a file in memory and on disk."""

    __slots__ = ("_saved", "dirty", "disk_size", "lost", "since_ns")

    def __init__(self, size: int) -> None:
        self.disk_size = size
        #: When the first of the dirty pages became dirty.
        self.since_ns = 0
        #: Pages that were written since the last sync.
        self.dirty = Intervals()
        #: Pages whose writing has failed: Linux marks them clean all the same, so that no later fsync(2) writes
        #: them (https://lwn.net/Articles/752063/), and a power cut brings back what the disk holds.
        self.lost = Intervals()
        # (first page, old bytes) of dirty and lost pages inside of the size on disk, each page once.
        self._saved: list[tuple[int, bytes]] = []

    def __bool__(self) -> bool:
        return bool(self.dirty)

    def before_write(self, contents: Contents, start: int, end: int, now_ns: int) -> None:
        """``[start, end)`` is about to be written: keep what the disk has there."""
        first, last = start // PAGE, -(-end // PAGE)
        if not self.dirty.starts:
            self.since_ns = now_ns
        if first * PAGE < self.disk_size:
            self._save(contents, first, min(last, pages(self.disk_size)))
        self.dirty.add(first, last)
        if self.lost.starts:
            self.lost.remove(first, last)

    def _save(self, contents: Contents, first: int, last: int) -> None:
        for low, high in self.dirty.gaps(first, last):
            # A lost page has its old bytes saved already.
            for gap in self.lost.gaps(low, high) if self.lost else ((low, high),):
                # Of a hole the disk holds nothing.
                for start, end in contents.allocated.within(*gap):
                    size = min(end * PAGE, self.disk_size) - start * PAGE
                    self._saved.append((start, contents.read(start * PAGE, size)))

    def saved(self) -> dict[int, bytes]:
        """What the disk holds of each dirty or lost page inside of its size, but for holes."""
        found: dict[int, bytes] = {}
        for first, data in self._saved:
            for at in range(0, len(data), PAGE):
                found[first + at // PAGE] = data[at : at + PAGE]
        return found

    def size(self) -> int:
        """How much there is to write."""
        return self.dirty.total() * PAGE

    def synced(self, contents: Contents) -> None:
        """Everything that is dirty is on disk, and so is the size."""
        self.disk_size = contents.size
        self.dirty.clear()
        self._keep_saved(self.lost)

    def settled(self, contents: Contents) -> None:
        """What is in memory is what the disk holds."""
        self.lost.clear()
        self.synced(contents)

    def failed(self) -> None:
        """The dirty pages could not be written, and count as clean."""
        for low, high in self.dirty:
            self.lost.add(low, high)
        self.dirty.clear()

    def forced(self, ranges: Intervals, size: int) -> None:
        """These pages, and the size, are on disk."""
        for low, high in ranges:
            self.dirty.remove(low, high)
        self.disk_size = max(self.disk_size, size)
        kept = self.dirty.copy()
        for low, high in self.lost:
            kept.add(low, high)
        self._keep_saved(kept)

    def _keep_saved(self, ranges: Intervals) -> None:
        if not self._saved:
            return
        saved = self.saved() if ranges else {}
        self._saved = [(page, data) for page, data in saved.items() if page in ranges]

    def cut(self, contents: Contents, size: int) -> list[tuple[int, bytes]]:
        """The file is about to be cut off at `size`, which is less than the disk's. Returns what the disk held
        from there on, by page, for the case that this never reaches it."""
        first, on_disk = size // PAGE, pages(self.disk_size)
        self._save(contents, first, on_disk)
        saved = self.saved()
        gone = [(page, data) for page, data in sorted(saved.items()) if page >= first]
        # The page in which it ends stays, up to there.
        end = pages(size)
        for ranges in (self.dirty, self.lost):
            ranges.remove(end, max(on_disk, pages(contents.size)))
        self._saved = [(page, data) for page, data in saved.items() if page < end]
        if end > first:
            self._trim(first, size)
        self.disk_size = size
        return gone

    def _trim(self, page: int, size: int) -> None:
        keep = page in self.dirty or page in self.lost
        self._saved = [
            (number, data[: size - page * PAGE] if number == page else data)
            for number, data in self._saved
            if number != page or keep
        ]

    def forget(self, first: int, last: int) -> None:
        """Nothing is pending of these pages any more, neither way."""
        self.dirty.remove(first, last)
        self.lost.remove(first, last)
        self._saved = [(page, data) for page, data in self.saved().items() if not first <= page < last]
