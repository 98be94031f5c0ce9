"""Shims of the functions of `faulthandler` that dump tracebacks after a real time: in a run they do nothing, since a
run that hangs in real time ends with `HangError`, which names the line."""

from __future__ import annotations

import faulthandler
from typing import Any

from simloop.shims.late import real
from simloop.world import active

_real = real(__name__, faulthandler)


def dump_traceback_later(timeout: float, repeat: bool = False, file: Any = None, exit: bool = False) -> None:
    if active.world() is None:
        # Without `file` it is stderr, as it is at the call.
        more = {} if file is None else {"file": file}
        return _real["dump_traceback_later"](timeout, repeat, exit=exit, **more)  # type: ignore[no-any-return]
    if exit:
        raise active.escape("the end of the process after a real time", "the option max_hang ends a run that hangs")
    if timeout <= 0:
        raise ValueError("timeout must be greater than 0")
    return None


def cancel_dump_traceback_later() -> None:
    # One that was armed before the run, such as pytest's, stays.
    if active.world() is None:
        _real["cancel_dump_traceback_later"]()


REPLACEMENTS: list[tuple[object, str, object]] = [
    (faulthandler, function.__name__, function) for function in (dump_traceback_later, cancel_dump_traceback_later)
]
