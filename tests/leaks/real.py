"""Real things that a leak would move: files, sockets, pipes and settings of the real process, made before any run."""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(tempfile.mkdtemp(prefix="leaks-"))
atexit.register(shutil.rmtree, ROOT, ignore_errors=True)
os.chdir(ROOT)
(ROOT / "there.txt").write_text("real\n")
(ROOT / "module.py").write_text("x = 1\n")
(ROOT / "folder").mkdir()
(ROOT / "folder" / "inner.txt").write_text("inner\n")

#: Opened before the run.
TEXT = open(ROOT / "text.txt", "a")  # noqa: SIM115
BINARY = open(ROOT / "binary.bin", "wb")  # noqa: SIM115
RAW = open(ROOT / "raw.bin", "ab", buffering=0)  # noqa: SIM115
UPDATED = open(ROOT / "there.txt", "r+b")  # noqa: SIM115
FD = os.open(ROOT / "fd.bin", os.O_RDWR | os.O_CREAT)
FOLDER = os.open(ROOT / "folder", os.O_RDONLY)
PIPE_READ, PIPE_WRITE = os.pipe()
NEAR, FAR = socket.socketpair()
FAR.setblocking(False)

LISTENER = socket.create_server(("127.0.0.1", 0))
LISTENER.setblocking(False)
PORT: int = LISTENER.getsockname()[1]
UDP = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
UDP.bind(("127.0.0.1", 0))
UDP.setblocking(False)
UDP_PORT: int = UDP.getsockname()[1]
UNIX = socket.socket(socket.AF_UNIX)
UNIX.bind(str(ROOT / "unix.sock"))
UNIX.listen()
UNIX.setblocking(False)
#: Sockets of the program, made before the run.
UNCONNECTED = socket.socket()
DATAGRAMS = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

for _name in ("TEXT", "BINARY", "UPDATED"):
    globals()[_name].flush()
os.set_blocking(PIPE_READ, False)


def _tree() -> dict[str, Any]:
    found = {}
    for path in sorted(ROOT.rglob("*")):
        stat = path.lstat()
        found[path.name] = (stat.st_size, stat.st_mtime_ns, stat.st_mode, stat.st_ino, stat.st_nlink)
    return found


def _arrived() -> list[str]:
    """Returns what has come in at the real ends of things."""
    found = []
    for name, take in (
        ("a connection", lambda: LISTENER.accept()[0].close()), ("a unix connection", lambda: UNIX.accept()[0].close()),
        ("a datagram", lambda: UDP.recv(100)), ("bytes of a socket", lambda: FAR.recv(100)),
        ("bytes of a pipe", lambda: os.read(PIPE_READ, 100)),
    ):  # fmt: skip
        with contextlib.suppress(BlockingIOError):
            take()
            found.append(name)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        found.append("a child process")
    return found


def state() -> dict[str, Any]:
    """Returns what can be seen of the real world."""
    for file in (TEXT, BINARY, RAW, UPDATED):
        with contextlib.suppress(ValueError):
            file.flush()
    umask = os.umask(0o22)
    os.umask(umask)
    return {
        "files": _tree(),
        "arrivals": _arrived(),
        "umask": umask,
        "cwd": os.getcwd(),
        "limits": [resource.getrlimit(which) for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": os.sched_getaffinity(0),
        "handlers": [signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)],
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "threads": len(os.listdir("/proc/self/task")),
        "hostname": socket.gethostname(),
        "temporary": [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("leak-")],
        "shared": [name for name in os.listdir("/dev/shm") if name.startswith("leak")],
    }  # fmt: skip


def moved(before: dict[str, Any]) -> list[str]:
    """Returns what differs from `before`, in words."""
    after = state()
    # A thread that was joined may be there a moment longer.
    until = time.monotonic() + 2
    while after["threads"] != before["threads"] and time.monotonic() < until:
        after["threads"] = len(os.listdir("/proc/self/task"))
    arrivals: list[str] = after.pop("arrivals")
    return [f"{key}: {before[key]} -> {after[key]}" for key in after if before[key] != after[key]] + arrivals
