"""Two versions of the supervisor, each with a mistake that is made with processes."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process

from supervisor import Supervisor


class LosesAnExit(Supervisor):
    """An event says that a program has ended. It is emptied for the next one when that has been started and noted
    down, and so may be emptied of its end."""

    async def run(self) -> None:
        self._exited = {name: asyncio.Event() for name in self._commands}
        await super().run()

    async def _run(self, name: str) -> int:
        process = await self._start(name)
        watching = asyncio.create_task(self._watch(name, process), name=f"watch {name}")
        await self._note_pid(name, process)
        self._exited[name].clear()
        exited = asyncio.create_task(self._exited[name].wait(), name=f"wait for {name}")
        await asyncio.wait([exited, self._told_to_stop], return_when=asyncio.FIRST_COMPLETED)
        if not exited.done():
            exited.cancel()
            await self._end(process)
        return await watching

    async def _watch(self, name: str, process: Process) -> int:
        code = await process.wait()
        self._exited[name].set()
        return code


class RestartsTwice(Supervisor):
    """A patrol looks every second whether all programs are there, and starts those that are not. Those that are about
    to be started anew it leaves alone; but between the end of a program and who waits for that there is a gap."""

    async def run(self) -> None:
        self._between: set[str] = set(self._commands)
        patrol = asyncio.create_task(self._patrol(), name="patrol")
        try:
            await super().run()
        finally:
            patrol.cancel()

    async def _patrol(self) -> None:
        while True:
            await asyncio.sleep(1)
            for name, process in list(self._running.items()):
                if process.returncode is not None and name not in self._between:
                    await self._start(name)

    async def _run(self, name: str) -> int:
        code = await super()._run(name)
        self._between.add(name)
        return code

    async def _start(self, name: str) -> Process:
        process = await super()._start(name)
        self._between.discard(name)
        return process
