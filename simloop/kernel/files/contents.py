"""Contents of a regular file in memory: a sparse array of bytes, which may have holes."""

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
    """Return the number of pages that `size` bytes occupy."""
    return -(-size // PAGE)


class Contents:
    """Sparse array of bytes of one file, stored in chunks. A missing chunk, or the missing end of a short one, reads as
    zeros.

    Chunks of real files are `bytes`, shared by all hosts, until they are written. The first chunk grows with the file;
    all others are allocated at full size.
    """

    __slots__ = ("_chunks", "allocated", "reserved", "size")

    def __init__(self, data: bytes = b"") -> None:
        self._chunks: dict[int, bytes | bytearray | mmap] = {}
        self.size = len(data)
        #: Pages that hold data, and pages that were reserved by fallocate(2) but not written.
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
        """Yield, for each chunk in ``[start, start + count)``, its number, and start and end of the range within it."""
        end = start + count
        while start < end:
            number, low = divmod(start, CHUNK)
            high = min(CHUNK, low + end - start)
            yield number, low, high
            start += high - low

    def read(self, start: int, count: int) -> bytes:
        """Return up to `count` bytes from position `start`."""
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
        """Read from position `start` into a buffer. Returns the number of bytes read."""
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
        """Write bytes at position `start`, which may be beyond the end."""
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
        """Return a writable copy of `data`, the chunk with this number."""
        if not number:
            return bytearray(data)
        chunk = mmap(-1, CHUNK, flags=_AT_ONCE)
        chunk[: len(data)] = data
        return chunk

    def resize(self, size: int) -> None:
        """Set the size: truncate the contents, or extend them by a hole."""
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
        """Punch a hole: deallocate a page, which reads as zeros from now on."""
        number, low = divmod(page * PAGE, CHUNK)
        chunk = self._chunks.get(number)
        if chunk is not None and len(chunk) > low:
            changed = bytearray(chunk)
            end = min(len(chunk), low + PAGE)
            changed[low:end] = bytes(end - low)
            self._chunks[number] = changed
        self.allocated.remove(page, page + 1)

    def spoil(self, at: int) -> None:
        """Flip a bit of the byte at position `at`, as a failing disk does silently."""
        if at < self.size:
            (byte,) = self.read(at, 1)
            self.write(at, memoryview(bytes([byte ^ 1])))

    def reserve(self, start: int, end: int) -> None:
        """Reserve the pages of ``[start, end)`` that hold no data, as fallocate(2) does."""
        for low, high in self.allocated.gaps(start // PAGE, pages(end)):
            self.reserved.add(low, high)

    def next_data(self, offset: int) -> int | None:
        """Return the position of the first byte at or after `offset` that is not in a hole (SEEK_DATA); None if there
        is none."""
        for low, _ in self.allocated.within(offset // PAGE, pages(self.size)):
            return max(offset, low * PAGE)
        return None

    def next_hole(self, offset: int) -> int:
        """Return the position of the first byte at or after `offset` that is in a hole (SEEK_HOLE). The end of the file
        counts as one."""
        for low, _ in self.allocated.gaps(offset // PAGE, pages(self.size)):
            return max(offset, low * PAGE)
        return self.size
