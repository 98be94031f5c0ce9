"""Names of whoever asks at a choice point (`who`): how they are written, and how they are parsed.

Tokens contain these names, so they are plain text everywhere; `Who` gives access to their parts. The forms:

==========================  =================================================================================
``serve.read#2~recv#3``     a task by its path, the function in which it waits, the number of the wait there
``client>db:5432#1>``       a connection: its ends, the port, its number among these; direction of a packet
``db:/var/log:3``           something on a host: a path, and a page or a part (``size``, ``end``, ``cut``, ``mode``)
``db:write /var/log``       an operation on a host's disk
``localhost:db.internal``   a look-up of a name, from a host
``localhost:git SIGTERM``   a signal to a process
``asyncio save#2``          a job of an executor: its threads' name prefix, the function, the number of the job
``asyncio save#2~add#3``    a line of a job or thread: the function, and the line's number in it, from its ``def`` on
==========================  =================================================================================
"""

from __future__ import annotations

import re

# The numbers in a name: the nth task, wait, connection or packet of that name.
_NUMBERS = re.compile(r"(?<=[#<>])\d+")
# Behind a connection, the direction and the number of a packet; behind a job, 0 for its start and 1 for its end.
_PACKET = re.compile(r"(?:[<>]\d*| \d+)$")


class Who(str):
    """Name of whoever asks at a choice point (a task, a connection, a file), with access to its parts.

    >>> who = Who("db:/var/log:3")
    >>> who.host, who.place, who.path, who.part
    ('db', '/var/log:3', '/var/log', '3')
    >>> Who("serve.read#2~recv#3").task, Who("serve.read#2~recv#3").function
    ('serve.read#2', 'recv')
    """

    __slots__ = ()

    @property
    def task(self) -> str:
        """Path, in the tree of tasks, of the task that asks."""
        return self.partition("~")[0]

    @property
    def function(self) -> str:
        """Function in which the task waits; empty if that is not a part of the name."""
        return self.partition("~")[2].partition("#")[0]

    @property
    def line(self) -> int:
        """Number of the source line in that function, in the name of a line."""
        return int(self.partition("~")[2].partition("#")[2] or 1)

    @property
    def host(self) -> str:
        """Host in a name of the form ``host:place``."""
        return self.partition(":")[0]

    @property
    def place(self) -> str:
        """Part after the host of a name of the form ``host:place``."""
        return self.partition(":")[2]

    @property
    def path(self) -> str:
        """File path in a name of the form ``host:path:part``."""
        return self.place.rpartition(":")[0]

    @property
    def part(self) -> str:
        """Part of the file in a name of the form ``host:path:part``: a page number, or a word such as ``size``."""
        return self.place.rpartition(":")[2]

    @property
    def operation(self) -> tuple[str, str]:
        """Operation and path in a name of the form ``host:operation path``."""
        operation, _, path = self.place.partition(" ")
        return operation, path

    @property
    def numbers(self) -> list[int]:
        """All numbers in the name, by which it differs from names that are otherwise the same."""
        return [int(number) for number in _NUMBERS.findall(self)]

    @property
    def source(self) -> str:
        """Connection or job: the name without the direction and number of a packet, or without the number after a job.

        >>> Who("client>db:5432#1>3").source, Who("asyncio save#2 1").source
        ('client>db:5432#1', 'asyncio save#2')
        """
        return _PACKET.sub("", self)

    @property
    def name(self) -> str:
        """Name without its numbers."""
        return _NUMBERS.sub("", self).replace("#", "")
