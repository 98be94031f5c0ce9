"""Handle `sim`, through which a test inspects and controls the world (the simulated machines and network) that it runs
in."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from simloop.errors import ConfigurationError, WorldError
from simloop.kernel.host import LOCALHOST
from simloop.loop.loop import SimLoop
from simloop.sources import call_site
from simloop.world import active

if TYPE_CHECKING:
    from collections.abc import Callable

    from simloop.simulation.cancelled import CancelledSomewhere
    from simloop.simulation.clock import SimClock
    from simloop.simulation.dns import SimDns
    from simloop.simulation.files import SimFiles
    from simloop.simulation.hosts import SimHost
    from simloop.simulation.network import SimNetwork
    from simloop.simulation.programs import Output, SimProgram
    from simloop.simulation.tls import SimTls
    from simloop.world.world import World


class Sim:
    """Handle on the world of the current run, the simulated machines and their network: the fixture ``sim``, or
    `simloop.current`."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def seed(self) -> int:
        """Seed of the current run."""
        return self._world.choices.seed

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the run began. Reading it takes no virtual time."""
        return self._world.scheduler.clock.elapsed

    def host(self, name: str) -> SimHost:
        """Return the handle on the host of that name, which is created on first use. ``"localhost"`` is the host on
        which the test itself runs."""
        self._check_use()
        from simloop.simulation.hosts import SimHost

        return SimHost(self._world, self._world.host(name))

    @property
    def clock(self) -> SimClock:
        """Handle on the wall clock of the host on which the test itself runs: short for
        ``sim.host("localhost").clock``."""
        return self.host(LOCALHOST).clock

    @property
    def fs(self) -> SimFiles:
        """Handle on the files of the host on which the test itself runs: short for ``sim.host("localhost").fs``."""
        return self.host(LOCALHOST).fs

    @property
    def network(self) -> SimNetwork:
        """Handle on the network between the hosts."""
        from simloop.simulation.network import SimNetwork

        return SimNetwork(self._world)

    @property
    def dns(self) -> SimDns:
        """Handle on the simulated DNS, the names that hosts look up."""
        self._check_use()
        from simloop.simulation.dns import SimDns

        return SimDns(self._world)

    @property
    def tls(self) -> SimTls:
        """Handle on the certificate authority that TLS contexts in the run trust."""
        self._check_use()
        from simloop.simulation.tls import SimTls

        return SimTls()

    def sometimes(self, name: str, condition: object = True) -> None:
        """Note whether this run meets a condition that some runs of a campaign should meet, such as that a retry takes
        place: a test in which none does proves less than it seems to. ``-v`` names the conditions that no run has met,
        and `Report.coverage` counts those that met each. The strategy ``mutation`` goes on from schedules that were the
        first to meet one. Nothing else depends on it. `name` tells conditions apart; one that is noted several times in
        a run is met if it was true once.

        >>> import asyncio, simloop
        >>> async def test():
        ...     sim, lock = simloop.current(), asyncio.Lock()
        ...     async def work():
        ...         sim.sometimes("both want the lock", lock.locked())
        ...         async with lock:
        ...             await asyncio.sleep(0.1)
        ...     await asyncio.gather(work(), work())
        >>> simloop.explore(test, runs=20).coverage.sometimes
        Counter({'both want the lock': 1})
        """
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"{call_site()}: the name of a condition must be text, not {name!r}")
        sometimes = self._world.choices.sometimes
        sometimes[name] = sometimes.get(name, False) or bool(condition)

    async def converges(self, check: Callable[[], object], *, within: float) -> None:
        """End all faults: of the network, and of hosts, which are resumed, restarted and no longer slow. Then wait
        until ``check()``, which may be async, returns a true value. Raises `AssertionError` if that takes longer than
        `within` virtual seconds.

        >>> import asyncio, simloop
        >>> async def test():
        ...     sim = simloop.current()
        ...     await sim.converges(lambda: sim.elapsed > 3, within=10)
        >>> simloop.run(test)
        """
        from simloop.simulation.convergence import converges

        await converges(self._world, check, within)

    def program(
        self,
        name: str,
        *arguments: str,
        stdout: Output = b"",
        stderr: Output = b"",
        returncode: int = 0,
        takes: float = 0.0,
        times: int | None = None,
    ) -> SimProgram:
        """Define an executable, on all hosts. `name` is a shell pattern: of a whole path if there is a slash in it,
        else of a file's name; `arguments` are patterns of the first arguments. Of several programs that match a call,
        the one that was registered last is run; one with `times` matches only so many calls.

        As a decorator: ``async def main(proc)`` (a `SimProcess`) is run in a process of its own, and so is a plain
        function, which may block; it returns the exit code, None standing for 0. Without a function, the program writes
        `stdout` and `stderr` (bytes, text, or a list of lines) after `takes` virtual seconds, and exits with
        `returncode`.

        Returns the program, whose ``calls`` list the arguments of each start. Raises `ConfigurationError` for an empty
        name.

        >>> import asyncio, simloop
        >>> async def main():
        ...     simloop.current().program("git", "branch", stdout="main")
        ...     child = await asyncio.create_subprocess_exec("git", "branch", stdout=asyncio.subprocess.PIPE)
        ...     return await child.communicate()
        >>> simloop.run(main)
        (b'main', None)
        """
        self._check_use()
        from simloop.simulation.programs import SimProgram

        program = SimProgram(name, arguments, stdout, stderr, returncode, takes, times)
        program.place = call_site()
        self._world.programs.add(program)
        return program

    def signal(self, host: str | SimHost, number: int) -> None:
        """Send a signal to the processes on a host, as its operator would (``kill``, ``docker stop``, Ctrl-C): to each
        process that ``host.run`` has started there, and on ``"localhost"`` to the test itself. Their child processes
        get only what their parents send them.

        The signal arrives at a later poll of the process's event loop. In the canonical run that is the next one; in
        others the environment chooses. Processes that have ended by then are not affected. Raises `WorldError` if
        nothing was ever run on the host.

        >>> import asyncio, signal, simloop
        >>> async def serve():
        ...     stop = asyncio.Event()
        ...     asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        ...     await stop.wait()
        ...     return "stopped"
        >>> async def main():
        ...     sim = simloop.current()
        ...     asyncio.get_running_loop().call_later(5, sim.signal, "web", signal.SIGTERM)
        ...     return await sim.host("web").run(serve)
        >>> simloop.run(main)
        'stopped'
        """
        self._check_use()
        from simloop.shims.signal import send_later
        from simloop.simulation.hosts import SimHost

        name = host.name if isinstance(host, SimHost) else self._world.host(host).name
        _check_signal(number)
        started = [
            process for process in self._world.processes if process.host.name == name and process.environ is None
        ]
        if not started:
            raise WorldError(f"nothing was run on host {name!r} that a signal could be sent to")
        for process in started:
            if process.alive:
                send_later(self._world, process, number)

    def may_signal(self, host: str | SimHost, process: object, number: int) -> None:
        """Declare that the environment may send the signal `number` to a process on `host` (the host or its name), as
        an operator or a supervisor may at any time.

        `process` is a process object of `subprocess` or asyncio, a `SimProcess`, a pid, or the name of a program: then
        any process that runs this program may get the signal, also one that is started later. If `process` is the name
        of the host, any process that ``host.run`` has started there may get it.

        Each call allows one signal, which comes at any poll of the process's event loop from now on, or in any call in
        which it blocks, or never. Raises `ConfigurationError` if there is no such signal or no such host. The strategy
        that tries such signals is the one that tries cancellations:

        >>> import asyncio, signal, simloop
        >>> async def main():
        ...     sim = simloop.current()
        ...     @sim.program("worker")
        ...     async def worker(proc):
        ...         await asyncio.sleep(1)
        ...     sim.may_signal("localhost", "worker", signal.SIGTERM)
        ...     child = await asyncio.create_subprocess_exec("worker")
        ...     assert await child.wait() == 0
        >>> simloop.explore(main).failure.strategy
        'cancel sweep'
        """
        self._check_use()
        from simloop.simulation.hosts import SimHost
        from simloop.world.outside import OutsideSignal

        name = host.name if isinstance(host, SimHost) else host
        if name not in self._world.hosts:
            raise ConfigurationError(f"there is no host {name!r}")
        _check_signal(number)
        world = self._world
        send = partial(world.userland.send, world)
        outside = OutsideSignal(world.scheduler, send, world.hosts[name], process, int(number))
        world.outside_signals += (outside,)
        for loop in world.scheduler.loops:
            if isinstance(loop, SimLoop) and outside.matches(loop.process):
                loop.let_cancel(outside.at_polls_of(loop.process))

    def _check_use(self) -> None:
        if active.world() is not self._world:
            raise WorldError(
                "this handle was used from another thread than its world's: hand the work to the loop instead"
                if active.entered is self._world
                else "this handle belongs to a run that is over: ask simloop.current() for the one that is going on"
            )

    def may_cancel(self, task: asyncio.Task[Any]) -> None:
        """Declare that the environment may cancel `task`, as when its client hangs up or a timeout of its caller fires.

        The cancellation comes at most once, at any poll of the event loop from now on until the task is done. Raises
        `WorldError` if `task` is not a task of this run.

        >>> import asyncio, simloop
        >>> async def main():
        ...     request = asyncio.create_task(asyncio.sleep(1))
        ...     simloop.current().may_cancel(request)
        ...     await asyncio.wait([request])
        ...     assert not request.cancelled()
        >>> simloop.explore(main).failure.strategy
        'cancel sweep'
        """
        self._check_use()
        loop = task.get_loop() if isinstance(task, asyncio.Task) else None
        if not isinstance(loop, SimLoop):
            raise WorldError(f"sim.may_cancel() takes a task of this run, not {task!r}")
        loop.may_cancel(task)

    def cancelled_somewhere(self) -> CancelledSomewhere:
        """Return a context manager for a block in which the environment may cancel the current task once, at any poll
        of the event loop, as when a client hangs up: ``async with sim.cancelled_somewhere() as outcome:``. The block
        swallows that cancellation; ``outcome.cancelled`` is True if it ended the block.

        >>> import asyncio, simloop
        >>> async def main():
        ...     async with simloop.current().cancelled_somewhere() as outcome:
        ...         await asyncio.sleep(1)
        ...     return outcome.cancelled
        >>> simloop.run(main)
        False
        """
        self._check_use()
        from simloop.simulation.cancelled import CancelledSomewhere

        return CancelledSomewhere()

    def __repr__(self) -> str:
        return f"<Sim seed={self.seed} at {self.elapsed:.6f} s>"


def _check_signal(number: object) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < signal.NSIG:
        raise ConfigurationError(f"{number!r} is no signal")


def current() -> Sim:
    """Return the handle on the world of the current run. Raises `WorldError` outside of a run.

    >>> import asyncio, simloop
    >>> async def main():
    ...     await asyncio.sleep(3600)
    ...     return round(simloop.current().elapsed)
    >>> simloop.run(main)
    3600
    """
    world = active.world()
    if world is None:
        raise WorldError("simloop.current() was called outside of a run")
    return Sim(world)
