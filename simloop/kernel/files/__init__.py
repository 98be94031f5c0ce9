"""File system of one simulated host: an overlay over the real files, a disk, and the system calls of its processes.

It can be used in a script without a simulation:

>>> import os
>>> from simloop.choices.choices import Choices
>>> from simloop.kernel.clock import Clock
>>> from simloop.kernel.wall import WallClock
>>> from simloop.kernel.descriptors import DescriptorTable
>>> from simloop.kernel.files.calls import FileCalls
>>> from simloop.kernel.files.crash import lose_power
>>> from simloop.kernel.files.filesystem import FileSystem
>>> fs = FileSystem(WallClock(Clock()))
>>> calls = FileCalls(fs, DescriptorTable())
>>> file = calls.open("/a", os.O_RDWR | os.O_CREAT)
>>> file.write(memoryview(b"hello")), calls.listdir("/")
(5, ['a'])
>>> lose_power(fs, Choices())  # a choice for all that was not synced; the default, 0, loses nothing
>>> calls.stat("/a").size
5
"""
