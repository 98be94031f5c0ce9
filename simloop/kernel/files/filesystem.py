"""Overlay file system of one host: real files as the lower layer, changes of this world as the upper one, which has a
journal and a disk."""

from __future__ import annotations

import errno
import os
import stat as _stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from simloop.kernel.errors import fail
from simloop.kernel.files.contents import PAGE, pages
from simloop.kernel.files.disk import WRITEBACK_NS, Disk
from simloop.kernel.files.inodes import Directory, Inode, Regular, Special, Symlink
from simloop.kernel.files.journal import Change, Forced, Journal, Operation, SizeChange

if TYPE_CHECKING:
    from simloop.kernel.files.lower import LowerLayer
    from simloop.kernel.ipc.pipes import Pipe
    from simloop.kernel.wall import WallClock

# The first partition of the first disk, as Linux numbers them (8 is sd in its devices.txt).
_FIRST_DEVICE = os.makedev(8, 1)
# ext4's root has the number 2; the ones below 11 are reserved (ext4.h, EXT4_ROOT_INO and EXT4_GOOD_OLD_FIRST_INO).
_ROOT_INO, _FIRST_INO = 2, 11
_SIZE_MAX = 0xFFFF_FFFF * PAGE


class ChangeObserver(Protocol):
    """Structural type of an observer that is notified of changes of files."""

    def changed(self, what: Inode | Change) -> None: ...


