"""One run: a world, a loop in it, and what came of it.

`run` is what a user calls; `execute` is the same with the world kept for whoever wants to look at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from asyncio import events
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from simloop.blocking import check_blocking, refuse_block, warn_of_block
from simloop.cancelled import CancelledSomewhere
from simloop.checks.deadlock import describe_deadlock
from simloop.choices.choices import Choices, check_profile, check_seed
from simloop.choices.draws import seeded
from simloop.disks import SimFiles
from simloop.errors import ConfigurationError, WorldError
from simloop.hosts import SimHost
from simloop.installation import install, installed
from simloop.kernel.scheduler import DEFAULT_MAX_STALL, DEFAULT_MAX_TIME
from simloop.loop.cleanup import abandon, discard_crashed, report_children, report_leftovers
from simloop.loop.loop import SimLoop
from simloop.loop.runner import Main, run_main
from simloop.loop.tracer import Tracer
from simloop.network.network import LOCALHOST
from simloop.programs import Output, Programs, SimProgram
from simloop.shims import signals
from simloop.sources import call_site
from simloop.world import active
from simloop.world.world import DEFAULT_MAX_STEPS, World

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What bounds a run, and which orders count as legal in it.

    `max_steps` counts callbacks. `max_time` and `max_stall` are virtual seconds: how long the run may
    go on, and how long one slow step may keep a loop from its timers. `threads` simulates threads that
    the program starts itself; without it they escape, because a bare `threading.Lock` between two of them
    still blocks for real. Executors need no leave. `cancel` lets the environment cancel any task that the
    main function itself creates; a run that ends with that cancellation counts as passed. `blocking` says what
    becomes of calls that block in a coroutine for 5 virtual milliseconds or more: ``warn`` (`BlockingCallWarning`),
    ``fail`` (`BlockingCallError`) or ``ignore``. `strict_programs` lets a run that would have passed fail with
    `UncalledProgramError` if a program that it registered was never started.
    """

    profile: str = "cpython"
    max_steps: int = DEFAULT_MAX_STEPS
    max_time: float = DEFAULT_MAX_TIME
    max_stall: float = DEFAULT_MAX_STALL
    threads: bool = False
    cancel: bool = False
    blocking: str = "warn"
    strict_programs: bool = False

    def __post_init__(self) -> None:
        check_profile(self.profile)
        if isinstance(self.max_steps, bool) or not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise ConfigurationError(f"max_steps must be a whole number of at least 1, not {self.max_steps!r}")
        for name in ("threads", "cancel", "strict_programs"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} must be True or False, not {getattr(self, name)!r}")
        check_blocking(self.blocking)
        for name in ("max_time", "max_stall"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
                raise ConfigurationError(f"{name} must be a number of virtual seconds, not {value!r}")


class Sim:
    """Handle on the world that is running: the fixture ``sim``, or `simloop.current`."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def seed(self) -> int:
        """Seed of this world."""
        return self._world.choices.seed

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the world began. Looking at it costs no virtual time."""
        return self._world.scheduler.clock.elapsed

    def host(self, name: str) -> SimHost:
        """Return the machine of that name, made on first use. ``"localhost"`` is where the test itself runs."""
        self._check_use()
        return SimHost(self._world, self._world.host(name))

    @property
    def fs(self) -> SimFiles:
        """Handle on the files of the host on which the test itself runs: short for ``sim.host("localhost").fs``."""
        return self.host(LOCALHOST).fs

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
        """Let the test play an executable, on all hosts. `name` is a shell pattern: of a whole path if there is a
        slash in it, else of a file's name; `arguments` are patterns of the first arguments. Of several programs that
        match, the one that was registered last is run; one with `times` is there for so many calls.

        As a decorator: ``async def main(proc)`` (a `SimProcess`) is run in a process of its own; what it returns is
        the exit code, None standing for 0. Without one it writes `stdout` and `stderr` after `takes` virtual seconds,
        and ends with `returncode`. Both are bytes, text, or a list of lines.

        Returns the program; its ``calls`` list the arguments of each start. Raises `ConfigurationError` for an empty
        name.

        >>> import subprocess
        >>> async def main():
        ...     current().program("git", "branch", stdout=b"main")
        ...     return subprocess.check_output(["git", "branch"])
        >>> run(main, blocking="ignore")
        b'main'
        """
        self._check_use()
        program = SimProgram(name, arguments, stdout, stderr, returncode, takes, times)
        program.place = call_site()
        self._world.programs.add(program)
        return program

    def signal(self, host: str | SimHost, number: int) -> None:
        """Send a signal to what runs on a host, as its operator would (``kill``, ``docker stop``, Ctrl-C): to each
        process that ``host.run`` has started there, and on ``"localhost"`` to the test itself. Children of theirs get
        what their parents send them.

        It arrives at a later poll, which a choice picks; in the canonical run at the next one. Nothing happens to
        processes that have ended by then. Raises `WorldError` where nothing was ever run.

        >>> import signal
        >>> async def serve():
        ...     stop = asyncio.Event()
        ...     asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        ...     await stop.wait()
        ...     return "stopped"
        >>> async def main():
        ...     sim = current()
        ...     asyncio.get_running_loop().call_later(5, sim.signal, "web", signal.SIGTERM)
        ...     return await sim.host("web").run(serve)
        >>> run(main)
        'stopped'
        """
        self._check_use()
        name = host.name if isinstance(host, SimHost) else self._world.host(host).name
        if not isinstance(number, int) or not 0 < number < signal.NSIG:
            raise ConfigurationError(f"{number!r} is no signal")
        started = [
            process for process in self._world.processes if process.host.name == name and process.environ is None
        ]
        if not started:
            raise WorldError(f"nothing was run on host {name!r} that a signal could be sent to")
        for process in started:
            if process.alive:
                signals.send_later(self._world, process, number)

    def _check_use(self) -> None:
        if active.world() is not self._world:
            raise WorldError(
                "this handle was used from another thread than its world's: hand the work to the loop instead"
                if active.entered is self._world
                else "this handle belongs to a run that is over: ask simloop.current() for the one that is going on"
            )

    def may_cancel(self, task: asyncio.Task[Any]) -> None:
        """Declare that the environment may cancel `task`: its client hangs up, its user's timeout fires.

        The cancellation comes at most once, at any poll of the loop from now on until the task is done.
        """
        self._check_use()
        loop = task.get_loop() if isinstance(task, asyncio.Task) else None
        if not isinstance(loop, SimLoop):
            raise WorldError(f"sim.may_cancel() takes a task of this run, not {task!r}")
        loop.may_cancel(task)

    def cancelled_somewhere(self) -> CancelledSomewhere:
        """``async with sim.cancelled_somewhere() as outcome:`` lets the environment cancel the current task at
        any poll inside of the block, once: a client that hangs up. The cancellation ends with the block;
        ``outcome.cancelled`` says whether it came through.

        >>> async def main():
        ...     async with current().cancelled_somewhere() as outcome:
        ...         await asyncio.sleep(1)
        ...     return outcome.cancelled
        >>> run(main)
        False
        """
        self._check_use()
        return CancelledSomewhere()

    def __repr__(self) -> str:
        return f"<Sim seed={self.seed} at {self.elapsed:.6f} s>"


def current() -> Sim:
    """Return the handle on the run that the calling code is in. Raises `WorldError` outside of one."""
    world = active.world()
    if world is None:
        raise WorldError("simloop.current() was called outside of a run")
    return Sim(world)


class entered:
    """Make a world and be in it: the shims answer for it until the block ends."""

    __slots__ = ("_collecting", "_entered", "_strict", "_world")

    def __init__(self, choices: Choices, limits: Limits) -> None:
        if active.entered is not None:
            raise WorldError(
                "a world is already entered in this thread: leave it before entering another"
                if active.world() is not None
                else "another thread is inside of a world: use one world at a time, or one process for each"
            )
        if events._get_running_loop() is not None:
            raise WorldError("a world cannot be entered from a running event loop: enter it from synchronous code")
        install()
        self._world = World(
            choices,
            profile=limits.profile,
            max_steps=limits.max_steps,
            max_time=limits.max_time,
            max_stall=limits.max_stall,
            own_threads=limits.threads,
            cancel_own=limits.cancel,
        )
        self._entered = active.world_entered(self._world)
        self._world.scheduler.explain_deadlock = describe_deadlock
        if limits.blocking != "ignore":
            self._world.on_block = refuse_block if limits.blocking == "fail" else warn_of_block
        self._world.signals = signals
        self._world.programs_for = Programs
        self._strict = limits.strict_programs

    def __enter__(self) -> World:
        # Finalisers run at the collector's time, which no seed covers: not in the middle of a run.
        self._collecting = gc.isenabled()
        gc.disable()
        self._entered.__enter__()
        return self._world

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        world = self._world
        try:
            if error is None and len(world.processes) > 1:
                report_children(world)
            _bury(world)
            if world.scheduler.loops:
                if error is None:
                    for loop in _loops(world):
                        report_leftovers(loop)
                for loop in _loops(world):
                    abandon(loop)
            if error is None and self._strict and world.escape is None:
                world.programs.check_called()
        finally:
            try:
                world.close()
            finally:
                self._entered.__exit__()
                if self._collecting:
                    gc.enable()
        if error is None and world.escape is not None:
            raise world.escape
        # Who awaits a task that was cancelled for him is told so: under the option this is what should happen.
        return isinstance(error, asyncio.CancelledError) and world.cancel_own and world.cancellations > 0


def _bury(world: World) -> None:
    """What was left where it was when its machine lost power is unwound now, and reaches nothing any more. So are
    programs that still run, since it is not the test that left anything behind in them."""
    for process in world.processes:
        if process.environ is not None and process.alive:
            if isinstance(process.loop, SimLoop) and process.loop in world.scheduler.loops:
                process.loop.lose_power()
            process.lose_power()
        if not process.alive and isinstance(process.loop, SimLoop):
            world.current = process
            process.forget_holders()
            discard_crashed(process.loop)
    world.current = world.root


def _loops(world: World) -> list[SimLoop]:
    return [loop for loop in world.scheduler.loops if isinstance(loop, SimLoop)]


@contextlib.contextmanager
def world(seed: int = 0, **options: Any) -> Iterator[Sim]:
    """Enter a world from plain synchronous code.

    Inside, ``asyncio.run``, ``asyncio.Runner`` and ``asyncio.new_event_loop`` make loops of that world,
    and clocks, sockets, files, processes and entropy are simulated. On leaving, everything is as before. Options:
    those of `simloop.run`. Raises `ConfigurationError` for a bad option, `WorldError` when a world is entered already,
    and `EscapedSimulationError` when anything in it reached for the real world.

    >>> with world(seed=1) as sim:
    ...     asyncio.run(asyncio.sleep(3600))
    ...     round(sim.elapsed)
    3600
    """
    limits = make_limits(options)
    choices = Choices(check_seed(seed), seeded(seed))
    with installed(), entered(choices, limits) as entered_world:
        yield Sim(entered_world)


_DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    world: World
    value: Any = None
    exception: BaseException | None = None

    @property
    def choices(self) -> Choices:
        return self.world.choices

    @property
    def fingerprint(self) -> int:
        """Equal for runs that differ in nothing but the times at which the same things happened."""
        return self.world.fingerprint()


def execute(main: Main[Any], choices: Choices, limits: Limits, tracer: Tracer | None = None) -> Outcome:
    """One run of ``main()`` as `asyncio.run` would have it; its exception is kept, not raised, unless it
    is Ctrl-C."""
    outcome: Outcome | None = None
    try:
        with entered(choices, limits) as world:
            outcome = Outcome(world)
            world.tracer = tracer
            loop = SimLoop(world, world.root)
            outcome.value = run_main(loop, main)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if outcome is None:
            raise
        escape = outcome.world.escape
        outcome.exception = escape if escape is not None and not isinstance(error, type(escape)) else error
    assert outcome is not None
    # A run that has looked at the clock once more than another, and no more came of it, has gone another way, too.
    choices.trail += outcome.world.scheduler.clock.now
    return outcome


def make_limits(options: dict[str, Any]) -> Limits:
    unknown = set(options) - set(Limits.__dataclass_fields__)
    if unknown:
        raise ConfigurationError(
            f"unknown option {sorted(unknown)[0]!r}: use one of {', '.join(Limits.__dataclass_fields__)}"
        )
    return Limits(**options) if options else _DEFAULT_LIMITS


def run(main: Main[T], *, seed: int = 0, **options: Any) -> T:
    """Run ``main()`` once in a fresh simulated world, as `asyncio.run` would.

    Seed 0 is the canonical run, in which nothing unusual happens; any other seed, up to 2**64 - 1, decides every order
    that the real environment could have chosen, the same way each time. Options, all of which may be left out:

    - `profile`: the orders that count as legal, ``"cpython"`` (the default), ``"portable"`` or ``"hostile"``;
    - `max_steps`: callbacks after which the run is given up (1,000,000);
    - `max_time`: virtual seconds after which it is given up (86,400);
    - `max_stall`: virtual seconds for which one slow step may keep a loop from its timers (0.05);
    - `threads`: simulate threads that the program starts itself (False); executors need no leave;
    - `cancel`: the environment may cancel any task that ``main()`` itself creates (False);
    - `blocking`: what becomes of calls that block in a coroutine for 5 virtual milliseconds or more, ``"warn"`` (the
      default), ``"fail"`` or ``"ignore"``;
    - `strict_programs`: fail if a program that was registered is never started (False).

    Returns main's value or raises its exception; also `ConfigurationError` for a bad option, and `DeadlockError`,
    `StepLimitError`, `TimeLimitError`, `EscapedSimulationError`, `BlockingCallError` and `UncalledProgramError`, which
    end a run.

    >>> async def main():
    ...     await asyncio.sleep(3600)
    ...     return "an hour later, at once"
    >>> run(main)
    'an hour later, at once'
    """
    choices = Choices(check_seed(seed), seeded(seed))
    outcome = execute(main, choices, make_limits(options))
    if outcome.exception is not None:
        raise outcome.exception
    value: T = outcome.value
    return value
