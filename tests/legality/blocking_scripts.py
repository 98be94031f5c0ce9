"""Scripts that block, as most do: ``python blocking_script.py NAME ARGUMENT...`` runs one on the real machine, and in
the simulation it is the body of a program. They talk through descriptors: `sys.stdin` and `sys.stdout` are the test's.

A script imports by itself what takes longer than Python's own start and few need: hundreds are started.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import queue
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

Script = Callable[..., int | None]
SCRIPTS: dict[str, Script] = {}
PIPE = subprocess.PIPE
#: Command that runs a script when its name and its arguments are added. Without `site`: it takes as long as the rest.
RUNNER = [sys.executable, "-S", os.path.join(os.path.dirname(os.path.abspath(__file__)), "blocking_script.py")]


def script(function: Script) -> Script:
    SCRIPTS[function.__name__] = function
    return function


def command(name: str, *arguments: object) -> list[str]:
    """Return the command that runs a script."""
    return [*RUNNER, name, *map(str, arguments)]


def say(text: object) -> None:
    os.write(1, f"{text}\n".encode())


def hear() -> Iterator[str]:
    """Yield the lines of standard input."""
    with open(0, "rb", closefd=False) as stdin:
        for line in stdin:
            yield line.decode().rstrip("\n")


def nap() -> None:
    time.sleep(0.002)


def publish(path: str, text: str) -> None:
    """Write a file that nobody sees half of."""
    own = f"{path}.{os.getpid()}"
    with open(own, "w") as file:
        file.write(text)
    os.replace(own, path)


def read_text(path: str) -> str:
    with open(path) as file:
        return file.read()


def wait_for_file(path: str) -> str:
    while True:
        try:
            return read_text(path)
        except FileNotFoundError:
            nap()


def stop_on(number: int, code: int = 0) -> None:
    """Let a signal end the script by SystemExit, which runs its `finally`."""

    def stop(number: int, frame: object) -> NoReturn:
        raise SystemExit(code)

    signal.signal(number, stop)


def listen() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0))
    say(listening.getsockname()[1])
    return listening


def connect(port: object) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(str(port))))


def receive_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(4096), b""))


# --- sockets --------------------------------------------------------------------------------------------


@script
def echo_server(clients: str) -> None:
    """Serve one client after another."""
    with listen() as listening:
        for _ in range(int(clients)):
            connection, _ = listening.accept()
            with connection:
                while data := connection.recv(1000):
                    connection.sendall(data.upper())


@script
def echo_client(port: str, word: str) -> None:
    with connect(port) as connection:
        for _ in range(3):
            connection.sendall(word.encode())
            answer = b""
            while len(answer) < len(word):
                answer += connection.recv(100)
            say(answer.decode())


@script
def counting_server(clients: str) -> None:
    """Serve each client in a thread of its own."""
    count, lock = 0, threading.Lock()

    def serve(connection: socket.socket) -> None:
        nonlocal count
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                with lock:
                    before = count
                    nap()
                    count = before + int(line)
                connection.sendall(b"ok\n")

    with listen() as listening:
        threads = []
        for _ in range(int(clients)):
            threads.append(threading.Thread(target=serve, args=[listening.accept()[0]]))
            threads[-1].start()
        for thread in threads:
            thread.join()
    say(count)


@script
def counting_client(port: str, number: str) -> None:
    with connect(port) as connection, connection.makefile("rw") as stream:
        for _ in range(3):
            stream.write(f"{number}\n")
            stream.flush()
            assert stream.readline() == "ok\n"


@script
def late_server() -> None:
    """Bind at once, and listen once told."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        say(listening.getsockname()[1])
        next(hear())
        listening.listen()
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"at last")


@script
def patient_client(port: str) -> None:
    refused = False
    while True:
        try:
            with connect(port) as connection:
                say(f"{refused} {receive_all(connection).decode()}")
                return
        except ConnectionRefusedError:
            if not refused:
                say("refused")
            refused = True
            nap()


