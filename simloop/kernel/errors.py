"""How the kernel says no: by errno, as the exception that Python makes of it."""

from __future__ import annotations

import os


def fail(number: int) -> OSError:
    """The exception that Python raises for an errno (a subclass such as BlockingIOError where it has one)."""
    return OSError(number, os.strerror(number))
