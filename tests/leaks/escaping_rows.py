"""Probes of the table of what escapes."""

from __future__ import annotations

import _socket
import importlib.util
import mmap
import os
import posix
import pty
import py_compile
import readline
import signal
import socket
import sqlite3
import ssl
import sys
from multiprocessing import shared_memory

import real
from probes import escapes


@escapes("raw sockets; sockets of C libraries")
def a_unix_connection_to_the_real_machine() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(real.ROOT / "unix.sock"))


@escapes("raw sockets; sockets of C libraries")
def the_socket_class_of_c() -> None:
    _socket.socket().connect(("127.0.0.1", real.PORT))


@escapes("subinterpreters")
def a_subinterpreter() -> None:
    importlib.import_module("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters").create()


@escapes("pseudo-terminals")
def a_terminal() -> None:
    os.openpty()


@escapes("copies of the test's own process")
def a_fork() -> None:
    if os.fork() == 0:
        os._exit(0)


@escapes("copies of the test's own process")
def a_fork_in_a_terminal() -> None:
    pty.fork()


@escapes("copies of the test's own process")
def another_program_in_our_place() -> None:
    os.execv("/bin/true", ["true"])


@escapes("real programs: references to functions taken before the first run")
def a_real_shell() -> None:
    posix.system("touch by-a-shell")


@escapes("real signals: references to functions taken before the first run")
def a_real_signal() -> None:
    posix.kill(posix.getpid(), signal.SIGURG)


# What the C code of an extension does: it calls none of the functions of `_thread`, but the audit event is the same.
@escapes("threads")
def a_real_thread() -> None:
    sys.audit("_thread.start_new_thread", None, (), {})


@escapes("real name look-ups")
def a_real_look_up() -> None:
    _socket.getaddrinfo("localhost", 80)


@escapes("changing the real disk: C libraries, and references to functions taken before the first run")
def a_real_file() -> None:
    posix.close(posix.open(str(real.ROOT / "real.txt"), os.O_CREAT | os.O_WRONLY))


@escapes("changing the real disk: C libraries, and references to functions taken before the first run")
def a_real_name() -> None:
    posix.rename(str(real.ROOT / "there.txt"), str(real.ROOT / "gone.txt"))


@escapes("simulated files in memory maps")
def a_map() -> None:
    with open("there.txt", "r+b") as file:
        mmap.mmap(file.fileno(), 0)


for _library in ("_dbm", "_gdbm"):
    if importlib.util.find_spec(_library) is not None:
        _database = importlib.import_module(_library)

        @escapes("databases of C libraries")
        def a_database() -> None:
            _database.open("leak", "c")  # noqa: B023


@escapes("databases of SQLite that get past the simulated disk")
def a_real_database() -> None:
    sqlite3.connect(f"file:{real.ROOT}/real.db?vfs=unix", uri=True).execute("create table t (x)")


@escapes("other files that C code writes")
def a_history() -> None:
    readline.write_history_file(str(real.ROOT / "history"))


@escapes("other files that C code writes")
def shared() -> None:
    shared_memory.SharedMemory("leak", create=True, size=10)


@escapes("other files that C code writes")
def a_key_log() -> None:
    ssl.create_default_context().keylog_filename = str(real.ROOT / "keys")


@escapes("changing the real disk: C libraries, and references to functions taken before the first run")
def bytecode_that_no_import_writes() -> None:
    py_compile.compile(str(real.ROOT / "module.py"), str(real.ROOT / "module.bin"), doraise=True)