@script
def digest_server() -> None:
    """Answer the end of the client's data, in the other direction."""
    import hashlib

    with listen() as listening:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(hashlib.sha256(receive_all(connection)).hexdigest().encode())


@script
def digest_client(port: str) -> None:
    import hashlib

    data = bytes(range(256)) * 1200
    with connect(port) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        say(receive_all(connection).decode() == hashlib.sha256(data).hexdigest())


@script
def proxy(port: str) -> None:
    def pump(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(4096):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    with listen() as listening:
        client, _ = listening.accept()
        with client, connect(port) as server:
            thread = threading.Thread(target=pump, args=[client, server])
            thread.start()
            pump(server, client)
            thread.join()


@script
def chat_server(clients: str) -> None:
    """Tell each line of anybody to everybody, once all are there, with one selector."""
    with listen() as listening, selectors.DefaultSelector() as selector:
        members = [listening.accept()[0] for _ in range(int(clients))]
        received = dict.fromkeys(members, b"")
        for member in members:
            member.sendall(b"go\n")
            selector.register(member, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(5)
                if not data:
                    selector.unregister(key.fileobj)
                *lines, received[key.fileobj] = (received[key.fileobj] + data).split(b"\n")
                for line in lines:
                    for member in members:
                        member.sendall(line + b"\n")
        for member in members:
            member.close()


@script
def chat_client(port: str, name: str, clients: str) -> None:
    # Not one stream for both directions: text that was read ahead is lost when one writes.
    with connect(port) as connection, connection.makefile() as stream:
        assert stream.readline() == "go\n"
        connection.sendall(f"hello of {name}\n".encode())
        say(",".join(sorted(stream.readline().strip() for _ in range(int(clients)))))
        connection.shutdown(socket.SHUT_WR)
        assert stream.readline() == ""


@script
def graceful_server() -> None:
    """Serve until SIGTERM, and no client halfway: the signal is seen between two of them."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(writing)
    served = 0
    with listen() as listening:
        while True:
            ready, _, _ = select.select([listening.fileno(), reading], [], [])
            if listening.fileno() in ready:
                connection, _ = listening.accept()
                with connection:
                    connection.sendall(receive_all(connection)[::-1])
                served += 1
            elif os.read(reading, 1) == bytes([signal.SIGTERM]):
                break
    signal.set_wakeup_fd(-1)
    say(f"served {served}")


@script
def reverse_client(port: str, word: str) -> None:
    with connect(port) as connection:
        connection.sendall(word.encode())
        connection.shutdown(socket.SHUT_WR)
        say(receive_all(connection).decode())


@script
def accepts_once(fd: str) -> None:
    """Serve one client of a listening socket that the parent has opened."""
    with socket.socket(fileno=int(fd)) as listening:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"served")


@script
def sum_server(clients: str) -> None:
    """Answer frames of a length and as many bytes."""

    def receive(connection: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = connection.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    with listen() as listening:
        for _ in range(int(clients)):
            connection, _ = listening.accept()
            with connection, contextlib.suppress(EOFError):
                while True:
                    (size,) = struct.unpack("!I", receive(connection, 4))
                    connection.sendall(struct.pack("!I", sum(receive(connection, size))))


@script
def sum_client(port: str) -> None:
    with connect(port) as connection:
        for size in (0, 1, 5000):
            connection.sendall(struct.pack("!I", size) + b"\1" * size)
            answer = b""
            while len(answer) < 4:
                answer += connection.recv(4 - len(answer))
            say(struct.unpack("!I", answer)[0])


@script
def slow_server() -> None:
    """Accept, and say nothing until told."""
    with listen() as listening:
        connection, _ = listening.accept()
        with connection:
            next(hear())
            connection.sendall(b"done")


@script
def impatient_client(port: str) -> None:
    with connect(port) as connection:
        connection.settimeout(0.02)
        try:
            connection.recv(10)
        except TimeoutError:
            say("timed out")
        connection.settimeout(None)
        say(receive_all(connection).decode())


# --- pipes ----------------------------------------------------------------------------------------------


@script
def yes(lines: str) -> None:
    for number in range(int(lines)):
        os.write(1, b"%d\n" % number)


@script
def evens() -> None:
    for line in hear():
        if int(line) % 2 == 0:
            say(line)


@script
def total() -> None:
    say(sum(map(int, hear())))


@script
def big_write(size: str) -> None:
    written = os.write(1, b"x" * int(size))
    os.write(2, b"%d" % written)


@script
def writes_until_broken() -> int:
    try:
        while True:
            os.write(1, b"x" * 1000)
    except BrokenPipeError:
        return 7


@script
def both_streams(size: str) -> None:
    data = b"".join(iter(lambda: os.read(0, 1 << 16), b""))
    for start in range(0, int(size), 1000):
        os.write(1, b"o" * min(1000, int(size) - start))
        os.write(2, b"e" * min(1000, int(size) - start))
    say(len(data))


@script
def adder() -> None:
    """Answer each line of numbers by their sum: a coprocess."""
    for line in hear():
        say(sum(map(int, line.split())))


@script
def ring_member(source: str, target: str, starts: str) -> None:
    """Hand on a number, one more each time, until it is 20."""
    number = 0 if starts == "1" else None
    while number is None or number < 20:
        if number is not None:
            os.write(int(target), struct.pack("!I", number + 1))
        data = os.read(int(source), 4)
        if not data:
            return
        (number,) = struct.unpack("!I", data)
    say(number)


@script
def job_with_token(source: str, target: str, log: str) -> None:
    """Do three jobs, each while holding one of the tokens in a pipe, as jobs of make do."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for _ in range(3):
        token = os.read(int(source), 1)
        os.write(file, b"+")
        nap()
        os.write(file, b"-")
        os.write(int(target), token)
    os.close(file)


@script
def fifo_writer(path: str, text: str) -> None:
    with open(path, "w") as fifo:
        for _ in range(5):
            fifo.write(f"{text}\n")
            fifo.flush()


@script
def fifo_reader(path: str) -> None:
    with open(path) as fifo:
        say(len(fifo.readlines()))


@script
def fifo_breaks(path: str) -> None:
    file = os.open(path, os.O_WRONLY)
    say("open")
    try:
        while True:
            os.write(file, b"x" * 5000)
    except OSError as error:
        say(errno.errorcode[error.errno or 0])


@script
def fifo_reads_once(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    say(len(os.read(file, 1)))
    os.close(file)


@script
def fifo_server(requests: str, answers: str, count: str) -> None:
    """Answer requests of one fifo through another. It holds both ends open, so that neither is ever at its end."""
    with open(os.open(requests, os.O_RDWR), "rb") as source, open(os.open(answers, os.O_RDWR), "wb", 0) as target:
        say("ready")
        for _ in range(int(count)):
            target.write(source.readline().upper())
        next(hear(), None)


# --- files ----------------------------------------------------------------------------------------------


def increment(path: str) -> None:
    number = int(read_text(path))
    nap()
    with open(path, "w") as file:
        file.write(str(number + 1))


@script
def counts_excl(path: str) -> None:
    for _ in range(3):
        while True:
            try:
                os.close(os.open(f"{path}.lock", os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                nap()
        increment(path)
        os.unlink(f"{path}.lock")


@script
def counts_mkdir(path: str) -> None:
    for _ in range(3):
        while True:
            try:
                os.mkdir(f"{path}.lock")
                break
            except FileExistsError:
                nap()
        increment(path)
        os.rmdir(f"{path}.lock")


@script
def counts_link(path: str) -> None:
    own = f"{path}.{os.getpid()}"
    with open(own, "w"):
        pass
    for _ in range(3):
        while True:
            try:
                os.link(own, f"{path}.lock")
                break
            except FileExistsError:
                nap()
        increment(path)
        os.unlink(f"{path}.lock")


@script
def counts_flock(path: str) -> None:
    for _ in range(3):
        with open(f"{path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            increment(path)


@script
def counts_lockf(path: str) -> None:
    with open(f"{path}.lock", "w") as lock:
        for _ in range(3):
            fcntl.lockf(lock, fcntl.LOCK_EX)
            increment(path)
            fcntl.lockf(lock, fcntl.LOCK_UN)


@script
def counts_flock_in_turns(path: str) -> None:
    """Count under a lock that is tried, and not waited for."""
    with open(f"{path}.lock", "w") as lock:
        for _ in range(3):
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    nap()
            increment(path)
            fcntl.flock(lock, fcntl.LOCK_UN)


@script
def counts_of_a_record(path: str, number: str) -> None:
    """Count in one record of a file, of which the range is locked."""
    file = os.open(path, os.O_RDWR)
    for _ in range(3):
        fcntl.lockf(file, fcntl.LOCK_EX, 4, 4 * int(number))
        (count,) = struct.unpack("!I", os.pread(file, 4, 4 * int(number)))
        nap()
        os.pwrite(file, struct.pack("!I", count + 1), 4 * int(number))
        fcntl.lockf(file, fcntl.LOCK_UN, 4, 4 * int(number))
    os.close(file)


@script
def writes_pairs(path: str) -> None:
    with open(path, "r+") as file:
        for number in range(5):
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.write(f"{number} ")
            file.flush()
            nap()
            file.write(f"{number}")
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)


@script
def reads_pairs(path: str) -> None:
    for _ in range(5):
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            first, second = file.read().split()
            assert first == second
        nap()


@script
def single_instance(path: str) -> int | None:
    """Run until told, unless another one does: its pid is in a file that it keeps locked."""
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"runs as {read_text(path)}")
        return 1
    os.ftruncate(file, 0)
    os.pwrite(file, b"%d" % os.getpid(), 0)
    say("started")
    next(hear(), None)
    return 0


@script
def publisher(path: str, versions: str) -> None:
    for version in range(1, int(versions) + 1):
        publish(path, f"{version} " * 100)


@script
def subscriber(path: str, versions: str) -> None:
    last = 0
    while last < int(versions):
        found = {int(word) for word in wait_for_file(path).split()}
        assert len(found) == 1
        assert max(found) >= last
        last = max(found)
    say(last)


@script
def appends(path: str, name: str) -> None:
    for number in range(10):
        with open(path, "ab", 0) as log:
            log.write(f"{name} {number} {'x' * 50}\n".encode())


@script
def appends_to_one(path: str, name: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in range(10):
        os.write(file, f"{name} {number}\n".encode())
    os.close(file)


@script
def logs_watching(path: str, name: str) -> None:
    """Write a log that others rotate: reopen it when it is not the same file any more."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in range(10):
        try:
            is_same = os.path.samestat(os.stat(path), os.fstat(file))
        except FileNotFoundError:
            is_same = False
        if not is_same:
            os.close(file)
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{name} {number}\n".encode())
        nap()
    os.close(file)


@script
def rotates(path: str, times: str) -> None:
    for number in range(int(times)):
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, f"{path}.{number}")
        nap()


@script
def logs_until_told(path: str) -> None:
    """Write a log, and open it anew on SIGHUP: the handler only says so, the next line does it."""
    again = False

    def reopen(number: int, frame: object) -> None:
        nonlocal again
        again = True

    signal.signal(signal.SIGHUP, reopen)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    say("ready")
    for line in hear():
        if again:
            again = False
            os.close(file)
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{line}\n".encode())
        say("written")
    os.close(file)


@script
def claims_by_rename(directory: str) -> None:
    """Do jobs of a directory until none is left; whoever renames one has it."""
    while True:
        waiting = sorted(name for name in os.listdir(directory) if name.endswith(".job"))
        if not waiting:
            return
        for name in waiting:
            own = os.path.join(directory, f"{name[:-4]}.{os.getpid()}")
            try:
                os.rename(os.path.join(directory, name), own)
            except FileNotFoundError:
                continue
            nap()
            say(int(read_text(own)) ** 2)
            os.rename(own, f"{own}.done")


@script
def claims_by_excl(directory: str) -> None:
    for name in sorted(os.listdir(directory)):
        if name.endswith(".job"):
            try:
                os.close(os.open(os.path.join(directory, f"{name}.claim"), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            say(int(read_text(os.path.join(directory, name))) ** 2)


@script
def delivers(maildir: str, name: str) -> None:
    """Deliver messages as to a maildir: complete in ``tmp``, then into ``new``."""
    for number in range(4):
        unique = f"{name}.{os.getpid()}.{number}"
        with open(f"{maildir}/tmp/{unique}", "w") as file:
            file.write(f"from {name}\n" * 10)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{maildir}/tmp/{unique}", f"{maildir}/new/{unique}")


@script
def collects(maildir: str, count: str) -> None:
    seen = 0
    while seen < int(count):
        for name in os.listdir(f"{maildir}/new"):
            assert len(read_text(f"{maildir}/new/{name}").splitlines()) == 10
            os.rename(f"{maildir}/new/{name}", f"{maildir}/cur/{name}")
            seen += 1
        nap()
    say(seen)


@script
def meets(directory: str, name: str, count: str) -> None:
    """Wait until all are there; then none of them sees fewer."""
    with open(os.path.join(directory, name), "w"):
        pass
    while len(os.listdir(directory)) < int(count):
        nap()
    say("all there")


@script
def elects(directory: str) -> None:
    try:
        os.mkdir(os.path.join(directory, "leader"))
    except FileExistsError:
        say("follower")
    else:
        say("leader")


@script
def takes_numbers(directory: str) -> None:
    """Take three numbers that nobody else has: the lowest that are free."""
    number = 0
    for _ in range(3):
        while True:
            number += 1
            try:
                os.close(os.open(os.path.join(directory, str(number)), os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                continue
        say(number)


@script
def sums_with_checkpoints(path: str) -> None:
    """Sum up 0 to 19, and go on where it was ended."""
    try:
        position, sum_ = map(int, read_text(path).split())
    except FileNotFoundError:
        position, sum_ = 0, 0
    say("begun")
    while position < 20:
        sum_ += position
        position += 1
        publish(path, f"{position} {sum_}")
        nap()
    say(sum_)


@script
def writes_slowly(path: str) -> None:
    with open(path, "w") as file:
        for number in range(10):
            file.write(f"line {number}\n")
            file.flush()
            nap()
        file.write("end\n")


@script
def follows(path: str) -> None:
    """Follow a file that grows, as ``tail -f`` does."""
    wait_for_file(path)
    seen = ""
    with open(path) as file:
        while not seen.endswith("end\n"):
            seen += file.read()
            nap()
    say(len(seen.splitlines()))


@script
def fills_a_part(path: str, part: str) -> None:
    file = os.open(path, os.O_RDWR)
    for offset in range(0, 5000, 500):
        os.pwrite(file, bytes([65 + int(part)]) * 500, int(part) * 5000 + offset)
    os.close(file)


@script
def fills_a_directory(directory: str, name: str) -> None:
    """Make nested directories that others make, too."""
    for depth in range(5):
        os.makedirs(os.path.join(directory, *map(str, range(depth + 1))), exist_ok=True)
        with open(os.path.join(directory, *map(str, range(depth + 1)), name), "w") as file:
            file.write(name)


# --- signals --------------------------------------------------------------------------------------------


@script
def ends_gracefully() -> int:
    stop_on(signal.SIGTERM, 3)
    try:
        say("ready")
        while True:
            time.sleep(60)
    finally:
        say("bye")


@script
def ends_between_jobs() -> int:
    """Finish the job of the moment once told to end."""
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    say("ready")
    begun = ended = 0
    while not stopping:
        begun += 1
        time.sleep(0.003)
        ended += 1
    say("all ended" if begun == ended else "halfway")
    return 0


@script
def reloads(path: str) -> None:
    def load(number: int, frame: object) -> None:
        say(read_text(path))

    signal.signal(signal.SIGHUP, load)
    say(read_text(path))
    while True:
        signal.pause()


@script
def acknowledges() -> None:
    count = 0

    def handler(number: int, frame: object) -> None:
        nonlocal count
        count += 1
        say(count)

    signal.signal(signal.SIGUSR1, handler)
    say(0)
    for _ in hear():
        break
    say(f"in all {count}")


@script
def interrupted(where: str) -> int:
    """Wait in one of many calls for what ends all: KeyboardInterrupt."""
    lock = threading.Lock()
    lock.acquire()
    listening = socket.create_server(("127.0.0.1", 0))
    empty, full = os.pipe(), os.pipe()
    os.set_blocking(full[1], False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(full[1], b"x" * 4096)
    os.set_blocking(full[1], True)
    # Not started with the handler in place: a signal between fork and the end of `Popen` leaves a child to nobody.
    child = subprocess.Popen(command("sleeps"), stdout=subprocess.DEVNULL) if where == "child" else None
    waits: dict[str, Callable[[], Any]] = {
        "sleep": lambda: time.sleep(60),
        "read": lambda: os.read(empty[0], 1),
        "write": lambda: os.write(full[1], b"x" * 100_000),
        "accept": lambda: listening.accept(),
        "lock": lambda: lock.acquire(),
        "event": lambda: threading.Event().wait(),
        "queue": lambda: queue.Queue().get(),
        "simple queue": lambda: queue.SimpleQueue().get(),
        "select": lambda: select.select([empty[0]], [], []),
        "pause": lambda: signal.pause(),
        "child": lambda: child.wait() if child is not None else None,
        "stdin": lambda: next(hear(), None),
    }
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        say("ready")
        waits[where]()
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        if child is not None:
            child.kill()
            child.wait()
        listening.close()
        for fd in (*empty, *full):
            os.close(fd)
    return 0


@script
def sleeps() -> None:
    os.write(1, b"ready\n")
    time.sleep(60)


@script
def counts_down_on_signals() -> None:
    """Wait with `pause` for three signals, which come again and again."""
    seen = 0

    def handler(number: int, frame: object) -> None:
        nonlocal seen
        seen += 1

    signal.signal(signal.SIGUSR2, handler)
    say("ready")
    while seen < 3:
        signal.pause()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # the interpreter has no handlers at its end
    say("three")


@script
def waits_with_sigwait() -> None:
    wanted = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    say("ready")
    while True:
        number = signal.sigwait(wanted)
        say(signal.Signals(number).name)
        if number == signal.SIGTERM:
            return


@script
def times_out_by_alarm() -> None:
    class TooLate(Exception):
        pass

    def handler(number: int, frame: object) -> NoReturn:
        raise TooLate

    signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        os.read(0, 1)
    except TooLate:
        say("too late")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    say(os.read(0, 100).decode().strip())


@script
def ticks() -> None:
    seen = 0

    def handler(number: int, frame: object) -> None:
        nonlocal seen
        seen += 1

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    while seen < 3:
        signal.pause()
    signal.setitimer(signal.ITIMER_REAL, 0)
    say("three")


@script
def goes_on_reading() -> None:
    """Read lines, whatever signals with a handler come in between (PEP 475)."""
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    say("ready")
    for line in hear():
        say(line)


@script
def ignores(name: str) -> None:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
    say("ready")
    time.sleep(60)


@script
def leads_a_group() -> None:
    """Start two children that share its group, and wait until they are ended."""
    children = [subprocess.Popen(command("sleeps"), stdout=PIPE) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    say("ready")
    say(",".join(str(child.wait()) for child in children))
    for child in children:
        assert child.stdout is not None
        child.stdout.close()


@script
def exits(code: str) -> int:
    return int(code)


def spawn(*arguments: object) -> int:
    argv = command(*map(str, arguments))
    return os.posix_spawn(argv[0], argv, dict(os.environ))


@script
def reaps_all() -> None:
    expected = {spawn("exits", code): code for code in range(4)}
    found: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        found[pid] = os.waitstatus_to_exitcode(status)
    say(found == expected)


@script
def reaps_on_sigchld() -> None:
    found: dict[int, int] = {}

    def reap(number: int, frame: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            found[pid] = os.waitstatus_to_exitcode(status)

    signal.signal(signal.SIGCHLD, reap)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # until all are there: pids are used again
    expected = {spawn("exits", code): code for code in range(4)}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    while len(found) < 4:
        nap()
    say(found == expected)


@script
def fails_twice(path: str) -> int:
    with open(path, "a") as file:
        file.write("x")
    return 1 if len(read_text(path)) < 3 else 0


@script
def supervisor(path: str) -> None:
    starts = 0
    while True:
        starts += 1
        if subprocess.run(command("fails_twice", path), stdin=subprocess.DEVNULL).returncode == 0:
            break
        nap()
    say(starts)


@script
def supervisor_of_two() -> None:
    """Hand on SIGTERM to the children, and wait for both. The signal is blocked until all of it is in place."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    children = [subprocess.Popen(command("unblocks_and_ends", code), stdout=PIPE) for code in (3, 4)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    say("ready")
    signal.sigwait({signal.SIGTERM})
    for child in children:
        child.terminate()
    say(",".join(str(child.wait()) for child in children))
    for child in children:
        assert child.stdout is not None
        child.stdout.close()


@script
def unblocks_and_ends(code: str) -> NoReturn:
    stop_on(signal.SIGTERM, int(code))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    say("ready")
    while True:
        time.sleep(60)


@script
def tree(depth: str) -> None:
    """Sum up what two children say, down to the leaves."""
    if depth == "0":
        say(1)
        return
    children = [subprocess.Popen(command("tree", int(depth) - 1), stdin=subprocess.DEVNULL, stdout=PIPE) for _ in "ab"]
    say(sum(int(child.communicate()[0]) for child in children))


@script
def works_until_stopped(name: str) -> None:
    """Do jobs of a thread that SIGTERM stops, through an event."""
    stop, done = threading.Event(), 0

    def work() -> None:
        nonlocal done
        while not stop.wait(0.002):
            done += 1

    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    thread = threading.Thread(target=work)
    thread.start()
    say("ready")
    while not stop.is_set():
        time.sleep(0.005)
    thread.join()
    say(name)


# --- ends -----------------------------------------------------------------------------------------------


@script
def leaves_a_thread() -> int:
    """Return while a thread runs, for which Python waits at its end."""

    def work() -> None:
        for number in range(3):
            nap()
            say(number)

    threading.Thread(target=work).start()
    return 3


def naps() -> None:
    nap()
    say("done")


@script
def leaves_a_pool() -> None:
    """Return while jobs of an executor wait, all of which are done at the end of Python."""
    import concurrent.futures

    pool = concurrent.futures.ThreadPoolExecutor(2)
    for number in range(4):
        pool.submit(naps)
        say(f"submitted {number}")


@script
def leaves_a_daemon() -> int:
    """Return while a daemon waits for ever, for which nobody waits."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    say("left")
    return 4


@script
def counts_its_threads() -> None:
    """Count threads, before, while and after three wait."""
    gate = threading.Event()
    say(threading.active_count())
    threads = [threading.Thread(target=gate.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    say(threading.active_count())
    gate.set()
    for thread in threads:
        thread.join()
    say(len(threading.enumerate()))
    next(hear(), None)


@script
def exits_at_once() -> NoReturn:
    """End by `os._exit`, which runs no `finally`."""
    try:
        say("before")
        os._exit(8)
    finally:
        say("finally")


@script
def runs_exit_handlers() -> None:
    atexit.register(say, "second")
    atexit.register(say, "first")
    say("main")


@script
def holds_a_lock_in_a_thread(path: str) -> None:
    """Write a log of `logging` in threads, until killed."""
    import logging

    handler = logging.FileHandler(path)
    logger = logging.Logger("script")
    logger.addHandler(handler)

    def work() -> None:
        while True:
            logger.info("x" * 1000)

    for _ in range(2):
        threading.Thread(target=work, daemon=True).start()
    say("ready")
    time.sleep(60)


@script
def outlives_its_parent() -> None:
    """Start a child that waits for this process's end."""
    child = subprocess.Popen(command("waits_for_its_parent", os.getpid()))
    say("ready")
    child.wait()


@script
def waits_for_its_parent(parent: str) -> None:
    while os.getppid() == int(parent):
        nap()
    say("orphan")


@script
def keeps_a_lock(fd: str) -> None:
    """Keep a descriptor, and with it the lock of its open file, until the end of the input."""
    say("ready")
    next(hear(), None)


@script
def says_lines(name: str, count: str) -> None:
    for number in range(int(count)):
        say(f"{name} {number} {'x' * 200}")


@script
def opens_fifo_when_read(path: str) -> None:
    while True:
        try:
            file = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            nap()
    os.write(file, b"1\n2\n")
    os.close(file)


@script
def interrupted_with_its_group() -> int:
    """Start two children that, like itself, end by KeyboardInterrupt; the signal goes to all."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    children = [subprocess.Popen(command("interrupted", "sleep"), stdin=PIPE, stdout=PIPE) for _ in range(2)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
        say("ready")
        time.sleep(60)
    except KeyboardInterrupt:
        outputs = [child.communicate()[0].decode().strip() for child in children]
        say(outputs == ["interrupted"] * 2)
        say(sum(child.returncode for child in children))
    return 130


@script
def signals_its_parent(number: str) -> None:
    os.kill(os.getppid(), int(number))
    next(hear(), None)


@script
def waits_for_its_child() -> None:
    """Sleep until a child sends a signal whose handler raises."""

    class Woken(Exception):
        pass

    def wake(number: int, frame: object) -> NoReturn:
        raise Woken

    signal.signal(signal.SIGUSR1, wake)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # until `Popen` has returned
    with subprocess.Popen(command("signals_its_parent", int(signal.SIGUSR1)), stdin=PIPE):
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
            time.sleep(60)
        except Woken:
            say("woken")


@script
def signals_a_thread() -> None:
    """Send a signal to a thread: its handler runs in the main one."""
    seen: list[bool] = []
    signal.signal(
        signal.SIGUSR1, lambda number, frame: seen.append(threading.current_thread() is threading.main_thread())
    )
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    assert thread.ident is not None
    signal.pthread_kill(thread.ident, signal.SIGUSR1)
    while not seen:
        nap()
    gate.set()
    thread.join()
    say(seen)


@script
def handles_in_the_main_thread_alone() -> None:
    def work() -> None:
        try:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        except ValueError:
            say("ValueError")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@script
def inherits_a_mask() -> None:
    """Say which signals were blocked at its start."""
    say(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])) == [signal.SIGUSR2])


@script
def starts_with_a_mask() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    return subprocess.run(command("inherits_a_mask")).returncode


@script
def starts_with_ignored_signals() -> int:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    return subprocess.run(command("says_dispositions")).returncode


@script
def says_dispositions() -> None:
    say(signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL and signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN)


@script
def web_server() -> None:
    import http.server
    import socketserver

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"hello {self.path}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        say(server.socket.getsockname()[1])
        for _ in range(3):
            server.handle_request()


@script
def web_client(port: str, path: str) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    connection.request("GET", path)
    say(connection.getresponse().read().decode())
    connection.close()


@script
def mails(path: str, name: str) -> None:
    """Add messages to a mailbox, which the library locks by a file and by lockf."""
    import mailbox

    box = mailbox.mbox(path)
    for number in range(2):
        while True:
            try:
                box.lock()
                break
            except mailbox.ExternalClashError:
                nap()
        box.add(f"Subject: {name} {number}\n\nhello\n")
        box.flush()
        box.unlock()
    box.close()
