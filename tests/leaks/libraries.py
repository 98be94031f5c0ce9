"""Probes of libraries with input and output of their own. Where one is not installed, a stand-in is imported that
writes a real file, as the library's own C code would."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import sys
from types import ModuleType
from typing import Any

import real
from probes import escapes, simulated, warned

_ROW = "libraries with input and output of their own"


def _leak(*_: Any, **__: Any) -> None:
    """Does what an extension module does: it writes a real file, of which no shim and no audit event knows."""
    _LIBC.syscall(1, real.FD, b"leak", 4)  # write(2) on x86-64


_LIBC = ctypes.CDLL(None)


def _library(name: str, *calls: str) -> Any:
    """Returns a library, or its stand-in."""
    if importlib.util.find_spec(name.partition(".")[0]) is not None:
        return importlib.import_module(name)
    module: Any = sys.modules.setdefault(name, ModuleType(name))
    for call in calls:
        *path, method = call.split(".")
        if path:
            if not hasattr(module, path[0]):
                setattr(module, path[0], type(path[0], (), {}))
            setattr(getattr(module, path[0]), method, _leak)
        else:
            setattr(module, method, _leak)
    return module


uvloop = _library("uvloop", "new_event_loop", "Loop.__init__")
zmq = _library("zmq", "Context.__init__")
lmdb = _library("lmdb", "open")
apsw = _library("apsw", "Connection.__init__")
duckdb = _library("duckdb", "connect", "sql")
grpc = _library("grpc", "insecure_channel", "server")
psycopg = _library("psycopg", "connect", "AsyncConnection.connect")
psycopg2 = _library("psycopg2", "connect")
pycares = _library("pycares", "Channel.__init__")
netifaces = _library("netifaces", "interfaces")
psutil = _library("psutil", "net_if_addrs")
if apsw.__spec__ is None:
    apsw.connection_hooks = []
    apsw.Connection.__init__ = lambda connection, _: [hook(connection) for hook in apsw.connection_hooks] and _leak()


@escapes(_ROW)
def a_loop_of_libuv() -> None:
    uvloop.new_event_loop()


@escapes(_ROW)
def the_class_of_such_a_loop() -> None:
    uvloop.Loop()


@escapes(_ROW)
def zeromq() -> None:
    zmq.Context()


@escapes(_ROW)
def lightning() -> None:
    lmdb.open(str(real.ROOT / "lmdb"))


@escapes(_ROW)
def another_sqlite() -> None:
    apsw.Connection(str(real.ROOT / "apsw.db"))


@escapes(_ROW)
def duck() -> None:
    duckdb.connect(str(real.ROOT / "duck.db"))


@escapes(_ROW)
def the_duck_that_is_always_there() -> None:
    duckdb.sql(f"copy (select 1) to '{real.ROOT}/duck.csv'")


@escapes(_ROW)
def remote_calls() -> None:
    grpc.insecure_channel(f"127.0.0.1:{real.PORT}")


@escapes(_ROW)
def postgres() -> None:
    psycopg.connect(host="127.0.0.1", port=real.PORT, connect_timeout=1)


@escapes(_ROW)
async def asynchronous_postgres() -> None:
    await psycopg.AsyncConnection.connect(host="127.0.0.1", port=real.PORT, connect_timeout=1)


@escapes(_ROW)
def the_older_postgres() -> None:
    psycopg2.connect(host="127.0.0.1", port=real.PORT, connect_timeout=1)


@escapes(_ROW)
def resolver() -> None:
    pycares.Channel()


@escapes(_ROW)
def interfaces() -> None:
    netifaces.interfaces()


@escapes(_ROW)
def addresses_of_interfaces() -> None:
    psutil.net_if_addrs()


@simulated("event loops")
async def a_policy_that_would_make_other_loops() -> str:
    return type(asyncio.get_running_loop()).__name__


@warned("libraries that are called through `ctypes`")
def a_library_that_is_opened() -> None:
    ctypes.CDLL("libc.so.6")


if importlib.util.find_spec("numpy") is not None:
    import numpy as np

    @simulated("numpy's random numbers")
    def random_arrays() -> list[Any]:
        return [np.random.rand(2), np.random.default_rng().random(2), np.random.RandomState().rand(2)]
