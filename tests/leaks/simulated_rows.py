"""Probes of the table of what is simulated: one row, one thing that a leak would show or move."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import datetime
import fcntl
import gc
import os
import queue
import random
import resource
import secrets
import select
import selectors
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import real
from probes import simulated

import simloop

WORLD_START = 2_000_000_000

_ASYNC_LOCK = asyncio.Lock()


@simulated("event loops")
async def the_loop_is_ours() -> str:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.sleep(3600)
    assert loop.time() - before >= 3600
    return type(loop).__name__


@simulated("TCP over IPv4 and IPv6")
async def a_real_listener_is_not_there() -> str:
    try:
        await asyncio.open_connection("127.0.0.1", real.PORT)
    except ConnectionRefusedError as error:
        return str(error)
    raise AssertionError("connected")


@simulated("TCP over IPv4 and IPv6")
def a_port_that_is_really_taken_is_free() -> tuple[Any, ...]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", real.PORT))
        sock.listen()
        return (sock.getsockname()[0],)


@simulated("sockets")
def descriptors_of_sockets_are_simulated() -> tuple[bool, int]:
    class Mine(socket.socket):
        pass

    with Mine() as sock, socket.socket(fileno=os.dup(sock.fileno())) as copy:
        return sock.fileno() > 1000, copy.family


@simulated("UDP over IPv4 and IPv6")
def a_datagram_reaches_nobody() -> tuple[Any, ...]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", real.UDP_PORT))
        return sock.getsockname()


@simulated("unix sockets")
def names_of_unix_sockets_are_simulated() -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(real.ROOT / "new.sock"))
    left, right = socket.socketpair()
    with left, right:
        left.send(b"x")
        return right.recv(1)


@simulated("files")
def files_are_written_in_memory() -> list[str]:
    Path("new.txt").write_text("x")
    Path("there.txt").unlink()
    os.rename("folder", "moved")
    os.symlink("new.txt", "link")
    os.chmod("new.txt", 0o600)
    os.utime("moved/inner.txt", (1, 1))
    shutil.copytree("moved", "copied")
    with tempfile.NamedTemporaryFile(prefix="leak-", delete=False) as file:
        file.write(b"x")
    os.umask(0o77)
    os.chdir("moved")
    return sorted(os.listdir(".."))


@simulated("open files")
def descriptors_are_simulated() -> list[Any]:
    fd = os.open("new.bin", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"abc")
    os.pwrite(fd, b"X", 1)
    os.ftruncate(fd, 2)
    os.fsync(fd)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return [os.pread(fd, 10, 0), fd, os.fstat(fd).st_size]


@simulated("databases")
def databases_are_on_the_simulated_disk() -> list[Any]:
    with sqlite3.connect("new.db") as db:
        db.execute("create table t (x)")
        db.execute("insert into t values (random()), (datetime('now')), (julianday('now'))")
    db.execute(f"attach '{real.ROOT}/attached.db' as more")
    db.execute("create table more.u (x)")
    memory = sqlite3.connect(":memory:")
    memory.execute("create table v (x)")
    memory.execute("vacuum into 'vacuumed.db'")
    assert os.path.getsize("vacuumed.db")
    seen = memory.execute("select random(), hex(randomblob(8)), datetime('now'), current_timestamp").fetchone()
    return [db.execute("select * from t").fetchall(), seen, sorted(os.listdir())]


@simulated("pipes and fifos")
def pipes_are_simulated() -> list[Any]:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    os.mkfifo("fifo")
    return [reading, writing, os.read(reading, 10)]


if sys.version_info >= (3, 13):

    @simulated("counters and timers")
    def a_timer_waits_in_virtual_time() -> float:
        fd = os.timerfd_create(time.CLOCK_MONOTONIC)
        before = time.monotonic()
        os.timerfd_settime(fd, initial=500)
        os.read(fd, 8)
        assert time.monotonic() - before >= 500
        return before


@simulated("counters and timers")
def a_counter_is_simulated() -> list[int]:
    fd = os.eventfd(3)
    return [fd, os.eventfd_read(fd)]


@simulated("names")
def names_are_the_worlds() -> list[Any]:
    try:
        socket.getaddrinfo("example.com", 80)
    except socket.gaierror as error:
        found = str(error)
    return [socket.gethostname(), socket.getfqdn(), socket.gethostbyname("localhost"), found]


@simulated("clocks")
def clocks_are_virtual() -> list[Any]:
    before = time.monotonic()
    time.sleep(7200)
    assert time.monotonic() - before >= 7200
    return [
        time.time(), time.time_ns(), time.perf_counter(), time.clock_gettime(time.CLOCK_BOOTTIME), time.ctime(),
        time.strftime("%c"), time.localtime(), datetime.datetime.now(), datetime.date.today(),
        datetime.datetime.now(datetime.UTC), os.path.getmtime(tempfile.mkstemp(prefix="leak-")[1]),
    ]  # fmt: skip


@simulated("processor time")
def processor_time_is_virtual() -> list[Any]:
    sum(range(100_000))
    return [time.process_time(), time.thread_time(), os.times(), resource.getrusage(resource.RUSAGE_SELF)]


@simulated("entropy")
def entropy_is_the_seeds() -> list[Any]:
    return [
        os.urandom(8), os.getrandom(8), random.random(), random.Random().random(), random.SystemRandom().random(),
        secrets.token_hex(), uuid.uuid4(), uuid.uuid1(), uuid.getnode(), tempfile.mktemp(),
        open("/dev/urandom", "rb").read(8),
    ]  # fmt: skip


@simulated("identity")
def the_process_is_simulated() -> list[Any]:
    os.nice(3)
    os.sched_setaffinity(0, {0})
    seen = [threading.get_native_id()]
    thread = threading.Thread(target=lambda: seen.append(threading.get_native_id()))
    thread.start()
    thread.join()
    assert seen[0] == os.getpid() != seen[1]
    counts = [os.cpu_count(), os.getpriority(os.PRIO_PROCESS, 0), len(os.sched_getaffinity(0))]
    return [*seen, os.getpid(), os.getppid(), *counts]


@simulated("processes")
def programs_are_played() -> list[Any]:
    simloop.current().program("touch", lambda *_: None)
    try:
        subprocess.run(["/bin/mkdir", str(real.ROOT / "by-a-child")], check=False)
    except FileNotFoundError as error:
        found = str(error)
    return [found, os.system("mkdir by-a-shell"), shutil.which("mkdir")]


@simulated("executors")
async def executors_are_simulated() -> list[Any]:
    before = time.monotonic()
    await asyncio.to_thread(time.sleep, 600)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(time.sleep, 600).result()
    return [time.monotonic() - before, len(os.listdir("/"))]


@simulated("threads")
def threads_are_simulated() -> list[Any]:
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: (time.sleep(300), seen.append(time.monotonic())))
    thread.start()
    thread.join()
    return [seen, thread.name]


@simulated("the end of Python")
async def handlers_at_exit_are_the_programs() -> list[str]:
    seen: list[str] = []

    async def main() -> None:
        atexit.register(seen.append, "ended")

    await simloop.current().host("other").run(main)
    return seen


@simulated("locks of asyncio")
async def a_lock_of_a_module_is_bound_to_the_loop_of_the_run() -> list[Any]:
    async def locks() -> None:
        async with _ASYNC_LOCK:
            await asyncio.sleep(1)

    await asyncio.gather(locks(), locks())
    return [asyncio.get_running_loop().time()]


@simulated("locks and queues")
def locks_wait_in_virtual_time() -> list[Any]:
    before = time.monotonic()
    with threading.Lock() as _:
        pass
    found = threading.Event().wait(900)
    try:
        queue.SimpleQueue().get(timeout=900)
    except queue.Empty:
        found = True
    assert time.monotonic() - before >= 1800
    return [found, time.monotonic()]


@simulated("signals")
async def signals_are_simulated() -> list[Any]:
    seen: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.alarm(1000)
    signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    await asyncio.sleep(2000)
    return seen


@simulated("polling")
def polling_is_simulated() -> list[Any]:
    reading, _ = os.pipe()
    before = time.monotonic()
    found = select.select([reading], [], [], 500)
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        selector.select(500)
    assert time.monotonic() - before >= 1000
    return [found, time.monotonic()]


@simulated("imports")
def imports_take_no_time() -> float:
    before = time.monotonic()
    import xml.dom.minidom  # noqa: F401

    return time.monotonic() - before


@simulated("garbage")
async def a_lost_exception_is_told() -> int:
    seen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context["message"]))
    asyncio.get_running_loop().create_future().set_exception(ValueError("lost"))
    gc.collect()
    await asyncio.sleep(0)
    return len(seen)
