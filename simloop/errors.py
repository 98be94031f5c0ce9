"""Exceptions and warnings of simloop, one class per failure mode.

Each docstring says what to do about the error. A class that ends a run is an
``Exception`` raised out of the event loop itself, so code under test cannot
swallow it on its way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class SimulationError(Exception):
    """Base class of all exceptions of simloop: catch this one to catch them all."""

    #: Sentence that a report of this error shows instead of a verdict on the program: the simulation, or the test's use
    #: of it, could not go on. Empty for errors that are failures of the program.
    limit: ClassVar[str] = ""


class ConfigurationError(SimulationError, ValueError):
    """Raised for an option with an invalid value. The message names the option and the accepted values."""

    limit = "this is a wrong use of simloop, not a failure of the program: pass what the message asks for"


class WorldError(SimulationError, RuntimeError):
    """Raised when a world, the simulated machines of a run, is used where it cannot be: nested in another one, from a
    second thread, or outside of a run. Leave the first world, or run the second one in another process."""

    limit = "this is a wrong use of simloop, not a failure of the program: use the world as the message says"


class EscapedSimulationError(SimulationError, RuntimeError):
    """Raised when code inside a run calls something that is not simulated and would reach the real world. The message
    names the line and the remedy.

    To catch it does not help: such a run fails at its end with this error.
    """

    limit = (
        "this is a limit of the simulation, not a failure of the program: the real world cannot be reached from it. "
        "Do what the message says, or run this test without simloop"
    )


class BlockingCallWarning(UserWarning):
    """Warning of a blocking call in a coroutine, such as ``time.sleep``, which stops the event loop until it returns.
    The message names the line and the virtual time. Await something instead, or run the call in an executor; the option
    ``blocking`` turns the warning into an error, or off."""


class BlockingCallError(SimulationError):
    """Raised in place of `BlockingCallWarning` with the option ``blocking="fail"``. The run fails with it even if the
    program catches it."""


class NondeterminismError(SimulationError):
    """Raised when one schedule was run twice and the two runs differ.

    Something influences the runs that the seed does not determine: a real clock, a real file; or state of the process:
    a module global, ``id()``, the order of a set. Making each run in a fork of one process did not help. The message
    names the first point at which the two runs differ, and the line; look at what the program does just before it.
    """

    limit = (
        "this is a limit of the simulation, not a failure of the program: something decides that no seed covers. "
        "Look for it where the message says that two runs parted"
    )


class DeadlockError(SimulationError):
    """Raised for a deadlock: every task waits, and nothing can ever wake one of them.

    ``tasks`` holds one line for each blocked task: its name, where it waits, and what would wake it; ``places`` the
    lines of code at which they wait.
    """

    def __init__(self, message: str, tasks: tuple[str, ...] = (), places: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.tasks = tasks
        self.places = places


class HostCrashedError(SimulationError):
    """Raised by ``host.run`` when the host loses its power before the process has ended. A test of crashes expects it:
    catch it, and continue with ``host.restart()``."""


class ProcessEndedError(SimulationError):
    """Raised when a process is ended by a signal or by `sys.exit` before its main function has returned. It is raised
    where ``host.run`` waits for the process, or by the run if the test itself was interrupted. ``returncode`` is as in
    `subprocess`: an exit code, or minus the number of the signal."""

    def __init__(self, message: str, returncode: int) -> None:
        super().__init__(message)
        self.returncode = returncode


class UncalledProgramError(SimulationError):
    """Raised with ``strict_programs=True`` when a run ends and a program that the test registered was never started.
    Remove the program, or find out why it was not called: the message names the line that registered it."""


class StepLimitError(SimulationError):
    """Raised when a run has executed ``max_steps`` callbacks. Either the program is in a livelock, or the limit is too
    small."""

    limit = (
        "this is a limit of the simulation, at which the run was cut off: set max_steps higher if the program needs "
        "more callbacks; if it still does not end, it never does (a livelock)"
    )


class TimeLimitError(SimulationError):
    """Raised when a run has lasted ``max_time`` virtual seconds. Either something waits for ever while timers keep
    firing, or the limit is too small."""

    limit = (
        "this is a limit of the simulation, at which the run was cut off: set max_time higher if the program needs "
        "more virtual seconds; if it still does not end, something waits for ever while a timer ticks on"
    )


class HangError(SimulationError):
    """Raised when a run has made no progress for ``max_hang`` real seconds: a callback does not return, or a thread
    waits for something outside of the simulation, such as a lock of multiprocessing. The message names the line."""

    limit = (
        "this is a limit of the simulation, at which the run was cut off: set max_hang higher if a single step needs "
        "more real seconds"
    )


class TokenError(SimulationError, ValueError):
    """Raised for a token that cannot be read: cut off, mistyped, or written by a newer simloop. Copy it again,
    whole."""


class OtherTestError(TokenError):
    """Raised for a token that was printed for another test. Use it with that test."""


class PluginError(SimulationError):
    """Raised for a plugin of simloop that cannot be loaded, implements a hook that does not exist, or raised an
    exception in a hook. The message names the plugin: mend it, or uninstall it."""

    limit = "this is a failure of the plugin, not of the program: mend it, or take it out of the environment"


class ReplayDriftWarning(UserWarning):
    """Warning that some deviations (choices other than the default) of a replayed token no longer occur, because the
    program has changed since. Look for the failure again with ``--sim``; the message says how many still applied."""


class RealLibraryWarning(UserWarning):
    """Warning of a library that a run calls through `ctypes`: such calls are real, and simloop cannot see them. The
    message names library and line, once for each library in a session. Replace the call in the test."""


class JobWarning(UserWarning):
    """Warning that a worker process of ``--sim-jobs`` was killed before it had made its runs, as when memory runs out.
    Other processes make these runs: nothing is lost. With fewer jobs, each has more memory."""


class StoreWarning(UserWarning):
    """Warning that the directory `.simloop/`, which keeps failures from one session to the next, cannot be used.
    Exploring continues without the saved failures. Make the directory writable, or delete it."""


class CorruptStoreWarning(StoreWarning):
    """Warning of a damaged file of saved failures. The file was renamed, and is not read any more: delete it, or copy
    the tokens that are still readable from it and replay those."""


def limit_met(error: BaseException | None) -> str:
    """Return the sentence `SimulationError.limit` of an error, or of the first error with one among its causes, its
    contexts and the members of exception groups. Empty if none of them has one.

    >>> limit_met(ValueError())
    ''
    >>> limit_met(ExceptionGroup("two", [ValueError(), PluginError()]))[:32]
    'this is a failure of the plugin,'
    """
    limits = (cause.limit for cause in causes(error) if isinstance(cause, SimulationError))
    return next(filter(None, limits), "")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its causes and contexts (``__cause__``, ``__context__``), and the members of exception groups
    among them. Yields nothing for None.

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
