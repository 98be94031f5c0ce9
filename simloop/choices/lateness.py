"""Tables of kinds of choice points: those at which an arrival may be late, and those that end something."""

from __future__ import annotations

Arrival = tuple[str, str, int]
"""A choice point (who, kind, number) at which something may be late."""

#: Kinds of points that end something, so that little happens after them.
ENDS = ("cancel", "signal.sent", "host.crash", "net.partition", "net.reset", "host.pause")
#: The answer at these kinds by which things are as late as others are.
LATE = {
    "net.connect": 4,
    "net.deliver": 4,
    "thread.start": 5,
    "thread.finish": 5,
    "process.exit": 5,
    "signal": 5,
    "order.lag": 11,
}
