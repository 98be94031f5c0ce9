"""The same file system calls on Linux and on the simulated kernel.

Both are raw: on the one side the functions of the module `posix`, on the other `FileCalls` and `Description`. All paths
are relative to a directory that both have open, so that results are the same text.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import posix
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from simloop.kernel.clock import Clock
from simloop.kernel.descriptors import DescriptorTable
from simloop.kernel.files.calls import FileCalls
from simloop.kernel.files.description import Description
from simloop.kernel.files.filesystem import FileSystem
from simloop.kernel.files.lower import LowerLayer
from simloop.kernel.files.resolve import Credentials
from simloop.kernel.wall import WallClock

Outcome = tuple[Any, ...]

#: Before the call on either side there are these, in the template that the simulated one lies over.
TEMPLATE: dict[str, bytes | str | None] = {
    "base": None,
    "base/a": b"alpha" * 2000,
    "base/d": None,
    "base/d/b": b"beta",
    "base/d/d": None,
    "base/e": None,
    "base/l": "a",
    "base/k": "d",
    "base/loop": "loop",
    "base/dangling": "e/new",
    "outside": b"outside",
}


def build(root: Path) -> None:
    for name, what in TEMPLATE.items():
        path = root / name
        if what is None:
            path.mkdir()
        elif isinstance(what, str):
            path.symlink_to(what)
        else:
            path.write_bytes(what)
            path.chmod(0o644)
    os.link(root / "base/a", root / "base/d/c")


NOBODY = 65534


def make(where: Path | None = None) -> Path:
    """A directory with what either side works on: ``real`` and, as long as nobody has written there, ``template``."""
    top = Path(tempfile.mkdtemp(dir=where))
    for name in ("real", "template"):
        (top / name).mkdir()
        build(top / name)
    return top


def give_to_nobody(top: Path) -> None:
    """Most of it to a user without rights. The rest stays root's: ``a``, and what is in ``e``."""
    top.chmod(0o755)
    for root in (top / "real", top / "template"):
        for name in ("base", "base/d", "base/d/b", "base/d/d"):
            os.chown(root / name, NOBODY, NOBODY)
        (root / "base/e").chmod(0o1777)
        for name, mode in (("b", 0o640), ("foreign", 0o666)):
            (root / "base/e" / name).write_bytes(b"root's")
            (root / "base/e" / name).chmod(mode)
        (root / "base/e/own").write_bytes(b"")
        os.chown(root / "base/e/own", NOBODY, NOBODY)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root is somebody else for a while."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


