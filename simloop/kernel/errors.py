"""Errors of system calls: an errno, as the `OSError` that Python makes of it."""

from __future__ import annotations

import os


def fail(number: int) -> OSError:
    """Return the exception that Python raises for an errno (a subclass such as BlockingIOError where it has one)."""
    return OSError(number, os.strerror(number))
