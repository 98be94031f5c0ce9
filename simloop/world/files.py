"""File systems of a world's hosts, and the objects that make system calls on files for its processes.

It is imported by the first run that uses a file, since its imports are a quarter of all code.
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
    """Return the object that makes file system calls for a process that has no parent. It starts in the real working
    directory, with the real user's credentials and the usual umask."""
    process.calls = calls = first_calls(fs, process)
    return calls


def first_calls(fs: FileSystem, process: Process) -> FileCalls:
    """Return the object that makes file system calls for a process that has no parent, without giving it to the
    process."""
    calls = FileCalls(fs, process, Credentials.real())
    with contextlib.suppress(OSError):
        calls.chdir(real_cwd())
    return calls


def inherit_calls(parents: FileCalls, child: Process, cwd: str | None) -> None:
    """Give a child process the object for its file system calls, with its parent's credentials and umask. It starts in
    `cwd`, or if that is None in its parent's working directory."""
    child.calls = FileCalls(parents.fs, child, parents.credentials)
    child.calls.cwd, child.calls.umask = parents.cwd, parents.umask
    if cwd is not None:
        child.calls.chdir(cwd)
