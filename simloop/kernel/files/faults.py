"""Fault injection for disks: calls that fail, transfer fewer bytes, take longer or read corrupt data."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from simloop.errors import ConfigurationError

#: Operations to which faults can be injected.
OPERATIONS = (
    "chmod", "fsync", "link", "listdir", "mkdir", "open", "read", "rename", "rmdir", "stat", "symlink", "truncate",
    "unlink", "utime", "write",
)  # fmt: skip
_NOTE = "simloop: an injected fault"


class Effect(NamedTuple):
    """Effect of a fault on a call that it strikes: an error, a short read or write, a delay, or corrupt data."""

    #: Errno with which the call fails; 0 lets it succeed.
    number: int = 0
    #: Maximum number of bytes that the call transfers; None for no limit.
    short: int | None = None
    delay_ns: int = 0
    #: True if a bit of the data that the call reads is flipped.
    corrupt: bool = False

    def __str__(self) -> str:
        """Return the effect as a phrase that follows the name of an operation in reports: "failed with EIO"."""
        if self.number:
            return f"failed with {errno.errorcode.get(self.number, self.number)}"
        if self.short is not None:
            return f"moved {self.short} bytes at most"
        return "found a flipped bit" if self.corrupt else f"took {self.delay_ns / 1e9:g} s longer"

    def failure(self) -> OSError:
        """Return the `OSError` of the effect, marked as injected (see `is_injected`)."""
        error = OSError(self.number, os.strerror(self.number))
        error.add_note(_NOTE)
        return error


def is_injected(error: BaseException) -> bool:
    """Return True if an error was raised by an injected fault (see `SimFiles.fault`), False for any other error.

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
    """Injected fault of a disk, which strikes calls of `operation` (``*`` for all) on paths that match `pattern`.

    The first `after` such calls pass, the next `times` are struck (None: all of them), and the rest pass again. If
    `by_choice` is True, the environment chooses for each call after the first `after` if it is struck, until `times`
    were.

    `pattern` is a shell pattern of file names, or of absolute paths if it contains a slash. The first of `effects`
    strikes, or with `by_choice` one that the environment chooses; without `effects`, the usual ones of the operation.
    """

    pattern: str
    operation: str
    effects: tuple[Effect, ...] = ()
    after: int = 0
    times: int | None = 1
    by_choice: bool = False
    #: Number of calls struck so far.
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
        """Return the fault's effect on this call, or None if it does not strike.

        ``ask(who, effects)`` returns the answer at the choice point named `who`: 0 for no effect, n for the nth of
        `effects`.
        """
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
