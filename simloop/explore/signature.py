"""When two failures are the same one."""

from __future__ import annotations

import traceback
from typing import NamedTuple

from simloop.checks.waiting import is_users


class Signature(NamedTuple):
    """Exception type and raising frame: never the message, whose text may vary from run to run."""

    exception: str
    file: str
    function: str
    line: int


def signature_of(error: BaseException) -> Signature:
    """The failure's identity. The frame is the innermost of the user's own, where there is one: a library
    may raise the same thing from several places."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    for code, line in reversed(frames):
        if is_users(code.co_filename):
            return Signature(name, code.co_filename, code.co_qualname, line)
    return Signature(name, "", "", 0)
