"""Probes of things that were made before the run and are used in it."""

from __future__ import annotations

import fcntl
import logging
import logging.handlers
import mmap
import os
import socket
import sys
from pathlib import Path
from typing import Any

import real
from probes import escapes, simulated

_ROW = "files, sockets and pipes that were opened before the run"
_LOGGER = logging.getLogger("probe")
_LOGGER.propagate = False
_HANDLERS: list[logging.Handler] = [
    logging.FileHandler("plain.log"),
    logging.FileHandler("late.log", delay=True),
    logging.FileHandler("w.log", mode="w"),
    logging.handlers.RotatingFileHandler("rotating.log", maxBytes=40, backupCount=2),
    logging.handlers.TimedRotatingFileHandler("timed.log", when="S"),
    logging.handlers.WatchedFileHandler("watched.log"),
]
_STREAM = logging.StreamHandler(real.TEXT)


@simulated("log files")
def log_files_are_on_the_simulated_disk() -> list[Any]:
    for handler in _HANDLERS:
        _LOGGER.addHandler(handler)
    try:
        for number in range(4):
            _LOGGER.warning("a line of the log %s", number)
    finally:
        for handler in _HANDLERS:
            _LOGGER.removeHandler(handler)
    assert Path("plain.log").read_text().count("\n") == Path("late.log").read_text().count("\n") == 4
    return [sorted(os.listdir()), *(path.read_text() for path in sorted(Path().glob("*.log*")))]


@simulated("log files")
def logs_of_the_standard_streams_stay_real() -> None:
    handler = logging.StreamHandler()
    _LOGGER.addHandler(handler)
    try:
        _LOGGER.warning("a line for the terminal")
    finally:
        _LOGGER.removeHandler(handler)
    print("another one", file=sys.stderr, flush=True)
    os.write(2, b"and one more\n")


@escapes(_ROW)
def the_log_of_a_stream() -> None:
    _STREAM.handle(logging.makeLogRecord({"msg": "leak"}))


@escapes(_ROW)
def a_text_file() -> None:
    real.TEXT.write("leak")


@escapes(_ROW)
def a_printed_line() -> None:
    print("leak", file=real.TEXT)


@escapes(_ROW)
def lines_of_a_text_file() -> None:
    real.TEXT.writelines(["leak"])


@escapes(_ROW)
def a_binary_file() -> None:
    real.BINARY.write(b"leak")


@escapes(_ROW)
def an_updated_file() -> None:
    real.UPDATED.write(b"leak")


@escapes(_ROW)
def a_raw_file() -> None:
    real.RAW.write(b"leak")


@escapes(_ROW)
def the_end_of_a_file() -> None:
    real.RAW.truncate(0)


@escapes(_ROW)
def the_end_of_a_buffered_file() -> None:
    real.UPDATED.truncate(0)


@escapes(_ROW)
def the_end_of_a_text_file() -> None:
    real.TEXT.truncate(0)


@escapes(_ROW)
def a_descriptor() -> None:
    os.write(real.FD, b"leak")


@escapes(_ROW)
def a_place_behind_a_descriptor() -> None:
    os.pwrite(real.FD, b"leak", 0)


@escapes(_ROW)
def the_length_behind_a_descriptor() -> None:
    os.ftruncate(real.FD, 100)


@escapes(_ROW)
def the_mode_behind_a_descriptor() -> None:
    os.fchmod(real.FD, 0o700)


@escapes(_ROW)
def a_file_over_a_descriptor() -> None:
    with open(real.FD, "wb", closefd=False) as file:
        file.write(b"leak")


@escapes(_ROW)
def a_copy_of_a_descriptor() -> None:
    os.write(os.dup(real.FD), b"leak")


@escapes(_ROW)
def a_pipe() -> None:
    os.write(real.PIPE_WRITE, b"leak")


@escapes(_ROW)
def the_other_end_of_a_pipe() -> None:
    os.read(real.PIPE_READ, 10)


@escapes(_ROW)
def a_pipe_as_a_file() -> None:
    with open(real.PIPE_WRITE, "w", closefd=False) as file:
        file.write("leak")


@escapes(_ROW)
def a_socket() -> None:
    real.NEAR.send(b"leak")


@escapes(_ROW)
def all_of_a_socket() -> None:
    real.NEAR.sendall(b"leak")


@escapes(_ROW)
def a_message() -> None:
    real.NEAR.sendmsg([b"leak"])


@escapes(_ROW)
def what_a_socket_receives() -> None:
    real.NEAR.setblocking(False)
    real.NEAR.recv(10)


@escapes(_ROW)
def what_a_socket_receives_into_a_buffer() -> None:
    real.NEAR.recv_into(bytearray(10))


@escapes(_ROW)
def a_socket_as_a_descriptor() -> None:
    os.write(real.NEAR.fileno(), b"leak")


@escapes(_ROW)
def a_socket_as_a_file() -> None:
    with real.NEAR.makefile("wb", buffering=0) as file:
        file.write(b"leak")


@escapes(_ROW)
def the_end_of_a_socket() -> None:
    real.NEAR.shutdown(socket.SHUT_WR)


@escapes(_ROW)
def a_connection() -> None:
    real.UNCONNECTED.connect(("127.0.0.1", real.PORT))


@escapes(_ROW)
def a_connection_without_errors() -> None:
    real.UNCONNECTED.connect_ex(("127.0.0.1", real.PORT))


@escapes(_ROW)
def a_port() -> None:
    real.UNCONNECTED.bind(("127.0.0.1", 0))


@escapes(_ROW)
def a_datagram() -> None:
    real.DATAGRAMS.sendto(b"leak", ("127.0.0.1", real.UDP_PORT))


@escapes(_ROW)
def who_comes() -> None:
    real.LISTENER.accept()


@escapes(_ROW)
def listening() -> None:
    real.UNCONNECTED.listen()


@escapes(_ROW)
def the_end_of_a_descriptor() -> None:
    os.close(real.FD)


@escapes(_ROW)
def another_file_behind_a_descriptor() -> None:
    os.dup2(real.FD, real.RAW.fileno())


@escapes(_ROW)
def a_lock() -> None:
    fcntl.flock(real.FD, fcntl.LOCK_EX | fcntl.LOCK_NB)


@escapes(_ROW)
def a_lock_of_records() -> None:
    fcntl.lockf(real.FD, fcntl.LOCK_EX | fcntl.LOCK_NB)


@escapes(_ROW)
def a_map() -> None:
    with mmap.mmap(real.UPDATED.fileno(), 4) as mapped:
        mapped[:] = b"leak"


@escapes(_ROW)
def where_a_descriptor_is() -> None:
    os.fchdir(real.FOLDER)


@simulated("open files")
def what_was_opened_before_can_be_read() -> list[Any]:
    os.closerange(3, 1000)
    with mmap.mmap(real.UPDATED.fileno(), 4, access=mmap.ACCESS_READ) as mapped:
        return [os.pread(real.UPDATED.fileno(), 10, 0), mapped[:]]
