"""Handle on a simulated host, through which a test runs code on it, cuts its power and starts it again."""

from __future__ import annotations

import asyncio
import math
from asyncio import events
from typing import TYPE_CHECKING, TypeVar

from simloop.errors import ConfigurationError, WorldError
from simloop.kernel.process.process import State
from simloop.loop.process_runner import ProcessRunner
from simloop.loop.runner import Main, coroutine_for
from simloop.network.faults import MayCrash, MayPause
from simloop.shims.signal import go_on
from simloop.simulation.clock import SimClock
from simloop.simulation.files import SimFiles
from simloop.simulation.network import Fault
from simloop.sources import call_site
from simloop.world import lives

if TYPE_CHECKING:
    from simloop.kernel.host import Host
    from simloop.world.world import World

T = TypeVar("T")


class SimHost:
    """Handle on a simulated machine with a name, addresses, files and processes of its own: ``sim.host("db")``."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host

    @property
    def name(self) -> str:
        """Host name, under which every host of the world can look it up and connect to it."""
        return self._host.name

    @property
    def ip(self) -> str:
        """IPv4 address, as text."""
        return self._host.ipv4

    @property
    def ipv6(self) -> str:
        """IPv6 address, as text."""
        return self._host.ipv6

    @property
    def fs(self) -> SimFiles:
        """Handle on the host's files, to prepare them, to inspect them, and to make its disk fail."""
        return SimFiles(self._world, self._host)

    @property
    def clock(self) -> SimClock:
        """Handle on the host's wall clock."""
        return SimClock(self._world, self._host)

    @property
    def up(self) -> bool:
        """True while the host has power."""
        return self._host.up

    async def run(self, main: Main[T]) -> T:
        """Run the async function ``main()`` on this host, as a process of its own with its own event loop.

        Returns its result, or raises its exception. Cancelling the call interrupts the process: its main task is
        cancelled, and the call waits until the process has ended. Raises `HostCrashedError` when the host loses its
        power meanwhile, `ProcessEndedError` when a signal or `sys.exit` ends the process, and `WorldError` when the
        host has no power or is paused.

        >>> import simloop, socket
        >>> async def main():
        ...     return socket.gethostname()
        >>> async def test():
        ...     return await simloop.current().host("web").run(main)
        >>> simloop.run(test)
        'web'
        """
        if not self._host.up:
            raise WorldError(f"host {self.name!r} has no power: call restart() first")
        if self._host.paused:
            raise WorldError(f"host {self.name!r} stands still: call resume() first")
        loop = events.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        world, scheduler = self._world, self._world.scheduler
        process = world.add_process(self._host)

        def on_end(status: int | None) -> None:
            if status is not None:
                world.end(process, status)
            # Its end is seen at a poll of whoever waits, as waitpid(2) would see it.
            scheduler.at(scheduler.clock.now, lambda: None if ended.done() else ended.set_result(None))

        running: ProcessRunner[T] = ProcessRunner(world, process, coroutine_for(main), on_end)
        try:
            await ended
        except asyncio.CancelledError:
            running.interrupt()
            if not running.over:
                ended = loop.create_future()
                await ended
            raise
        return running.result()

    def crash(self) -> None:
        """Cut the power of this host now. Does nothing if it has none.

        Its processes stop where they are: no ``finally`` and no ``except`` runs, and no connection is closed. Peers of
        its connections see what they would see on Linux: nothing, until they send something; then `TimeoutError` after
        15 minutes, or a reset once the host is up again. Each page of data and each file name that was not synced is
        kept or lost, as the environment chooses and the disk model (`SimFiles.profile`) allows; in the canonical run
        all is kept.

        A process that is in the middle of a blocking call is unwound by an exception that is not an `Exception`; each
        simulated call that it makes while it unwinds raises the exception again. Raises `WorldError` for the host of
        the test itself.

        >>> import os, simloop
        >>> async def test():
        ...     db = simloop.current().host("db")
        ...     async def write():
        ...         with open("/a", "w") as file:
        ...             file.write("hello")
        ...             file.flush()
        ...             os.fsync(file.fileno())
        ...         await asyncio.sleep(1)
        ...     writing = asyncio.create_task(db.run(write))
        ...     await asyncio.sleep(0.5)
        ...     db.crash()
        ...     db.restart()
        ...     return db.fs.read_text("/a")
        >>> simloop.run(test)
        'hello'
        """
        self._check_not_ours()
        if self._host.up:
            lives.crash(self._world, self._host)
            if not self._world.current.alive:
                self._world.stop()

    def may_crash(self) -> None:
        """Declare that the environment may cut the power of this host once, as `crash` does: right before any change
        that one of its processes makes to its files (a write, a sync, a rename and so on). If the host has open
        sockets, also right after such a change, and right after data has left it for another host that exists by now.
        Any crash of the host ends this permission.

        In the canonical run the power is not cut. In no run is it cut after the last change: to test that, call `crash`
        at the end. Raises `WorldError` for the host of the test itself.
        """
        self._check_not_ours()
        world, host = self._world, self._host
        lives.let_crash(world, host)
        files = world.fs(host)
        permission = MayCrash(host, lambda: files.on_change is not None, lambda: lives.crash(world, host))
        for other in list(world.hosts.values()):
            if other is not host:
                world.network.link(host, other).departures.append(permission)

    def restart(self) -> None:
        """Turn the power of this host on again: it is up at once, with the files that its disk kept and without any
        process. Does nothing if it has power."""
        self._host.up = True

    def pause(self) -> None:
        """Pause this host until `resume`, as a virtual machine is while it is migrated or starved: none of its
        processes runs, and nobody gets an answer. Its clocks go on, so timeouts and leases may expire meanwhile. Does
        nothing if it is paused. Raises `WorldError` for the host of the test itself. A program that pauses its own host
        still runs on to its next wait.

        >>> import asyncio, simloop
        >>> async def test():
        ...     sim = simloop.current()
        ...     async def worker():
        ...         await asyncio.sleep(1)
        ...         return round(sim.elapsed)
        ...     host = sim.host("worker")
        ...     running = asyncio.create_task(host.run(worker))
        ...     await asyncio.sleep(0.5)
        ...     host.pause()
        ...     await asyncio.sleep(30)
        ...     host.resume()
        ...     return await running
        >>> simloop.run(test)
        31
        """
        self._check_not_ours()
        if self._host.paused:
            return
        self._host.paused = True
        self._world.network.cut_off()
        for process in self._world.processes:
            if process.host is self._host and process.state is State.RUNNING:
                process.enter(State.STOPPED)
                self._host.standing.append(process)
                if process.loop is not None:
                    self._world.scheduler.run_queue.look_at(process.loop)

    def resume(self) -> None:
        """End a pause of this host (`pause`). Does nothing if it is not paused."""
        if self._host.paused:
            self._host.paused = False
            standing, self._host.standing = self._host.standing, []
            for process in standing:
                if process.state is State.STOPPED:
                    process.enter(State.RUNNING)
                    go_on(self._world, process)

    def may_pause(self) -> None:
        """Declare that the environment may pause this host once, for 1, 10 or 60 virtual seconds, when data is about to
        leave for, or to arrive from, a host that exists by now. Raises `WorldError` for the host of the test itself."""
        self._check_not_ours()
        network = self._world.network
        permission = MayPause(self._host, self.pause, self.resume)
        for other in list(network.hosts.values()):
            if other is not self._host:
                for link in (network.link(self._host, other), network.link(other, self._host)):
                    link.permissions.append(permission)
                    link.settle()

    def slow(self, factor: float) -> Fault:
        """Slow down the processors of this host from now on by `factor`, as those of a machine that is starved or
        swaps: each callback of an event loop there takes 20 µs times (`factor` - 1), during which the host does
        nothing, so that with 5000 one takes a tenth of a second. Only event loops are slowed down: threads and programs
        without a loop are not.

        Returns the fault, which ends with its `end` or ``with`` block. Raises `ConfigurationError` for a factor below
        1, and `WorldError` for the host of the test itself.

        >>> import asyncio, simloop
        >>> async def test():
        ...     sim = simloop.current()
        ...     async def work():
        ...         for _ in range(100):
        ...             await asyncio.sleep(0)
        ...         return round(sim.elapsed)
        ...     with sim.host("worker").slow(5000):
        ...         return await sim.host("worker").run(work)
        >>> simloop.run(test)
        10
        """
        self._check_not_ours()
        numeric = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not numeric or not 1 <= factor < math.inf:
            raise ConfigurationError(f"{call_site()}: factor must be a number of at least 1, not {factor!r}")
        before, self._host.slowness = self._host.slowness, factor

        def end() -> None:
            if self._host.slowness == factor:
                self._host.slowness = before

        return Fault(end)

    def _check_not_ours(self) -> None:
        if self._host is self._world.root.host:
            raise WorldError(
                f"the test itself runs on {self.name!r}: let another host lose its power, stand still or be slow"
            )

    def __repr__(self) -> str:
        return f"<SimHost {self.name} {self.ip}{'' if self.up else ' without power'}>"
