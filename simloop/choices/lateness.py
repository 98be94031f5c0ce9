"""Tables of kinds of choice points: those at which an arrival may be late, and those that end something."""

from __future__ import annotations

Arrival = tuple[str, str, int]
"""A choice point (who, kind, number) at which an arrival may be late."""

#: Kinds of choice points that end something (a task, a host, a connection), after which little happens.
ENDS = ("cancel", "signal.sent", "host.crash", "net.partition", "net.reset", "host.pause")
#: Answer at each kind of choice point that delays an arrival by about the same time as at the other kinds.
LATE = {
    "net.connect": 4,
    "net.deliver": 4,
    "thread.start": 5,
    "thread.finish": 5,
    "process.exit": 5,
    "signal": 5,
    "order.lag": 11,
}
