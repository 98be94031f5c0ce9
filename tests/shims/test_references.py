"""Functions of the real world that objects took before the shims were in place are the world's in a run."""

from __future__ import annotations

import os
import subprocess
import sys

# In a process of its own, whose objects are there before simloop is.
PROGRAM = """
import asyncio, collections, datetime, functools, os, time
from dataclasses import dataclass, field
from typing import NamedTuple

@dataclass
class Made:
    value: object = field(default_factory=time.time)

@dataclass(frozen=True)
class Frozen:
    clock: object = time.time

@dataclass(slots=True)
class Slotted:
    clock: object

class Keeper:
    def __init__(self, *, clock=time.time):
        self.clock = clock

    def read(self, clock=time.time):
        return clock()

    now = property(lambda self, clock=time.time: clock())
    made = classmethod(lambda cls, clock=time.time: clock())

def moment(now=datetime.datetime.now):
    return now().timestamp()

bound = datetime.datetime.utcnow

@dataclass
class Dated:
    at: object = field(default_factory=datetime.datetime.now)

def local():
    class Local:
        clock = staticmethod(time.time)
        taken = time.time
    return Local

def enclosing(clock):
    return lambda: clock()

def default(clock=time.time):
    return clock()

class Strict:
    def __init__(self, clock):
        object.__setattr__(self, "clock", clock)

    def __setattr__(self, name, value):
        raise AttributeError(name)

class Sealing(type):
    def __setattr__(self, name, value):
        raise TypeError(name)

class Sealed(metaclass=Sealing):
    clock = staticmethod(time.time)

class FrozenTable(dict):
    def __setitem__(self, key, value):
        raise TypeError(key)

class Lazy:
    # As Django's settings are, until they are configured.
    __class__ = property(lambda self: 1 / 0)

lazy = Lazy()
lazy.clock = time.time

class Clocks(NamedTuple):
    wall: object

class Tuples:
    clocks = (time.time, time.monotonic)

def enclosing_tuple(held):
    return lambda: held[0][1][0]()

PAIR = (time.time, 1)
CLOCKS = Clocks(time.time)
FROZEN = frozenset([time.time])
QUEUE = collections.deque([time.time])

CASES = {
    "an attribute of a class that takes none": lambda: Sealed.clock(),
    "a value of a table that takes none": lambda held=FrozenTable(x=time.time): held["x"](),
    "an attribute of a lazy object": lambda: lazy.clock(),
    "a default argument": default,
    "a keyword default": lambda: Keeper().clock(),
    "a default of a method": lambda: Keeper().read(),
    "a default of a property": lambda: Keeper().now,
    "a default of a class method": lambda: Keeper.made(),
    "a factory of a dataclass": lambda: Made().value,
    "a default of a frozen dataclass": lambda: Frozen().clock(),
    "an enclosed function": enclosing(time.time),
    "a partial function": functools.partial(time.time),
    "an argument of a partial function": functools.partial(lambda clock: clock(), time.time),
    "a bound method of an instance": lambda held=Keeper(): held.clock(),
    "an attribute in a slot": lambda held=Slotted(time.time): held.clock(),
    "an attribute of a frozen instance": lambda held=Frozen(): held.clock(),
    "an attribute of one that takes none": lambda held=Strict(time.time): held.clock(),
    "an element of a list": lambda held=[[time.time]]: held[0][0](),
    "a value of a dictionary": lambda held={"x": {"y": time.time}}: held["x"]["y"](),
    "an element of a tuple": lambda: PAIR[0](),
    "an element of a tuple in a default argument": lambda held=(1, time.time): held[1](),
    "a tuple in a table": lambda held={"x": (time.time,)}: held["x"][0](),
    "a tuple in a class": lambda: Tuples.clocks[0](),
    "a tuple in an enclosed tuple": enclosing_tuple((("x", (time.time,)),)),
    "a field of a named tuple": lambda: Clocks(time.time).wall() and CLOCKS.wall(),
    "an element of a set": lambda held=[{time.time}]: next(iter(held[0]))(),
    "an element of a frozen set": lambda: next(iter(FROZEN))(),
    "an element of a deque": lambda: QUEUE[0](),
    "an attribute of a local class": lambda held=local(): held.clock(),
    "a function in a local class": lambda held=local(): held.taken(),
    "a bound method of datetime": moment,
    "a bound method in a module": lambda: bound().replace(tzinfo=datetime.timezone.utc).timestamp(),
    "a bound method as a factory": lambda: Dated().at.timestamp(),
}

LOOPS = {"selectors": asyncio.SelectorEventLoop}

import simloop

async def main():
    loop = LOOPS["selectors"]()
    print("a class in a table", "" if type(loop).__name__ == "SimLoop" else "(real)")
    loop.close()
    for name, read in CASES.items():
        print(name, "" if abs(read() - 1767225600) < 60 else "(real)")

before = time.time
simloop.run(main)
assert all(abs(read() - before()) < 60 for read in CASES.values()), "outside of a world each is real again"
"""


def test_whoever_holds_a_function_holds_its_shim() -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    child = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=120, check=False)
    assert not child.stderr
    told = child.stdout.splitlines()
    assert len(told) == 34
    assert [line for line in told if "(real)" in line] == []


FROZEN = """
import gc
from datetime import datetime
from time import time
held = {"time": time}
class Record:
    now = datetime.now
gc.freeze()
import simloop
async def main():
    for each in (time(), held["time"](), Record.now().timestamp()):
        print(abs(each - 1767225600) < 100_000)
simloop.run(main)
"""


def test_what_is_frozen_is_searched_too() -> None:
    child = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, timeout=120, check=False)
    assert child.stdout == "True\n" * 3, child.stderr
