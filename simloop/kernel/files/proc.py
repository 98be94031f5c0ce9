"""Files of /proc (proc(5)). Those that describe the simulated machine are simulated; those that hold only settings of
the real machine are read there; all others, which change over time or describe real processes, cannot be opened."""

from __future__ import annotations

import posix
import uuid
from typing import TYPE_CHECKING

from simloop.kernel.clock import SECOND
from simloop.kernel.files.devices import UnsimulatedFileError

if TYPE_CHECKING:
    from simloop.kernel.descriptors import DescriptorTable
    from simloop.kernel.files.filesystem import FileSystem

ROOT = "/proc/"
# A machine of four processors and 8 GiB, of which 4 are free, as os.cpu_count() and os.sysconf() have it. A process has
# the size of an interpreter with a few libraries.
_PROCESSORS = 4
_MEMORY_KB, _FREE_KB, _RESIDENT_KB = 8 << 20, 4 << 20, 32 << 10
RELEASE, VERSION = "6.12.0", "#1 SMP PREEMPT_DYNAMIC"
_SETTINGS = (
    "cmdline", "config.gz", "crypto", "devices", "filesystems", "fs/", "misc", "modules", "mounts", "partitions",
    "swaps", "sys/", "self/attr/", "self/autogroup", "self/cgroup", "self/cmdline", "self/comm",
    "self/coredump_filter", "self/cpuset", "self/cwd", "self/environ", "self/exe", "self/gid_map", "self/limits",
    "self/loginuid", "self/mountinfo", "self/mounts", "self/ns/", "self/oom_score_adj", "self/personality",
    "self/root", "self/sessionid", "self/setgroups", "self/uid_map",
)  # fmt: skip
_OF_THE_MOMENT = (
    "sys/fs/aio-nr", "sys/fs/dentry-state", "sys/fs/file-nr", "sys/fs/inode-nr", "sys/fs/inode-state",
    "sys/fs/quota/", "sys/kernel/ns_last_pid", "sys/kernel/pty/nr", "sys/kernel/random/entropy_avail",
    "sys/net/netfilter/",
)  # fmt: skip


def _name(path: str) -> str:
    """Return a path relative to /proc, in which the pid of the real process is replaced by ``self``."""
    first, slash, rest = path.removeprefix(ROOT).partition("/")
    return ("self" if first == str(posix.getpid()) else first) + slash + rest


def check(path: str) -> None:
    """Raise `UnsimulatedFileError` for a real path under /proc, unless the file holds only settings of the machine."""
    name = _name(path) if path.startswith(ROOT) else ""
    if not name.startswith(_SETTINGS) or name.startswith(_OF_THE_MOMENT):
        raise UnsimulatedFileError("what the real kernel says of the moment in")


def text(path: str, fs: FileSystem, process: DescriptorTable) -> str | None:
    """Return the contents of a simulated file of /proc, or None if `path` is one to be read from the real machine."""
    name = _name(path)
    seconds = fs.uptime_ns / SECOND
    pid = getattr(process, "pid", 1)
    parent = getattr(getattr(process, "parent", None), "pid", 1)
    if name == "uptime":
        return f"{seconds:.2f} {_PROCESSORS * seconds:.2f}\n"
    if name == "loadavg":
        return f"0.00 0.00 0.00 1/100 {pid}\n"
    if name == "stat":
        zeros = " 0" * 10
        processors = "".join(f"cpu{number}{zeros}\n" for number in range(_PROCESSORS))
        return f"cpu {zeros}\n{processors}ctxt 0\nbtime {(fs.now() - fs.uptime_ns) // SECOND}\nprocesses {pid}\n"
    if name == "meminfo":
        sizes = (
            ("MemTotal", _MEMORY_KB),
            ("MemFree", _FREE_KB),
            ("MemAvailable", _FREE_KB),
            ("SwapTotal", 0),
            ("SwapFree", 0),
        )
        return "".join(f"{key + ':':<16}{size:>8} kB\n" for key, size in sizes)
    if name == "cpuinfo":
        return "".join(f"processor\t: {number}\nmodel name\t: simulated\n\n" for number in range(_PROCESSORS))
    if name == "version":
        return f"Linux version {RELEASE} {VERSION}\n"
    if name == "self/stat":
        # Of the 52 fields the first are pid, command, state, parent, group and session, the 20th is the number of
        # threads, the 23rd and 24th are the size in bytes and the resident pages.
        fields = [
            pid,
            "(python)",
            "R",
            parent,
            pid,
            pid,
            *[0] * 13,
            1,
            0,
            0,
            _RESIDENT_KB << 10,
            _RESIDENT_KB // 4,
            *[0] * 28,
        ]
        return " ".join(map(str, fields)) + "\n"
    if name == "self/statm":
        return f"{_RESIDENT_KB // 4} {_RESIDENT_KB // 4} 0 0 0 {_RESIDENT_KB // 4} 0\n"
    if name == "self/status":
        memory = "".join(f"{key}:\t{_RESIDENT_KB:>8} kB\n" for key in ("VmPeak", "VmSize", "VmHWM", "VmRSS"))
        return f"Name:\tpython\nState:\tR (running)\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{parent}\n{memory}Threads:\t1\n"
    if name == "sys/kernel/hostname":
        return f"{fs.name}\n"
    if name == "sys/kernel/osrelease":
        return f"{RELEASE}\n"
    if name == "sys/kernel/version":
        return f"{VERSION}\n"
    if name == "sys/kernel/random/uuid":
        return f"{uuid.UUID(bytes=fs.entropy(16), version=4)}\n"
    if name == "sys/kernel/random/boot_id":
        return f"{uuid.uuid5(uuid.NAMESPACE_DNS, fs.name)}\n"
    check(path)
    return None
