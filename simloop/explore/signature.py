"""Signatures of failures, which are equal for two failures that count as the same."""

from __future__ import annotations

import traceback
from typing import NamedTuple

from simloop.errors import DeadlockError
from simloop.sources import is_users


class Signature(NamedTuple):
    """Identity of a failure: the type of the exception and the line that raised it. The message is left out, since its
    text may vary from run to run.

    `parts` distinguishes failures that one line raises for different reasons: the exceptions inside of an exception
    group, and the lines at which the tasks of a deadlock wait.
    """

    exception: str
    file: str
    function: str
    line: int
    parts: tuple[object, ...] = ()

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.function}"
        return "|".join([self.exception, where, *map(str, self.parts)])


class FailedElsewhere(Exception):
    """Stand-in for the exception of a run in another process: its signature and its message."""

    def __init__(self, signature: Signature, message: str) -> None:
        super().__init__(message)
        self.signature = signature

    @property
    def told(self) -> str:
        """Message of the exception, and the line that raised it."""
        where = self.signature
        return f"{where.file}:{where.line}: in {where.function}\n{self}" if where.file else str(self)


def signature_of(error: BaseException) -> Signature:
    """Return the signature of an exception. Its line is the innermost one of the user's own code, if there is one: a
    library may raise the same exception for several callers."""
    if isinstance(error, FailedElsewhere):
        return error.signature
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    parts: tuple[object, ...] = ()
    if isinstance(error, BaseExceptionGroup):
        parts = tuple(sorted({signature_of(inner) for inner in error.exceptions}, key=str))
    elif isinstance(error, DeadlockError):
        parts = tuple(sorted(set(error.places)))
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    for code, line in reversed(frames):
        if is_users(code.co_filename):
            return Signature(name, code.co_filename, code.co_qualname, line, parts)
    return Signature(name, "", "", 0, parts)
