"""File systems of a world's hosts, and the system calls on files of its processes.

Only the first run that touches a file imports this module, since what it needs is a quarter of all code.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from simloop.kernel.files.calls import FileCalls
from simloop.kernel.files.filesystem import FileSystem
from simloop.kernel.files.lower import LowerLayer, real_cwd
from simloop.kernel.files.resolve import Credentials

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.host import Host
    from simloop.kernel.process.process import Process
    from simloop.world.observer import Observer


def make_file_system(host: Host, lower: LowerLayer, choices: Choices, observer: Observer | None) -> FileSystem:
    """Return a new file system for `host`, over the layer of real files that all hosts of a world share."""
    fs = FileSystem(host.wall, lower, name=host.name, entropy=lambda size: choices.entropy.randbytes(size))
    if observer is not None:
        fs.observer = observer
    fs.disk.ask = lambda who, effects: choices.order(f"{host.name}:{who}", "disk.fault", 1 + len(effects), effects)
    return fs


def make_calls(fs: FileSystem, process: Process) -> FileCalls:
    """Return the file system calls of a process that no other process has started. It begins in the real working
    directory, with the rights of the real user and the umask that most programs are started with."""
    calls = process.calls = FileCalls(fs, process, Credentials.real())
    with contextlib.suppress(OSError):
        calls.chdir(real_cwd())
    return calls


def inherit_calls(parents: FileCalls, child: Process, cwd: str | None) -> None:
    """Give a child process its system calls on files. It begins in `cwd`, or else in its parent's working directory."""
    child.calls = FileCalls(parents.fs, child, parents.credentials)
    child.calls.cwd, child.calls.umask = parents.cwd, parents.umask
    if cwd is not None:
        child.calls.chdir(cwd)
