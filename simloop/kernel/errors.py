"""Errors of system calls: the `OSError` for an errno."""

from __future__ import annotations

import os


def fail(number: int) -> OSError:
    """Return, without raising it, the exception for an errno: `OSError`, or its subclass such as `BlockingIOError`."""
    return OSError(number, os.strerror(number))