class RealSide:
    """Linux."""

    def __init__(self, root: Path) -> None:
        self.base = posix.open(root / "base", os.O_RDONLY | os.O_DIRECTORY)
        self._open = {self.base}
        self._umask = posix.umask(0o022)

    def finish(self) -> None:
        for fd in self._open:
            posix.close(fd)
        posix.umask(self._umask)

    def open(self, path: str, flags: int, mode: int) -> int:
        fd = posix.open(path, flags, mode, dir_fd=self.base)
        self._open.add(fd)
        return fd

    def dup(self, fd: int) -> int:
        copy = posix.dup(fd)
        self._open.add(copy)
        return copy

    def close(self, fd: int) -> None:
        posix.close(fd)
        self._open.discard(fd)

    def stat(self, path: str, follow: bool) -> Any:
        return facts(posix.stat(path, dir_fd=self.base, follow_symlinks=follow))

    def fstat(self, fd: int) -> Any:
        return facts(posix.fstat(fd))

    def rename(self, old: str, new: str) -> None:
        posix.rename(old, new, src_dir_fd=self.base, dst_dir_fd=self.base)

    def link(self, old: str, new: str, follow: bool) -> None:
        posix.link(old, new, src_dir_fd=self.base, dst_dir_fd=self.base, follow_symlinks=follow)

    def symlink(self, target: str, path: str) -> None:
        posix.symlink(target, path, dir_fd=self.base)

    def mkdir(self, path: str, mode: int) -> None:
        posix.mkdir(path, mode, dir_fd=self.base)

    def rmdir(self, path: str) -> None:
        posix.rmdir(path, dir_fd=self.base)

    def unlink(self, path: str) -> None:
        posix.unlink(path, dir_fd=self.base)

    def readlink(self, path: str) -> str:
        return posix.readlink(path, dir_fd=self.base)

    def chmod(self, path: str, mode: int) -> None:
        posix.chmod(path, mode, dir_fd=self.base)

    def fchmod(self, fd: int, mode: int) -> None:
        posix.fchmod(fd, mode)

    def utime(self, path: str, times: tuple[int, int] | None, follow: bool) -> None:
        if times is None:
            posix.utime(path, dir_fd=self.base, follow_symlinks=follow)
        else:
            posix.utime(path, ns=times, dir_fd=self.base, follow_symlinks=follow)

    def truncate(self, path: str, size: int) -> None:
        # truncate(2) takes no directory: the way through /proc leads to the same file.
        posix.truncate(f"/proc/self/fd/{self.base}/{path}" if path else "", size)

    def access(self, path: str, mode: int) -> bool:
        return posix.access(path, mode, dir_fd=self.base, effective_ids=True)

    def listdir(self, path: str) -> list[str]:
        fd = posix.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.base)
        try:
            return sorted(posix.listdir(fd))
        finally:
            posix.close(fd)

    def listdir_fd(self, fd: int) -> list[str]:
        return sorted(posix.listdir(fd))

    umask = staticmethod(posix.umask)
    read = staticmethod(posix.read)
    pread = staticmethod(posix.pread)
    write = staticmethod(posix.write)
    pwrite = staticmethod(posix.pwrite)
    lseek = staticmethod(posix.lseek)
    ftruncate = staticmethod(posix.ftruncate)
    fallocate = staticmethod(posix.posix_fallocate)
    fsync = staticmethod(posix.fsync)
    fdatasync = staticmethod(posix.fdatasync)
    flock = staticmethod(fcntl.flock)


class SimSide:
    """A simulated host, over a real directory that stays as it is."""

    def __init__(self, root: Path, credentials: Credentials) -> None:
        self.fs = FileSystem(WallClock(Clock()), LowerLayer())
        self.descriptors = DescriptorTable()
        self.calls = FileCalls(self.fs, self.descriptors, credentials)
        self.base = self.descriptors.open(self.calls.open(str(root / "base"), os.O_RDONLY | os.O_DIRECTORY))

    def finish(self) -> None:
        for fd in list(self.descriptors.files):
            self.descriptors.close(fd)

    def _file(self, fd: int) -> Description:
        return self.calls.description(fd)

    def open(self, path: str, flags: int, mode: int) -> int:
        return self.descriptors.open(self.calls.open(path, flags, mode, self.base))

    def stat(self, path: str, follow: bool) -> Any:
        return facts(self.calls.stat(path, dir_fd=self.base, follow=follow))

    def fstat(self, fd: int) -> Any:
        return facts(self._file(fd).stat())

    def rename(self, old: str, new: str) -> None:
        self.calls.rename(old, new, src_dir_fd=self.base, dst_dir_fd=self.base)

    def link(self, old: str, new: str, follow: bool) -> None:
        self.calls.link(old, new, src_dir_fd=self.base, dst_dir_fd=self.base, follow=follow)

    def symlink(self, target: str, path: str) -> None:
        self.calls.symlink(target, path, self.base)

    def mkdir(self, path: str, mode: int) -> None:
        self.calls.mkdir(path, mode, self.base)

    def rmdir(self, path: str) -> None:
        self.calls.rmdir(path, self.base)

    def unlink(self, path: str) -> None:
        self.calls.unlink(path, self.base)

    def readlink(self, path: str) -> str:
        return self.calls.readlink(path, self.base)

    def chmod(self, path: str, mode: int) -> None:
        self.calls.chmod(path, mode, dir_fd=self.base)

    def fchmod(self, fd: int, mode: int) -> None:
        self.calls.chmod(fd, mode)

    def utime(self, path: str, times: tuple[int, int] | None, follow: bool) -> None:
        self.calls.utime(path, times, dir_fd=self.base, follow=follow)

    def truncate(self, path: str, size: int) -> None:
        # The real side goes through /proc with an absolute path, so this one does, too.
        self.calls.truncate(f"{self.calls.description(self.base).path}/{path}" if path else "", size)

    def access(self, path: str, mode: int) -> bool:
        # access() of Python: whether, not why not.
        try:
            self.calls.access(path, mode, dir_fd=self.base)
        except OSError:
            return False
        return True

    def listdir(self, path: str) -> list[str]:
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY, 0)
        try:
            return self.calls.listdir(fd)
        finally:
            self.descriptors.close(fd)

    def listdir_fd(self, fd: int) -> list[str]:
        return self.calls.listdir(fd)

    def umask(self, mask: int) -> int:
        return self.calls.set_umask(mask)

    def read(self, fd: int, count: int) -> bytes:
        return self._file(fd).read(count)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return self._file(fd).pread(count, offset)

    def write(self, fd: int, data: bytes) -> int:
        return self._file(fd).write(memoryview(data))

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return self._file(fd).pwrite(memoryview(data), offset)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        return self._file(fd).lseek(offset, whence)

    def ftruncate(self, fd: int, size: int) -> None:
        self._file(fd).truncate(size)

    def fallocate(self, fd: int, start: int, length: int) -> None:
        self._file(fd).allocate(start, length)

    def fsync(self, fd: int) -> None:
        self._file(fd).sync()

    def fdatasync(self, fd: int) -> None:
        self._file(fd).sync(data_only=True)

    def dup(self, fd: int) -> int:
        return self.descriptors.open(self._file(fd))

    def close(self, fd: int) -> None:
        self.descriptors.close(fd)

    def flock(self, fd: int, operation: int) -> None:
        self._file(fd).flock(operation)