class FileSystem:
    """Overlay file system of one host: the real files, with the changes that were made in this world.

    `lower` is the layer of real files, which are never written; if it is None, the file system starts with an empty
    root directory. `name` is the host's name, for choice points. ``entropy(n)`` returns n random bytes for
    ``/dev/urandom``.
    """

    def __init__(
        self,
        wall: WallClock,
        lower: LowerLayer | None = None,
        *,
        name: str = "localhost",
        disk: Disk | None = None,
        entropy: Callable[[int], bytes] = bytes,
    ) -> None:
        self.name = name
        self.disk = disk or Disk()
        self.entropy = entropy
        self.journal = Journal()
        #: Pipes of the open fifos, by inode number.
        self.pipes: dict[int, Pipe] = {}
        #: Files that were written in this world, by inode number.
        self.written: dict[int, Regular] = {}
        #: Function that is called as ``on_change(what, after)`` before each change (`after` is False), and again at the
        #: end of the system call that made it (`after` is True).
        self.on_change: Callable[[str, bool], None] | None = None
        self._change = ""
        self.observer: ChangeObserver | None = None
        self._wall = wall
        self._lower = lower
        self._ino = 0
        self._devices: dict[int, int] = {}
        # Real files with several names, by what the real disk calls them.
        self._linked: dict[tuple[int, int], Inode] = {}
        self._orphans: dict[int, Regular] = {}
        self.root = self._make_root()
        self._ino = _FIRST_INO - 1

    def _make_root(self) -> Directory:
        self._ino = _ROOT_INO - 1
        found = self._lower.stat("/") if self._lower is not None else None
        if found is None:
            root = Directory(self, _stat.S_IFDIR | 0o755, self._device(0), None)
            root.nlink = 2
            return root
        root = Directory(self, found.st_mode, self._device(found.st_dev), None, "/")
        _take_over(root, found)
        return root

    # --- what inodes ask ------------------------------------------------------------------------------

    def next_ino(self) -> int:
        """Return a new inode number. Inodes are numbered in the order in which they are created or first looked up."""
        self._ino += 1
        return self._ino

    def now(self) -> int:
        """Return the time of the wall clock in nanoseconds. Unlike a program's reading of the clock, this takes no
        virtual time."""
        return self._wall.now

    @property
    def uptime_ns(self) -> int:
        """Nanoseconds since the machine was booted."""
        return self._wall.uptime

    @staticmethod
    def encode(name: str) -> bytes:
        """Return a file name encoded as bytes, as stored on disk."""
        return os.fsencode(name)

    def _device(self, real: int) -> int:
        return self._devices.setdefault(real, _FIRST_DEVICE + len(self._devices))

    def lower_contents(self, path: str) -> bytes:
        """Return the contents of a real file."""
        assert self._lower is not None
        return self._lower.contents(path)

    def lower_names(self, path: str) -> list[str]:
        """Return the names in a real directory."""
        assert self._lower is not None
        return self._lower.names(path)

    def from_lower(self, directory: Directory, name: str, path: str) -> Inode | None:
        """Return a new inode for a real file, when its name is first looked up; None if there is no such file.

        `directory` and `name` are its place in this file system, `path` is its real path.
        """
        assert self._lower is not None
        found = self._lower.stat(path)
        if found is None:
            return None
        shared = found.st_nlink > 1 and not _stat.S_ISDIR(found.st_mode)
        key = (found.st_dev, found.st_ino)
        if shared and key in self._linked:
            return self._linked[key]
        mode, dev = found.st_mode, self._device(found.st_dev)
        inode: Inode
        if _stat.S_ISREG(mode):
            inode = Regular(self, mode, dev, path, found.st_size)
        elif _stat.S_ISDIR(mode):
            inode = Directory(self, mode, dev, directory, path)
        elif _stat.S_ISLNK(mode):
            inode = Symlink(self, mode, dev, self._lower.target(path))
        else:
            inode = Special(self, mode, dev, real=True)
        _take_over(inode, found)
        inode.home = (directory, name)
        if shared:
            self._linked[key] = inode
        return inode

    # --- changing what is in a file -------------------------------------------------------------------

    def prepare_change(self, file: Regular) -> None:
        """Prepare a change of `file`. Before the first one, it is copied up: this world then has its own copy. Before
        later ones, dirty pages that are old enough are written back."""
        writeback = file.writeback
        if file.ino not in self.written:
            self.written[file.ino] = file
            file.contents  # noqa: B018  read now what the lower layer has
        elif writeback.dirty and self.disk.journals and self.now() - writeback.since_ns > WRITEBACK_NS:
            writeback.mark_clean(file.contents)

    def write(self, file: Regular, start: int, data: memoryview) -> None:
        """Write `data` at position `start`, which makes pages dirty. The caller has checked permissions and free
        space."""
        if self.on_change is not None:
            self._changing(f"writing to {file.path}")
        if self.observer is not None:
            self.observer.changed(file)
        now, writeback = self.now(), file.writeback
        if file.ino not in self.written or now - writeback.since_ns > WRITEBACK_NS:
            self.prepare_change(file)
        contents, size = file.contents, len(data)
        writeback.before_write(contents, start, start + size, now)
        contents.write(start, data)
        file.mtime = file.ctime = now
        timing = self.disk.timing
        self.disk.deferred_ns += timing.call_ns + timing.copy_ns(size)

    def truncate(self, file: Regular, size: int, path: str) -> None:
        """Set the size of `file`: truncate it, or extend it by a hole. `path` is matched against injected faults."""
        self.disk.check("truncate", path)
        if size > _SIZE_MAX:
            raise fail(errno.EFBIG)
        self.prepare_change(file)
        self.journal.commit_forced(file)
        contents, writeback = file.contents, file.writeback
        if size < writeback.disk_size or size > contents.size:
            self.note(SizeChange(file, size))
        elif size < contents.size:
            if self.on_change is not None:
                self._changing(f"changing the size of {file.path}")
            writeback.invalidate(pages(size), pages(contents.size))
        contents.resize(size)
        file.modified()

    # --- space ----------------------------------------------------------------------------------------

    def used(self) -> int:
        """Return the number of bytes that files written in this world occupy."""
        return PAGE * sum(file.contents.blocks for file in self.written.values() if file.nlink > 0 or file.opens)

    def room(self, file: Regular, start: int, count: int) -> int:
        """Return how many of `count` bytes can be written at position `start` until the disk is full. Raises `OSError`
        (ENOSPC) if none."""
        contents = file.contents
        first, last = start // PAGE, pages(start + count)
        needed = [
            (low, high)
            for gap in contents.allocated.gaps(first, last)
            for low, high in contents.reserved.gaps(*gap)
        ]  # fmt: skip
        free = self.disk.need(PAGE * sum(high - low for low, high in needed), self.used()) // PAGE if needed else 0
        for low, high in needed:
            if high - low > free:
                return max(0, (low + free) * PAGE - start) or self._full()
            free -= high - low
        return count

    def _full(self) -> int:
        raise fail(errno.ENOSPC)

    def released(self, file: Regular) -> None:
        """Free the space of `file`, which has no name and no descriptor left, once its removal is on disk."""
        if file.ino in self.written:
            self._orphans[file.ino] = file
            self._prune()

    def _prune(self) -> None:
        # As long as its removal is not on disk, a power cut may bring it back.
        if self._orphans and not self.journal.operations:
            for ino in self._orphans:
                self.written.pop(ino, None)
            self._orphans.clear()

    # --- what is on disk ------------------------------------------------------------------------------

    def note(self, *changes: Change, forced: Forced | None = None) -> None:
        """Add an operation to the journal: changes that are about to be made in memory by one call, and are not on disk
        yet."""
        if self.on_change is not None:
            self._changing(str(Operation(0, changes, forced)))
        if self.observer is not None:
            for change in changes:
                self.observer.changed(change)
        self.disk.deferred_ns += self.disk.timing.call_ns
        self.journal.add(self.now(), *changes, forced=forced)

    def _changing(self, what: str) -> None:
        assert self.on_change is not None
        self._change = what
        self.on_change(what, False)

    def report_change(self) -> None:
        """Report the last change that a system call has made, if any, to `on_change`, at the end of the call."""
        change, self._change = self._change, ""
        if change and self.on_change is not None:
            self.on_change(change, True)

    def sync_file(self, file: Regular, *, data_only: bool) -> None:
        """Flush a regular file to disk, as fsync(2) does, or fdatasync(2) if `data_only` is True."""
        if self.on_change is not None:
            self._changing(f"syncing {file.path}")
        writeback, journal = file.writeback, self.journal
        if file.ino in self.written:
            waiting = writeback.dirty_bytes()
            # Data alone are enough where no other block and no size goes with them (ext4_sync_file(), i_datasync_tid).
            whole = not data_only or file.contents.size != writeback.disk_size or journal.concerns(file)
            writeback.mark_clean(file.contents)
        else:
            waiting, whole = 0, not data_only or journal.concerns(file)
        self._flush(file, waiting, whole)

    def sync_other(self, inode: Inode) -> None:
        """Flush a directory to disk, as fsync(2) does: its entries are durable then."""
        if self.on_change is not None:
            self._changing(f"syncing {inode.path}")
        self._flush(inode, 0, True)

    def _flush(self, inode: Inode, waiting: int, whole: bool) -> None:
        timing, journal = self.disk.timing, self.journal
        if waiting or (whole and journal.operations):
            self.disk.deferred_ns += timing.flush_latency_ns + timing.transfer_ns(waiting)
        if not self.disk.journals:
            journal.settle(inode)
        elif whole:
            journal.commit()
        self._prune()

    def sync_all(self) -> None:
        """Flush everything to disk, as sync(2) does."""
        if self.on_change is not None:
            self._changing("syncing all files")
        timing = self.disk.timing
        waiting = 0
        for file in self.written.values():
            waiting += file.writeback.dirty_bytes()
            file.writeback.mark_clean(file.contents)
        self.journal.commit()
        self._prune()
        self.disk.deferred_ns += timing.call_ns + timing.flush_latency_ns + timing.transfer_ns(waiting)

    def close(self) -> None:
        """Break reference cycles at the end of the world, so that memory is freed at once, not by the garbage
        collector."""
        waiting: list[Inode] = [self.root]
        while waiting:
            inode = waiting.pop()
            inode.home = None
            if isinstance(inode, Directory):
                waiting += inode.forget()
        vars(self).clear()

    def restarted(self) -> None:
        """Drop everything that does not survive a restart of the machine: page cache, fifo contents and locks."""
        self.disk.deferred_ns = 0
        self._orphans.clear()
        self.pipes.clear()
        self.written = {ino: file for ino, file in self.written.items() if file.nlink > 0}
        for file in self.written.values():
            file.cached = False
            file.locks = None
            file.errors = 0


def _take_over(inode: Inode, found: os.stat_result) -> None:
    inode.nlink = found.st_nlink
    inode.uid, inode.gid = found.st_uid, found.st_gid
    inode.atime, inode.mtime, inode.ctime = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns
    inode.rdev = found.st_rdev
