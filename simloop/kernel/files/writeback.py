"""Write-back state of a regular file: which of its data is only in memory, and what the disk holds instead.

Programs see the contents in memory. In addition this module keeps what would be left after a power failure: the size on
disk, and the old bytes of each page that was overwritten since the last sync.
"""

from __future__ import annotations

from simloop.kernel.files.contents import PAGE, Contents, pages
from simloop.kernel.files.intervals import Intervals


class WriteBack:
    """Write-back state of one file: its dirty pages (those that were not written to disk yet), and what the disk holds
    instead."""

    __slots__ = ("_old_pages", "dirty", "disk_size", "failed_pages", "since_ns")

    def __init__(self, size: int) -> None:
        self.disk_size = size
        #: Time in nanoseconds at which the first of the dirty pages was written.
        self.since_ns = 0
        #: Pages that were written since the last sync.
        self.dirty = Intervals()
        #: Pages that could not be written to disk. Linux marks them clean nevertheless, so that no later fsync(2)
        #: writes them (https://lwn.net/Articles/752063/), and after a power failure they have their old contents.
        self.failed_pages = Intervals()
        # (first page, old bytes) of dirty and failed pages inside of the size on disk, each page once.
        self._old_pages: list[tuple[int, bytes]] = []

    def __bool__(self) -> bool:
        return bool(self.dirty)

    def before_write(self, contents: Contents, start: int, end: int, now_ns: int) -> None:
        """Save the old bytes of ``[start, end)`` before they are overwritten in memory: the disk still has them, and a
        power cut leaves them."""
        first, last = start // PAGE, -(-end // PAGE)
        if not self.dirty.starts:
            self.since_ns = now_ns
        if first * PAGE < self.disk_size:
            self._preserve(contents, first, min(last, pages(self.disk_size)))
        self.dirty.add(first, last)
        if self.failed_pages.starts:
            self.failed_pages.remove(first, last)

    def _preserve(self, contents: Contents, first: int, last: int) -> None:
        for low, high in self.dirty.gaps(first, last):
            # Of a failed page the old bytes are kept already.
            for gap in self.failed_pages.gaps(low, high) if self.failed_pages else ((low, high),):
                # Of a hole the disk holds nothing.
                for start, end in contents.allocated.within(*gap):
                    size = min(end * PAGE, self.disk_size) - start * PAGE
                    self._old_pages.append((start, contents.read(start * PAGE, size)))

    def disk_pages(self) -> dict[int, bytes]:
        """Return the bytes that the disk holds of each dirty or failed page, by page number, without holes and pages
        beyond the size on disk."""
        found: dict[int, bytes] = {}
        for first, data in self._old_pages:
            for at in range(0, len(data), PAGE):
                found[first + at // PAGE] = data[at : at + PAGE]
        return found

    def dirty_bytes(self) -> int:
        """Return the number of bytes that have to be written to disk."""
        return self.dirty.total() * PAGE

    def mark_clean(self, contents: Contents) -> None:
        """Mark the dirty pages, and the size, as written to disk."""
        self.disk_size = contents.size
        self.dirty.clear()
        self._keep_old_pages(self.failed_pages)

    def mark_durable(self, contents: Contents) -> None:
        """Mark everything in memory as on disk, including failed pages."""
        self.failed_pages.clear()
        self.mark_clean(contents)

    def mark_failed(self) -> None:
        """Mark the dirty pages as failed instead of dirty: they could not be written."""
        for low, high in self.dirty:
            self.failed_pages.add(low, high)
        self.dirty.clear()

    def mark_flushed(self, ranges: Intervals, size: int) -> None:
        """Mark the pages in `ranges`, and the size, as on disk."""
        for low, high in ranges:
            self.dirty.remove(low, high)
        self.disk_size = max(self.disk_size, size)
        kept = self.dirty.copy()
        for low, high in self.failed_pages:
            kept.add(low, high)
        self._keep_old_pages(kept)

    def _keep_old_pages(self, ranges: Intervals) -> None:
        if not self._old_pages:
            return
        disk_pages = self.disk_pages() if ranges else {}
        self._old_pages = [(page, data) for page, data in disk_pages.items() if page in ranges]

    def truncate(self, contents: Contents, size: int) -> list[tuple[int, bytes]]:
        """Prepare for truncating the file to `size`, which is less than its size on disk. Returns the old pages from
        there on, as (page number, bytes), to be restored if the truncation never reaches the disk."""
        first, on_disk = size // PAGE, pages(self.disk_size)
        self._preserve(contents, first, on_disk)
        disk_pages = self.disk_pages()
        gone = [(page, data) for page, data in sorted(disk_pages.items()) if page >= first]
        # The page in which it ends stays, up to there.
        end = pages(size)
        for ranges in (self.dirty, self.failed_pages):
            ranges.remove(end, max(on_disk, pages(contents.size)))
        self._old_pages = [(page, data) for page, data in disk_pages.items() if page < end]
        if end > first:
            self._trim(first, size)
        self.disk_size = size
        return gone

    def _trim(self, page: int, size: int) -> None:
        keep = page in self.dirty or page in self.failed_pages
        self._old_pages = [
            (number, data[: size - page * PAGE] if number == page else data)
            for number, data in self._old_pages
            if number != page or keep
        ]

    def invalidate(self, first: int, last: int) -> None:
        """Drop the state of the pages from `first` up to, but not including, `last`, with their old bytes."""
        self.dirty.remove(first, last)
        self.failed_pages.remove(first, last)
        self._old_pages = [(page, data) for page, data in self.disk_pages().items() if not first <= page < last]