def facts(found: Any) -> dict[str, Any]:
    """What two file systems must agree on. Not inode numbers, sizes of directories, and when it is."""
    get = (lambda name: getattr(found, "st_" + name)) if isinstance(found, os.stat_result) else found.__getattribute__
    directory = stat.S_ISDIR(get("mode"))
    return {
        "mode": oct(get("mode")),
        "nlink": get("nlink"),
        "owner": (get("uid"), get("gid")),
        "size": None if directory else get("size"),
        "blksize": get("blksize"),
        # A directory's depend on the file system; so do a symbolic link's.
        "blocks": get("blocks") if stat.S_ISREG(get("mode")) else None,
        "times": tuple(get(f"{which}time_ns") if get(f"{which}time_ns") < 10**15 else "later" for which in "m"),
    }


def outcome(call: Callable[[], Any]) -> Outcome:
    """What came of a call, in a form that can be compared."""
    try:
        return ("returned", call())
    except OSError as error:
        return ("raised", type(error).__name__, errno.errorcode.get(error.errno or 0, error.errno))


def tree(side: Any, path: str = ".") -> dict[str, Any]:
    """Everything below `path`, read through `side`."""
    found: dict[str, Any] = {}
    try:
        names = side.listdir(path)
    except PermissionError:
        return {path: "closed"}
    for name in names:
        inner = name if path == "." else f"{path}/{name}"
        try:
            what = found[inner] = dict(side.stat(inner, False))
        except PermissionError:
            found[inner] = "closed"
            continue
        kind = stat.S_IFMT(int(what["mode"], 8))
        if kind == stat.S_IFLNK:
            what["target"] = side.readlink(inner)
        elif kind == stat.S_IFDIR:
            found |= tree(side, inner)
        else:
            with contextlib.suppress(PermissionError):
                fd = side.open(inner, os.O_RDONLY, 0)
                what["data"] = side.pread(fd, 1 << 20, 0)
                side.close(fd)
    return found


def remove(root: Path) -> None:
    """Directories may have lost their permissions."""
    for path, names, _ in os.walk(root):
        for name in names:
            inner = os.path.join(path, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(root)
