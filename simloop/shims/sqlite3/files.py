"""Files of SQLite on the simulated disk: the system calls that SQLite's unix VFS makes, made on the simulated kernel.

The comments name the functions in src/os_unix.c of SQLite 3.40 that are followed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat as _stat
from typing import TYPE_CHECKING

from simloop.kernel.errors import fail
from simloop.kernel.files.description import Description
from simloop.kernel.files.devices import UnsimulatedFileError
from simloop.kernel.process.process import ProcessGone
from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.files.calls import FileCalls
    from simloop.world.world import World

# From sqlite3.h: flags for files in the xOpen method, and the levels of locks.
READONLY, READWRITE, CREATE, DELETE_ON_CLOSE, EXCLUSIVE = 0x1, 0x2, 0x4, 0x8, 0x10
MAIN_JOURNAL, SUPER_JOURNAL, WAL = 0x800, 0x4000, 0x80000
UNLOCKED, SHARED_LOCK, RESERVED_LOCK, PENDING_LOCK, EXCLUSIVE_LOCK = range(5)
# Bytes of a database file that are locked (src/os.h; https://www.sqlite.org/lockingv3.html).
_PENDING, _RESERVED, _SHARED, _SHARED_SIZE = 0x4000_0000, 0x4000_0001, 0x4000_0002, 510
# SQLITE_DEFAULT_FILE_PERMISSIONS.
_MODE = 0o644
# unixTempFileDir(), but for the variables of the environment.
_TEMPORARY = ("/var/tmp", "/usr/tmp", "/tmp", ".")
_LINKS_MAX = 200


class ErrorCode(Exception):
    """Raised with a result code of SQLite, for failures that the unix VFS itself detects."""

    def __init__(self, code: int) -> None:
        self.code = code


class DatabaseFile:
    """Open file of SQLite (a database, a journal or a temporary file) in the simulated process that opened it."""

    def __init__(self, world: World, description: Description, path: str) -> None:
        self.world: World | None = world
        self.process = world.current
        self.path = path
        self._description = description
        self._fd = world.current.open(description)
        #: Level of the lock that is held: one of SQLite's five.
        self.level = UNLOCKED
        #: True until the directory in which the file was created has been synced.
        self.is_new = False

    def _file(self) -> Description:
        """Return the open file description. Fails if its process has ended."""
        world = self.world
        if world is None or active.here() is not world:
            raise fail(errno.EBADF)
        if not self.process.alive and world.current is self.process:
            raise ProcessGone
        if self.process.files.get(self._fd) is not self._description:
            raise fail(errno.EBADF)
        return self._description

    def close(self) -> None:
        """Close the file, which releases its locks. Does nothing if its process or world has ended."""
        world, self.world = self.world, None
        process = self.process
        if world is None or active.entered is not world or not process.alive:
            return
        if process.files.get(self._fd) is self._description:
            process.close(self._fd)

    def read(self, count: int, offset: int) -> bytes:
        """Return `count` bytes from `offset` on, fewer only at the end of the file."""
        file = self._file()
        data = file.pread(count, offset)
        while data and len(data) < count and (more := file.pread(count - len(data), offset + len(data))):
            data += more
        return data

    def write(self, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        file, view = self._file(), memoryview(data)
        while view:
            count = file.pwrite(view, offset)
            view, offset = view[count:], offset + count

    def truncate(self, size: int) -> None:
        """Set the size of the file."""
        self._file().truncate(size)

    def size(self) -> int:
        """Return the size of the file."""
        return self._file().stat().size

    def sync(self) -> None:
        """Flush the file to disk, and for a new journal also its directory."""
        # full_fsync() calls fdatasync(2), whatever SQLite asks for.
        self._file().sync(data_only=True)
        if self.is_new:
            assert self.world is not None
            sync_directory(self.world.files(), self.path)
            self.is_new = False

    def has_moved(self) -> bool:
        """Return True if the file's name was removed, or now belongs to another file."""
        file = self._file()
        assert self.world is not None
        try:
            return self.world.files(self.process).stat(self.path).ino != file.inode.ino
        except OSError:
            return True

    # --- locks: those of unixLock(), but each open file has its own, as F_OFD_SETLK of fcntl(2) gives them --------

    def lock(self, level: int) -> None:
        """Raise the lock to one of SQLite's five levels, or fail with EAGAIN."""
        if self.level >= level:
            return
        file = self._file()
        locks = file.locks
        if level == SHARED_LOCK:
            locks.lock(file, False, _PENDING, 1)
            try:
                locks.lock(file, False, _SHARED, _SHARED_SIZE)
            finally:
                locks.unlock(file, _PENDING, 1)
        elif level == RESERVED_LOCK:
            locks.lock(file, True, _RESERVED, 1)
        else:
            if self.level < PENDING_LOCK:
                locks.lock(file, True, _PENDING, 1)
                self.level = PENDING_LOCK
            locks.lock(file, True, _SHARED, _SHARED_SIZE)
        self.level = level

    def unlock(self, level: int) -> None:
        """Lower the lock to a level: unlocked or shared."""
        if self.level <= level:
            return
        file = self._file()
        locks = file.locks
        if level == SHARED_LOCK:
            locks.lock(file, False, _SHARED, _SHARED_SIZE)
            locks.unlock(file, _PENDING, 2)
        else:
            locks.unlock(file, _PENDING, 2 + _SHARED_SIZE)
        self.level = level

    def is_reserved(self) -> bool:
        """Return True if any process holds a higher lock than a shared one, because it is about to write."""
        file = self._file()
        if self.level > SHARED_LOCK:
            return True
        return file.locks.conflict(file, True, _RESERVED, _RESERVED + 1) is not None


