"""The protocol of what watches the loops of a traced run."""

from __future__ import annotations

from asyncio import events
from typing import Any, Protocol

from simloop.loop.tasks import SimTask
from simloop.loop.turns import SteppedLoop


class Tracer(Protocol):
    """Sees what a traced run does: each callback when the program queues it, and before and after it runs; each
    task that is created."""

    #: Set when the program is over, and only its world is being taken apart.
    over: bool

    def created(self, task: SimTask) -> None: ...

    def queued(self, handle: events.Handle) -> None: ...

    def before(self, loop: SteppedLoop, handle: events.Handle) -> None: ...

    def after(self, loop: SteppedLoop, handle: events.Handle) -> None: ...

    def blocked(self, process: str, took_ns: int) -> None: ...

    def changed(self, what: Any) -> None: ...
