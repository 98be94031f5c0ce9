"""Sparse contents of a regular file, as a program sees them: bytes, holes, size."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, mmap

from simloop.kernel.files.intervals import Intervals

PAGE = 4096
# Chunks bound what growing or first changing a large file copies, and are large enough to move at memory's speed.
CHUNK = 1 << 20


# Memory that is new costs a fault for each page that is touched, which is more than what filling it costs. Populated,
# the pages of a chunk come all at once.
_AT_ONCE = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE


def pages(size: int) -> int:
    """Return the number of pages that `size` bytes take."""
    return -(-size // PAGE)


class Contents:
    """Sparse byte array of one file, in chunks. A missing chunk, and the missing end of a short one, reads as zeros.

    Chunks of real files are `bytes`, shared by all hosts that read them, until they are written. The first chunk grows
    as the file does; all later ones have full size.
    """

    __slots__ = ("_chunks", "allocated", "reserved", "size")

    def __init__(self, data: bytes = b"") -> None:
        self._chunks: dict[int, bytes | bytearray | mmap] = {}
        self.size = len(data)
        #: Pages that hold data; those that fallocate(2) reserved and nobody wrote.
        self.allocated = Intervals()
        self.reserved = Intervals()
        if data:
            self.allocated.add(0, pages(self.size))
            view = memoryview(data)
            for start in range(0, self.size, CHUNK):
                self._chunks[start // CHUNK] = data if self.size <= CHUNK else bytes(view[start : start + CHUNK])

    @property
    def blocks(self) -> int:
        """Number of pages allocated or reserved on disk."""
        return self.allocated.total() + self.reserved.total()

    @staticmethod
    def _pieces(start: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield the chunk's number, and the range in the chunk, of each part of ``[start, start + count)``."""
        end = start + count
        while start < end:
            number, low = divmod(start, CHUNK)
            high = min(CHUNK, low + end - start)
            yield number, low, high
            start += high - low

    def read(self, start: int, count: int) -> bytes:
        """Return up to `count` bytes from `start` on."""
        count = min(count, self.size - start)
        if count <= 0:
            return b""
        number, low = divmod(start, CHUNK)
        chunk = self._chunks.get(number)
        if chunk is not None and low + count <= len(chunk):
            piece = chunk[low : low + count] if type(chunk) is not bytearray else memoryview(chunk)[low : low + count]
            return bytes(piece)
        out = bytearray(count)
        self.read_into(start, memoryview(out))
        return bytes(out)

    def read_into(self, start: int, view: memoryview) -> int:
        """Read from `start` on into a buffer of bytes. Returns the number of bytes read."""
        count = len(view)
        if start + count > self.size:
            count = self.size - start
            if count <= 0:
                return 0
            view = view[:count]
        number, low = divmod(start, CHUNK)
        chunk = self._chunks.get(number)
        if chunk is not None and low + count <= len(chunk):
            view[:] = memoryview(chunk)[low : low + count]
        else:
            self._read_pieces(start, view)
        return count

    def _read_pieces(self, start: int, view: memoryview) -> None:
        """Read a range that spans several chunks or includes holes, for `read_into`."""
        at = 0
        for number, low, high in self._pieces(start, len(view)):
            chunk = self._chunks.get(number, b"")
            there = max(0, min(high, len(chunk)) - low)
            if there:
                view[at : at + there] = memoryview(chunk)[low : low + there]
            if there < high - low:
                view[at + there : at + high - low] = bytes(high - low - there)
            at += high - low

    def write(self, start: int, data: memoryview) -> None:
        """Write bytes at `start`, which may be beyond the end."""
        size = len(data)
        end = start + size
        number, low = divmod(start, CHUNK)
        chunk = self._chunks.get(number)
        # Most writes are inside of one chunk that is all there, or go on at the end of the first one.
        if type(chunk) is mmap and low + size <= CHUNK:
            chunk[low : low + size] = data
        elif type(chunk) is bytearray and low + size <= len(chunk):
            # Not `chunk[low:high] = ...`, for which a bytearray copies the data once more on its way.
            memoryview(chunk)[low : low + size] = data
        elif type(chunk) is bytearray and low == len(chunk) <= CHUNK - size:
            chunk += data
        else:
            self._write_pieces(start, data)
        first, last = start // PAGE, -(-end // PAGE)
        self.allocated.add(first, last)
        if self.reserved.starts:
            self.reserved.remove(first, last)
        if end > self.size:
            self.size = end

    def _write_pieces(self, start: int, data: memoryview) -> None:
        at = 0
        for number, low, high in self._pieces(start, len(data)):
            chunk = self._chunks.get(number)
            if chunk is None or isinstance(chunk, bytes):
                chunk = self._chunks[number] = self._writable(number, chunk or b"")
            if isinstance(chunk, bytearray) and len(chunk) < high:
                chunk.extend(bytes(high - len(chunk)))
            memoryview(chunk)[low:high] = data[at : at + high - low]
            at += high - low

    @staticmethod
    def _writable(number: int, data: bytes) -> bytearray | mmap:
        """Return a writable chunk that begins with `data`."""
        if not number:
            return bytearray(data)
        chunk = mmap(-1, CHUNK, flags=_AT_ONCE)
        chunk[: len(data)] = data
        return chunk

    def resize(self, size: int) -> None:
        """Set the size: cut off, or grow by a hole."""
        if size < self.size:
            number, low = divmod(size, CHUNK)
            for later in [index for index in self._chunks if index > number or (index == number and not low)]:
                del self._chunks[later]
            chunk = self._chunks.get(number)
            if chunk is not None and len(chunk) > low:
                self._chunks[number] = chunk[:low]
            first, last = pages(size), pages(self.size)
            self.allocated.remove(first, last)
            self.reserved.remove(first, last)
        self.size = size

    def drop_page(self, page: int) -> None:
        """Punch a hole: the page reads as zeros."""
        number, low = divmod(page * PAGE, CHUNK)
        chunk = self._chunks.get(number)
        if chunk is not None and len(chunk) > low:
            changed = bytearray(chunk)
            end = min(len(chunk), low + PAGE)
            changed[low:end] = bytes(end - low)
            self._chunks[number] = changed
        self.allocated.remove(page, page + 1)

    def spoil(self, at: int) -> None:
        """Corrupt the byte at `at` by flipping a bit, as a failing disk does, silently."""
        if at < self.size:
            (byte,) = self.read(at, 1)
            self.write(at, memoryview(bytes([byte ^ 1])))

    def reserve(self, start: int, end: int) -> None:
        """Reserve pages for ``[start, end)``, whether written or not, as fallocate(2) does."""
        for low, high in self.allocated.gaps(start // PAGE, pages(end)):
            self.reserved.add(low, high)

    def next_data(self, offset: int) -> int | None:
        """Return the first byte at or after `offset` that is not in a hole (SEEK_DATA), if there is one."""
        for low, _ in self.allocated.within(offset // PAGE, pages(self.size)):
            return max(offset, low * PAGE)
        return None

    def next_hole(self, offset: int) -> int:
        """Return the first byte at or after `offset` that is in a hole (SEEK_HOLE); every file ends with one."""
        for low, _ in self.allocated.gaps(offset // PAGE, pages(self.size)):
            return max(offset, low * PAGE)
        return self.size
