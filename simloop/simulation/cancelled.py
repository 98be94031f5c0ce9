"""Context manager ``async with sim.cancelled_somewhere()``: a block that the environment may cancel wherever
it waits."""

from __future__ import annotations

import asyncio

from simloop.errors import WorldError
from simloop.loop.cancellation import Cancellable
from simloop.loop.loop import SimLoop


class CancelledSomewhere:
    """Context manager around a block of code that the environment may cancel: ``async with sim.cancelled_somewhere() as
    outcome:``. It is itself the `outcome`, whose ``cancelled`` says if that happened."""

    def __init__(self) -> None:
        #: True once a cancellation by the environment has ended the block.
        self.cancelled = False
        self._entry: Cancellable | None = None

    async def __aenter__(self) -> CancelledSomewhere:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        if task is None or not isinstance(loop, SimLoop):
            raise WorldError("sim.cancelled_somewhere() must be used in a task of this run")
        if self._entry is not None:
            raise WorldError("sim.cancelled_somewhere() makes one block: call it again for another")
        # An entry of its own: the task may have been declared besides, for longer than the block.
        self._entry = Cancellable(task)
        loop.let_cancel(self._entry)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        entry = self._entry
        assert entry is not None
        entry.withdraw()
        if not entry.sent:
            return False
        entry.task.uncancel()
        self.cancelled = isinstance(error, asyncio.CancelledError)
        return self.cancelled

    def __repr__(self) -> str:
        return f"<CancelledSomewhere cancelled={self.cancelled}>"
