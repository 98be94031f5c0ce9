"""File system of one simulated host: an overlay over the real files, a disk, and the system calls of its processes.

Callable from a plain script, and clock-free but for the time that it is told:

>>> from simloop.choices.choices import Choices
>>> from simloop.kernel.clock import Clock
>>> from simloop.kernel.descriptors import DescriptorTable
>>> fs = FileSystem(Clock())
>>> calls = FileCalls(fs, DescriptorTable())
>>> file = calls.open("/a", os.O_RDWR | os.O_CREAT)
>>> file.write(memoryview(b"hello")), calls.listdir("/")
(5, ['a'])
>>> lose_power(fs, Choices())  # whatever can be lost is lost by choice, and 0 loses nothing
>>> calls.stat("/a").size
5
"""

from __future__ import annotations

import os

from simloop.kernel.files.calls import Entry, FileCalls
from simloop.kernel.files.crash import lose_power
from simloop.kernel.files.description import Description, Stat
from simloop.kernel.files.devices import UnsimulatedFileError
from simloop.kernel.files.disk import Disk, DiskTiming
from simloop.kernel.files.faults import Effect, Fault, is_injected
from simloop.kernel.files.filesystem import FileSystem
from simloop.kernel.files.lower import LowerLayer, real_cwd
from simloop.kernel.files.resolve import Credentials

__all__ = [
    "Credentials",
    "Description",
    "Disk",
    "DiskTiming",
    "Effect",
    "Entry",
    "Fault",
    "FileCalls",
    "FileSystem",
    "LowerLayer",
    "Stat",
    "UnsimulatedFileError",
    "is_injected",
    "lose_power",
    "os",
    "real_cwd",
]  # fmt: skip
