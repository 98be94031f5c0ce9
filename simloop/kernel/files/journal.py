"""Metadata journal: changes of names, sizes and attributes that are not on disk yet. Each can be reverted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from simloop.kernel.files.contents import PAGE, pages

if TYPE_CHECKING:
    from simloop.kernel.files.inodes import Directory, Inode, Regular, Volume
    from simloop.kernel.files.intervals import Intervals

# A bound on memory: beyond it the oldest operations count as written, as they are on a busy disk.
OPERATIONS_MAX = 20_000


class Change:
    """Base class of changes of a file system that are parts of a journalled operation, and can be reverted."""

    __slots__ = ("inode",)

    def __init__(self, inode: Inode) -> None:
        #: File or directory for which fsync(2) writes the change to disk, on any file system.
        self.inode = inode

    @property
    def fs(self) -> Volume:
        """File system in which the change was made."""
        return self.inode.fs

    @property
    def subject(self) -> int | str:
        """Identity of what was changed: the number of an inode, or the path of a directory entry."""
        return self.inode.ino

    def revert(self) -> None:
        """Undo the change. Several changes of one subject have to be undone from the last to the first."""
        raise NotImplementedError


class EntryChange(Change):
    """Change of a directory entry: its inode is `after` instead of `before`, either of which may be None for no
    entry."""

    __slots__ = ("after", "before", "name")

    inode: Directory

    def __init__(self, directory: Directory, name: str, before: Inode | None, after: Inode | None) -> None:
        super().__init__(directory)
        self.name = name
        self.before = before
        self.after = after

    @property
    def subject(self) -> str:
        return self.path

    @property
    def path(self) -> str:
        """Path of the directory entry."""
        return f"{self.inode.path.rstrip('/')}/{self.name}"

    def revert(self) -> None:
        self.inode.set(self.name, self.before)


class AttributeChange(Change):
    """Change of an inode's mode, owner or times."""

    __slots__ = ("_before",)

    def __init__(self, inode: Inode) -> None:
        """Save the current attributes. Must be called before they are changed."""
        super().__init__(inode)
        self._before = inode.mode, inode.uid, inode.gid, inode.atime, inode.mtime

    def revert(self) -> None:
        inode = self.inode
        inode.mode, inode.uid, inode.gid, inode.atime, inode.mtime = self._before


class SizeChange(Change):
    """Change of a file's size by truncating it, or by extending it with a hole (not by writing data)."""

    __slots__ = ("_cuts", "_disk_size", "_gone", "_new", "_old")

    inode: Regular

    def __init__(self, file: Regular, new: int) -> None:
        """Save the current size. Must be called before it is changed."""
        super().__init__(file)
        self._old, self._new = file.contents.size, new
        self._disk_size = file.writeback.disk_size
        #: True if data that is on disk is cut off.
        self._cuts = new < self._disk_size
        self._gone = file.writeback.truncate(file.contents, new) if self._cuts else []
        if new > self._disk_size:
            file.writeback.disk_size = new

    def revert(self) -> None:
        contents, writeback = self.inode.contents, self.inode.writeback
        # All that came behind the cut, or behind the old end, came after this.
        end = min(self._old, self._new)
        first = end // PAGE if self._cuts else pages(end)
        writeback.invalidate(first, max(pages(contents.size), first))
        contents.resize(min(contents.size, end))
        for page, data in self._gone:
            contents.write(page * PAGE, memoryview(data))
        if self._cuts:
            contents.resize(self._disk_size)
        writeback.disk_size = self._disk_size


class Forced(NamedTuple):
    """Data of a file that reaches the disk together with an operation (auto_da_alloc of ext4)."""

    file: Regular
    pages: Intervals
    size: int


class Operation(NamedTuple):
    """Journal entry: the changes made by one system call. It reaches the disk as a whole, or not at all."""

    time_ns: int
    changes: tuple[Change, ...]
    forced: Forced | None

    def revert(self) -> None:
        """Undo all changes of the operation."""
        for change in reversed(self.changes):
            change.revert()

    def __str__(self) -> str:
        """Return the operation as a phrase for reports, such as "renaming a to b"."""
        names = [change for change in self.changes if isinstance(change, EntryChange)]
        if len(names) == 2:
            return f"renaming {names[0].path} to {names[1].path}"
        change = self.changes[0]
        if isinstance(change, EntryChange):
            return f"{'removing' if change.after is None else 'making'} {change.path}"
        what = "the size" if isinstance(change, SizeChange) else "attributes"
        return f"changing {what} of {change.inode.path}"

    def force(self) -> None:
        """Mark the data that reaches the disk together with the operation (`Forced`) as on disk."""
        if self.forced is not None:
            self.forced.file.writeback.mark_flushed(self.forced.pages, self.forced.size)


class Journal:
    """Journal of one file system: the operations that are not on disk yet, in order."""

    __slots__ = ("operations",)

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(self, time_ns: int, *changes: Change, forced: Forced | None = None) -> None:
        """Append an operation."""
        self.operations.append(Operation(time_ns, changes, forced))
        if len(self.operations) > OPERATIONS_MAX:
            self.commit(OPERATIONS_MAX // 2)

    def commit(self, count: int | None = None) -> None:
        """Commit the first `count` operations, or all if that is None: they are on disk then."""
        done = self.operations[:count]
        del self.operations[:count]
        for operation in done:
            operation.force()

    def commit_until(self, time_ns: int) -> None:
        """Commit the operations that were made at or before `time_ns`."""
        count = sum(operation.time_ns <= time_ns for operation in self.operations)
        if count:
            self.commit(count)

    def commit_forced(self, file: Regular) -> None:
        """Commit the operations up to the last one by which data of `file` is forced to disk (`Forced`), if there is
        one."""
        for at in range(len(self.operations) - 1, -1, -1):
            forced = self.operations[at].forced
            if forced is not None and forced.file is file:
                self.commit(at + 1)
                return

    def concerns(self, inode: Inode) -> bool:
        """Return True if the journal has a change of `inode`, or of a directory entry for it."""
        return any(
            change.inode is inode or (isinstance(change, EntryChange) and change.after is inode)
            for change in self.changes()
        )

    def changes(self) -> Iterator[Change]:
        """Yield the changes of all operations, in order."""
        for operation in self.operations:
            yield from operation.changes

    def settle(self, inode: Inode) -> None:
        """Drop the changes of `inode` (of a directory: those of its entries), since they are on disk."""
        rest = []
        for operation in self.operations:
            changes = tuple(change for change in operation.changes if change.inode is not inode)
            if changes:
                rest.append(operation._replace(changes=changes))
        self.operations = rest
