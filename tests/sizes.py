"""Sizes of property-based tests and of campaigns that find nothing."""

from __future__ import annotations

import os

#: Part of their full number of examples that property-based tests try: each change less than 1, the night 1; more are
#: tried by hand, such as ``SIMLOOP_EXAMPLES=10``.
FACTOR = float(os.environ.get("SIMLOOP_EXAMPLES", "1"))


def examples(full: int) -> int:
    """Returns the number of examples, or runs, for a test whose full size is `full`."""
    return max(1, round(full * FACTOR))
