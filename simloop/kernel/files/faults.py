"""Fault injection: disks that fail, fill up and are slow, although nothing is wrong with what was asked."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from simloop.errors import ConfigurationError

#: The operations that can be made to fail.
OPERATIONS = (
    "chmod", "fsync", "link", "listdir", "mkdir", "open", "read", "rename", "rmdir", "stat", "symlink", "truncate",
    "unlink", "utime", "write",
)  # fmt: skip
_NOTE = "simloop: an injected fault"


class Effect(NamedTuple):
    """Effect of a fault on a call that it strikes: an error, a short count, a delay, or corrupt data."""

    #: The errno that it fails with; 0 lets it go through.
    number: int = 0
    #: How many bytes it moves at most.
    short: int | None = None
    delay_ns: int = 0
    #: Whether the data that it reads are spoilt.
    corrupt: bool = False

    def __str__(self) -> str:
        """Return words for reports, to stand behind the name of an operation."""
        if self.number:
            return f"failed with {errno.errorcode.get(self.number, self.number)}"
        if self.short is not None:
            return f"moved {self.short} bytes at most"
        return "found a flipped bit" if self.corrupt else f"took {self.delay_ns / 1e9:g} s longer"

    def failure(self) -> OSError:
        """Return the error, marked as injected."""
        error = OSError(self.number, os.strerror(self.number))
        error.add_note(_NOTE)
        return error


def is_injected(error: BaseException) -> bool:
    """Return True for an error that an injected fault has raised, and that is not the program's own doing.

    >>> import errno, simloop
    >>> async def main():
    ...     simloop.current().fs.fault("open", errno.EACCES)
    ...     for path in ("/etc/passwd", "/nowhere/at/all"):
    ...         try:
    ...             open(path)
    ...         except OSError as error:
    ...             print(error.strerror, simloop.is_injected(error))
    >>> simloop.run(main)
    Permission denied True
    No such file or directory False
    """
    return _NOTE in getattr(error, "__notes__", ())


# How operations go wrong that are left to the environment. Disks fail with EIO, and where something new is to be
# written they are full; a process has only so many descriptors.
_USUAL: dict[str, tuple[Effect, ...]] = {
    "read": (Effect(errno.EIO), Effect(short=1)),
    "write": (Effect(errno.ENOSPC), Effect(errno.EIO), Effect(short=1)),
    "fsync": (Effect(errno.EIO), Effect(errno.ENOSPC)),
    "open": (Effect(errno.EMFILE), Effect(errno.EACCES), Effect(errno.EIO)),
    "mkdir": (Effect(errno.ENOSPC), Effect(errno.EIO)),
    "rename": (Effect(errno.ENOSPC), Effect(errno.EIO)),
}
_EIO = (Effect(errno.EIO),)


@dataclass
class Fault:
    """Injected fault of a disk: of the calls of `operation` (``*``: of all) on paths that match `pattern`, the first
    `after` pass, the next `times` are struck (None: all of them), and the rest pass again. With `by_choice` it is asked
    of each instead.

    `pattern` is a shell pattern of file names, or of absolute paths if there is a slash in it. With several `effects`
    it is asked which; with none they are the usual ones of the operation.
    """

    pattern: str
    operation: str
    effects: tuple[Effect, ...] = ()
    after: int = 0
    times: int | None = 1
    by_choice: bool = False
    #: How often it has struck.
    struck: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS and self.operation != "*":
            raise ConfigurationError(f"no operation {self.operation!r}: use one of {', '.join(OPERATIONS)}, or *")
        if self.times is not None and self.times < 1:
            raise ConfigurationError(f"times must be at least 1, or None for always, not {self.times!r}")
        if self.after < 0:
            raise ConfigurationError(f"after must be a number of calls, not {self.after!r}")
        for effect in self.effects:
            if effect.corrupt and self.operation != "read":
                raise ConfigurationError("only what is read can be corrupt")
            if effect.short is not None and (self.operation not in ("read", "write") or effect.short < 1):
                raise ConfigurationError("only read and write can fall short, by moving at least 1 byte")
            if effect == Effect():
                raise ConfigurationError("a fault needs one of error, short, delay and corrupt")

    def strikes(self, operation: str, path: str, ask: Callable[[str, tuple[Effect, ...]], int]) -> Effect | None:
        """Return its effect on this call, if any. ``ask(who, effects)`` is the environment's answer: 0 for nothing."""
        if self.operation not in ("*", operation):
            return None
        if not fnmatchcase(path if "/" in self.pattern else path.rpartition("/")[2], self.pattern):
            return None
        self._seen += 1
        if self._seen <= self.after or (self.times is not None and self.struck >= self.times):
            return None
        effects = self.effects or _USUAL.get(operation, _EIO)
        answer = ask(f"{operation} {path}", effects) if self.by_choice else 1
        if not answer:
            return None
        self.struck += 1
        return effects[answer - 1]
