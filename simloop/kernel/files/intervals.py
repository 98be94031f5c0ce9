"""Sets of integers stored as ranges, used for page numbers: the dirty, allocated or failed pages of a file."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Intervals:
    """Set of integers, stored as sorted, disjoint, non-adjacent half-open ranges.

    Files are mostly written from start to end, so adding a range at or after the end of the last one needs no search.
    """

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        #: Starts of the ranges. Testing if this list is empty is faster than ``bool()`` of the set.
        self.starts: list[int] = []
        self.ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(list(self.starts), list(self.ends), strict=True)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.starts, number) - 1
        return at >= 0 and number < self.ends[at]

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{start}..{end}" for start, end in self) + "}"

    def total(self) -> int:
        """Return the number of integers in the set."""
        return sum(self.ends) - sum(self.starts)

    def copy(self) -> Intervals:
        """Return a copy of the set."""
        other = Intervals()
        other.starts, other.ends = self.starts.copy(), self.ends.copy()
        return other

    def clear(self) -> None:
        """Remove everything from the set."""
        self.starts.clear()
        self.ends.clear()

    def add(self, start: int, end: int) -> None:
        """Add the integers of ``[start, end)``."""
        if start >= end:
            return
        starts, ends = self.starts, self.ends
        if not starts or start > ends[-1]:
            starts.append(start)
            ends.append(end)
            return
        if start >= starts[-1]:
            if end > ends[-1]:
                ends[-1] = end
            return
        # All ranges that touch the new one become one with it.
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Remove the integers of ``[start, end)``."""
        if start >= end or not self.starts:
            return
        first = bisect_right(self.ends, start)
        last = bisect_left(self.starts, end)
        if first >= last:
            return
        left, right = self.starts[first], self.ends[last - 1]
        kept = [(low, high) for low, high in ((left, start), (end, right)) if low < high]
        self.starts[first:last] = [low for low, _ in kept]
        self.ends[first:last] = [high for _, high in kept]

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the intersection with ``[start, end)``, as a list of half-open ranges."""
        first = bisect_right(self.ends, start)
        found = []
        for at in range(first, len(self.starts)):
            if self.starts[at] >= end:
                break
            found.append((max(start, self.starts[at]), min(end, self.ends[at])))
        return found

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of ``[start, end)`` that are not in the set, as a list of half-open ranges."""
        found = []
        for low, high in self.within(start, end):
            if start < low:
                found.append((start, low))
            start = high
        if start < end:
            found.append((start, end))
        return found
