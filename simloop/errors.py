"""Exceptions and warnings of simloop, one class per failure mode.

Each docstring says what to do about the error. A class that ends a run is an
``Exception`` raised out of the event loop itself, so code under test cannot
swallow it on its way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class SimulationError(Exception):
    """Base class of all errors of simloop: catch this one to catch them all."""

    #: Sentence that stands in a report for the verdict on the program, where the error allows none: it is the
    #: simulation, or the test's use of it, that cannot go on. Empty for errors that are the program's.
    limit: ClassVar[str] = ""


class ConfigurationError(SimulationError, ValueError):
    """Raised for an option with an invalid value. The message names the option and the values that it accepts."""

    limit = "this is a wrong use of simloop, not a failure of the program: pass what the message asks for"


class WorldError(SimulationError, RuntimeError):
    """Raised for a world that is used where it cannot be: nested in another one, from a second thread, or outside
    of a run. Leave the first world, or run the second one in another process."""

    limit = "this is a wrong use of simloop, not a failure of the program: use the world as the message says"


class EscapedSimulationError(SimulationError, RuntimeError):
    """Raised when code inside a run reaches for the real world. The message names the line and the remedy.

    Swallowing it does not help: a run during which something escaped fails at its end with this error.
    """

    limit = (
        "this is a limit of the simulation, not a failure of the program: the real world cannot be reached from it. "
        "Do what the message says, or run this test without simloop"
    )


class BlockingCallWarning(UserWarning):
    """Warning of a call in a coroutine that blocks, such as ``time.sleep``: it stops its event loop meanwhile. The
    message names the line and the virtual time. Await something instead, or run the call in an executor; the option
    ``blocking`` says what becomes of such calls."""


class BlockingCallError(SimulationError):
    """Error form of `BlockingCallWarning`, by the option ``blocking="fail"``. The run fails with it
    even if it is swallowed."""


class NondeterminismError(SimulationError):
    """Raised when one schedule was run twice and the two runs differ.

    Something decides that the seed does not cover, even where each run is made by a fork of one process:
    a real clock, a real file; or a failure comes and goes with the state of the process: a module global, ``id()``,
    the order of a set. The message names the first point at which the two runs differ, and the line; look at what the
    program does just before it.
    """

    limit = (
        "this is a limit of the simulation, not a failure of the program: something decides that no seed covers. "
        "Look for it where the message says that two runs parted"
    )


class DeadlockError(SimulationError):
    """Raised for a deadlock: nothing can ever happen again, and the run is not finished.

    ``tasks`` holds one line for each blocked task: its name, where it waits, and what would wake it;
    ``places`` the lines of code at which they wait.
    """

    def __init__(self, message: str, tasks: tuple[str, ...] = (), places: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.tasks = tasks
        self.places = places


class HostCrashedError(SimulationError):
    """Raised when a host loses its power while ``host.run`` waits for a process on it. In a test of crashes this is
    what should happen: catch it, and continue with ``host.restart()``."""


class ProcessEndedError(SimulationError):
    """Raised for a process that ends before its main function has returned, by a signal or by `sys.exit`. It is raised
    where ``host.run`` waits for it, or by the run if it is the test itself that was interrupted. ``returncode`` is as
    `subprocess` has it: an exit code, or minus the number of a signal."""

    def __init__(self, message: str, returncode: int) -> None:
        super().__init__(message)
        self.returncode = returncode


class UncalledProgramError(SimulationError):
    """Raised with ``strict_programs=True`` when a run ends and a program that the test registered was never started.
    Take the program away, or find out who should have called it: the message names the lines."""


class StepLimitError(SimulationError):
    """Raised after ``max_steps`` callbacks of a run. It is a livelock, or the limit is too small."""

    limit = (
        "this is a limit of the simulation, at which the run was cut off: set max_steps higher if the program needs "
        "more callbacks; if it still does not end, it never does (a livelock)"
    )


class TimeLimitError(SimulationError):
    """Raised after ``max_time`` virtual seconds of a run. Something waits for ever while a timer ticks on,
    or the limit is too small."""

    limit = (
        "this is a limit of the simulation, at which the run was cut off: set max_time higher if the program needs "
        "more virtual seconds; if it still does not end, something waits for ever while a timer ticks on"
    )


class HangError(SimulationError):
    """Raised after ``max_hang`` real seconds in which a run made no progress: a step never yields, or somebody waits
    for something outside of the simulation, such as a lock of multiprocessing. The message names the line."""

    limit = (
        "this is a limit of the simulation, at which the run was cut off: set max_hang higher if a single step needs "
        "more real seconds"
    )


class TokenError(SimulationError, ValueError):
    """Raised for a token that cannot be read: cut off, mistyped, or written by a newer simloop. Copy it again,
    whole."""


class OtherTestError(TokenError):
    """Raised for a token that belongs to another test. Give it to the test that it was printed for."""


class PluginError(SimulationError):
    """Raised for a plugin of simloop that cannot be loaded, has a hook that does not exist, or failed in one. The
    message names it: mend it, or take it out of the environment."""

    limit = "this is a failure of the plugin, not of the program: mend it, or take it out of the environment"


class ReplayDriftWarning(UserWarning):
    """Warning of a replayed token of which some deviations no longer occur, because the program has changed since.
    Look for the failure again with ``--sim``; the message says how many still applied."""


class RealLibraryWarning(UserWarning):
    """Warning of a library that a run calls through `ctypes`: what such a function does is real, and nobody sees it.
    The message names library and line, once for each library in a session. Replace the call in the test."""


class JobWarning(UserWarning):
    """Warning of a process of ``--sim-jobs`` that was ended before it had made its runs, as when memory runs out.
    Others make its runs: nothing is lost. With fewer jobs each has more memory."""


class StoreWarning(UserWarning):
    """Warning of a directory `.simloop/`, in which failures are kept, that cannot be used. Nothing is lost but the head
    start: exploring continues without saved failures. Make the directory writable, or delete it."""


class CorruptStoreWarning(StoreWarning):
    """Warning of a file of saved failures that is damaged. It was renamed, and is not read any more: delete it, or take
    the tokens that are left out of it and replay those."""


def limit_met(error: BaseException | None) -> str:
    """Return the sentence on the limit of the simulation that an error has met (`SimulationError.limit`), it or one
    behind it: in an exception group, or in what the program raised on account of it. Empty if there is none.

    >>> limit_met(ValueError())
    ''
    >>> limit_met(ExceptionGroup("two", [ValueError(), PluginError()]))[:32]
    'this is a failure of the plugin,'
    """
    limits = (cause.limit for cause in causes(error) if isinstance(cause, SimulationError))
    return next(filter(None, limits), "")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, those behind it (its causes and contexts), and the members of exception groups.

    >>> [type(cause).__name__ for cause in causes(ExceptionGroup("one", [ValueError()]))]
    ['ExceptionGroup', 'ValueError']
    """
    waiting, seen = [error], set()
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__]
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions
