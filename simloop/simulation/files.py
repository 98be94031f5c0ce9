"""Handle on the files of a host and the disk that stores them: ``sim.fs``, ``host.fs``."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as _stat
from collections.abc import Iterator, Mapping
from posixpath import dirname, join, normpath, relpath
from typing import TYPE_CHECKING, Union

from simloop.errors import ConfigurationError
from simloop.kernel.descriptors import DescriptorTable
from simloop.kernel.files.calls import FileCalls
from simloop.kernel.files.faults import Effect, Fault
from simloop.kernel.files.lower import real_cwd
from simloop.kernel.files.resolve import Credentials

if TYPE_CHECKING:
    from simloop.kernel.files.disk import DiskTiming
    from simloop.kernel.files.filesystem import FileSystem
    from simloop.kernel.host import Host
    from simloop.world.world import World

Tree = Mapping[str, Union[str, bytes, "Tree"]]
"""Names and what is in them: text, bytes, or for a directory another such mapping."""


class InjectedFault:
    """Fault that `SimFiles.fault` or `SimFiles.may_fault` has injected into file operations. It lasts until `stop` is
    called, or until the end of a ``with`` block on it."""

    def __init__(self, fs: FileSystem, fault: Fault) -> None:
        self._fs = fs
        self._fault = fault

    @property
    def struck(self) -> int:
        """Number of calls that the fault has affected so far: made to fail, cut short, delayed or corrupted."""
        return self._fault.struck

    def stop(self) -> None:
        """End the fault: from now on it affects no call."""
        if self._fault in self._fs.disk.faults:
            self._fs.disk.faults.remove(self._fault)

    def __enter__(self) -> InjectedFault:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<InjectedFault {self._fault.operation} of {self._fault.pattern}, struck {self.struck} times>"


class SimFiles:
    """Handle on the files of one host, and on the disk that stores them.

    File operations through this handle take no virtual time, and no fault affects them. Relative paths start from the
    working directory of the real process, as those of programs do.

    >>> import simloop
    >>> async def test():
    ...     fs = simloop.current().fs
    ...     fs.write_tree({"/etc/app": {"a.toml": "x = 1", "empty": {}}})
    ...     with open("/etc/app/a.toml") as file:
    ...         return file.read(), sorted(fs.tree("/etc/app"))
    >>> simloop.run(test)
    ('x = 1', ['a.toml', 'empty/'])
    """

    def __init__(self, world: World, host: Host) -> None:
        self._fs = world.fs(host)
        self._calls = FileCalls(self._fs, DescriptorTable(), Credentials())
        with contextlib.suppress(OSError):
            self._calls.chdir(real_cwd())

    # --- the disk -------------------------------------------------------------------------------------

    @property
    def profile(self) -> str:
        """Disk model, which decides how much unsynced data a power cut may lose: ``ext4-ordered`` (the default), as
        much as ext4 may lose with its default options; ``posix``, everything that fsync(2) does not guarantee."""
        return self._fs.disk.model

    @profile.setter
    def profile(self, name: str) -> None:
        self._fs.disk.model = name

    @property
    def capacity(self) -> int | None:
        """Size of the disk in bytes, beyond which writes fail with ENOSPC; None for no limit. Files that exist on the
        real disk count only once they are changed in the run."""
        return self._fs.disk.capacity

    @capacity.setter
    def capacity(self, size: int | None) -> None:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
            raise ConfigurationError(f"capacity must be a number of bytes or None, not {size!r}")
        self._fs.disk.capacity = size

    @property
    def timing(self) -> DiskTiming:
        """Latency and throughput of the disk: those of an NVMe drive, unless the test assigns others."""
        return self._fs.disk.timing

    @timing.setter
    def timing(self, timing: DiskTiming) -> None:
        self._fs.disk.timing = timing

    # --- files ----------------------------------------------------------------------------------------

    def write_tree(self, tree: Tree, root: str | os.PathLike[str] = ".") -> None:
        """Create files and directories below `root`, as `tree` maps their names to contents. Afterwards everything
        written on this host so far is on its disk, as after sync(8)."""
        with self._quietly():
            self._write_tree(tree, os.fspath(root))
            self._fs.sync_all()

    def _write_tree(self, tree: Tree, root: str) -> None:
        self._make_directories(root)
        for name, what in tree.items():
            path = join(root, name)
            if isinstance(what, Mapping):
                self._write_tree(what, path)
                continue
            self._make_directories(dirname(path))
            data = what.encode() if isinstance(what, str) else what
            file = self._calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                if data:
                    file.write(memoryview(data))
            finally:
                file.close()

    def _make_directories(self, path: str) -> None:
        if not path:
            return
        try:
            self._calls.stat(path)
        except FileNotFoundError:
            self._make_directories(dirname(path.rstrip("/")))
            self._calls.mkdir(path, 0o777)

    def read_bytes(self, path: str | os.PathLike[str]) -> bytes:
        """Return the contents of a file. Raises `OSError` as ``open`` does."""
        with self._quietly():
            try:
                file = self._calls.open(os.fspath(path), os.O_RDONLY)
                try:
                    return file.pread(file.inode.size, 0)
                finally:
                    file.close()
            except OSError as error:
                error.filename = os.fspath(path)
                raise

    def read_text(self, path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
        """Return the contents of a file as text. Raises `OSError`, or `UnicodeDecodeError` if it is not in
        `encoding`."""
        return self.read_bytes(path).decode(encoding)

    def tree(self, root: str | os.PathLike[str] | None = None) -> dict[str, bytes]:
        """Return the contents of all files below the directory `root`, also of those on the real disk: a dictionary
        sorted by path relative to `root`. Symbolic links to files are followed; an empty directory appears as its name
        with a slash, with empty contents. Without `root`: the files that were written in this world, by absolute
        path."""
        with self._quietly():
            if root is None:
                return self._written()
            found: dict[str, bytes] = {}
            self._collect(normpath(os.fspath(root)), normpath(os.fspath(root)), found)
            return found

    def _written(self) -> dict[str, bytes]:
        files = {file.path: file for file in self._fs.written.values() if file.nlink > 0}
        return {path: files[path].contents.read(0, files[path].size) for path in sorted(files)}

    def _collect(self, top: str, path: str, found: dict[str, bytes]) -> None:
        names = self._calls.listdir(path)
        if not names and path != top:
            found[f"{relpath(path, top)}/"] = b""
        for name in names:
            inner = join(path, name)
            mode = self._calls.stat(inner, follow=False).mode
            if _stat.S_ISLNK(mode):
                try:
                    mode = self._calls.stat(inner).mode
                except OSError:
                    continue
                if not _stat.S_ISREG(mode):
                    continue
            if _stat.S_ISDIR(mode):
                self._collect(top, inner, found)
            elif _stat.S_ISREG(mode):
                found[relpath(inner, top)] = self.read_bytes(inner)

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        """Context manager in which file operations are affected by no fault and no full disk, take no time, and are not
        reported to observers."""
        fs, disk = self._fs, self._fs.disk
        before = fs.on_change, disk.faults, disk.capacity, disk.deferred_ns
        fs.on_change, disk.faults, disk.capacity = None, [], None
        try:
            yield
        finally:
            fs.on_change, disk.faults, disk.capacity, disk.deferred_ns = before

    # --- faults ---------------------------------------------------------------------------------------

    def fault(
        self,
        operation: str,
        error: int = 0,
        *,
        path: str = "*",
        after: int = 0,
        times: int | None = 1,
        short: int | None = None,
        delay: float = 0,
        corrupt: bool = False,
    ) -> InjectedFault:
        """Inject a fault into a file operation: of the calls that match, the first `after` pass, the next `times` are
        affected (None: all of them), the rest pass again.

        `operation` is one of ``read``, ``write``, ``fsync`` (and fdatasync), ``open``, ``rename``, ``unlink``,
        ``mkdir``, ``rmdir``, ``link``, ``symlink``, ``truncate``, ``chmod``, ``utime``, ``stat``, ``listdir``, or ``*``
        for all. `path` is a shell pattern: of file names, or of whole paths if there is a slash in it. The effect:

        - `error`, an errno: the call fails with it, such as ``errno.EIO``, ``ENOSPC``, ``EACCES``, ``EMFILE`` (of
          ``open``). A failed fsync drops the unsynced data, as on Linux: a second one that succeeds does not bring
          it to disk. `simloop.is_injected` tells the exception from a real one.
        - `short`: a read or write moves at most so many bytes.
        - `delay`: the call takes so many virtual seconds more.
        - `corrupt`: a read finds a bit of its first byte flipped, on disk as well.

        >>> import errno, simloop
        >>> async def test():
        ...     with simloop.current().fs.fault("write", errno.ENOSPC, path="*.log") as fault:
        ...         try:
        ...             with open("/tmp/a.log", "w") as file:
        ...                 file.write("hello")
        ...         except OSError as error:
        ...             return error.strerror, fault.struck
        >>> simloop.run(test)
        ('No space left on device', 1)
        """
        effect = _effect(error, short, delay, corrupt)
        return self._inject(Fault(self._pattern(path), operation, (effect,), after=after, times=times))

    def may_fault(
        self,
        operation: str = "*",
        error: int = 0,
        *,
        path: str = "*",
        times: int | None = 1,
        short: int | None = None,
        delay: float = 0,
        corrupt: bool = False,
    ) -> InjectedFault:
        """Declare that the environment may make calls of a file operation fail, `times` at most; in the canonical run
        none does. If neither `error`, `short`, `delay` nor `corrupt` is given, the environment also chooses the
        failure, among the usual ones of the operation, such as ENOSPC, EIO or a short write.

        >>> import simloop
        >>> async def main():
        ...     simloop.current().fs.may_fault("write")
        ...     with open("/tmp/state", "w") as file:
        ...         file.write("hello")
        >>> simloop.run(main)
        >>> type(simloop.explore(main).failure.exception).__name__
        'OSError'
        """
        effects: tuple[Effect, ...] = ()
        if error or short is not None or delay or corrupt:
            effects = (_effect(error, short, delay, corrupt),)
        return self._inject(Fault(self._pattern(path), operation, effects, times=times, by_choice=True))

    def _inject(self, fault: Fault) -> InjectedFault:
        self._fs.disk.faults.append(fault)
        return InjectedFault(self._fs, fault)

    def _pattern(self, path: str) -> str:
        if "/" not in path or path.startswith(("/", "*")):
            return path
        return normpath(join(self._calls.getcwd(), path))

    def __repr__(self) -> str:
        return f"<SimFiles of {self._fs.name}, {self.profile}>"


def _effect(error: int, short: int | None, delay: float, corrupt: bool) -> Effect:
    if isinstance(error, bool) or not isinstance(error, int) or (error and error not in errno.errorcode):
        raise ConfigurationError(f"error must be an errno such as errno.EIO, not {error!r}")
    if delay < 0:
        raise ConfigurationError(f"delay must be a number of virtual seconds, not {delay!r}")
    return Effect(error, short, round(delay * 1e9), corrupt)