def open_file(world: World, path: str | None, flags: int) -> tuple[DatabaseFile, int]:
    """Open a file as unixOpen() does, a temporary one if `path` is None. Return the file and its flags, which differ
    from the requested ones if it could only be opened for reading."""
    calls = world.files()
    name = path or _temporary_name(world, calls)
    journal = bool(flags & CREATE and flags & (MAIN_JOURNAL | SUPER_JOURNAL | WAL))
    mode = _mode(calls, name, flags)
    how = os.O_RDWR if flags & READWRITE else os.O_RDONLY
    if flags & CREATE:
        how |= os.O_CREAT
    if flags & EXCLUSIVE:
        how |= os.O_EXCL | os.O_NOFOLLOW
    how |= os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            file = calls.open(name, how, mode)
        except UnsimulatedFileError:
            raise active.escape(f"the device or fifo {name!r}", "replace it in the test") from None
        except OSError as error:
            if journal and error.errno == errno.EACCES and not _exists(calls, name):
                # A hot journal that nobody can make, for a database in a directory of others.
                raise ErrorCode(sqlite3.SQLITE_READONLY_DIRECTORY) from None
            if error.errno == errno.EISDIR or not flags & READWRITE:
                raise
            flags = flags & ~(READWRITE | CREATE) | READONLY
            file = calls.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise ErrorCode(sqlite3.SQLITE_CANTOPEN) from error
    if not isinstance(file, Description):
        file.close()
        raise ErrorCode(sqlite3.SQLITE_CANTOPEN)
    opened = DatabaseFile(world, file, name)
    opened.is_new = journal
    if flags & DELETE_ON_CLOSE:
        calls.unlink(name)
    return opened, flags


def _mode(calls: FileCalls, name: str, flags: int) -> int:
    """Return the permissions for a file that is created, as findCreateFileMode() does."""
    if flags & (MAIN_JOURNAL | WAL):
        # "the permissions on a journal or WAL file are those of its database"
        try:
            return calls.stat(name.rpartition("-")[0]).mode & 0o777
        except OSError:
            return _MODE
    return 0o600 if flags & DELETE_ON_CLOSE else _MODE


def _exists(calls: FileCalls, path: str) -> bool:
    try:
        calls.stat(path)
    except OSError:
        return False
    return True


def _temporary_name(world: World, calls: FileCalls) -> str:
    for directory in _TEMPORARY:
        try:
            if _stat.S_ISDIR(calls.stat(directory).mode):
                calls.access(directory, os.W_OK | os.X_OK)
                return f"{directory}/etilqs_{world.choices.entropy.getrandbits(64):016x}"
        except OSError:
            continue
    raise ErrorCode(sqlite3.SQLITE_IOERR_GETTEMPPATH)


def sync_directory(calls: FileCalls, path: str) -> None:
    """Flush the directory that contains a file to disk, if it can be opened."""
    try:
        directory = calls.open(path.rpartition("/")[0] or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    assert isinstance(directory, Description)
    try:
        directory.sync()
    finally:
        directory.close()


def delete(world: World, path: str, *, durably: bool) -> None:
    """Remove a file as unixDelete() does."""
    calls = world.files()
    try:
        calls.unlink(path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise ErrorCode(sqlite3.SQLITE_IOERR_DELETE_NOENT) from None
        raise
    if durably:
        try:
            sync_directory(calls, path)
        except OSError:
            raise ErrorCode(sqlite3.SQLITE_IOERR_DIR_FSYNC) from None


def is_accessible(world: World, path: str, *, writable: bool) -> bool:
    """Return True if a file exists and is not empty, or with `writable`, if it can be read and written, as unixAccess()
    does."""
    calls = world.files()
    try:
        if writable:
            calls.access(path, os.R_OK | os.W_OK)
            return True
        facts = calls.stat(path)
    except OSError:
        return False
    return not _stat.S_ISREG(facts.mode) or facts.size > 0


def full_path(world: World, path: str) -> str:
    """Return the absolute path without symbolic links, as unixFullPathname() does."""
    calls = world.files()
    waiting = (path if path[:1] == "/" else f"{calls.getcwd()}/{path}").split("/")[::-1]
    found, links = "", 0
    while waiting:
        name = waiting.pop()
        if name in ("", "."):
            continue
        if name == "..":
            found = found.rpartition("/")[0]
            continue
        here = f"{found}/{name}"
        try:
            is_link = _stat.S_ISLNK(calls.stat(here, follow=False).mode)
        except FileNotFoundError:
            is_link = False
        if not is_link:
            found = here
            continue
        links += 1
        if links > _LINKS_MAX:
            raise fail(errno.ELOOP)
        target = calls.readlink(here)
        if target[:1] == "/":
            found = ""
        waiting += target.split("/")[::-1]
    return found or "/"
