"""Runs unmodified asyncio programs in a simulated world, in which a seed chooses every order that the
real environment could choose.

PYTEST_DONT_REWRITE
"""

from simloop.errors import (
    BlockingCallError,
    BlockingCallWarning,
    ConfigurationError,
    CorruptStoreWarning,
    DeadlockError,
    EscapedSimulationError,
    HostCrashedError,
    NondeterminismError,
    OtherTestError,
    PluginError,
    ProcessEndedError,
    ReplayDriftWarning,
    SimulationError,
    StepLimitError,
    StoreWarning,
    TimeLimitError,
    TokenError,
    UncalledProgramError,
    WorldError,
)
from simloop.explore.hookspecs import hookimpl
from simloop.explore.replay import explore, replay
from simloop.explore.result import Failure, Report
from simloop.explore.strategies.base import Plan, Strategy
from simloop.kernel.files.disk import DiskTiming
from simloop.kernel.files.faults import is_injected
from simloop.simulation.cancelled import CancelledSomewhere
from simloop.simulation.files import InjectedFault, SimFiles
from simloop.simulation.handle import Sim, current
from simloop.simulation.hosts import SimHost
from simloop.simulation.programs import SimProcess, SimProgram
from simloop.simulation.run import run, world

#: Version of the distribution, as in ``pip show pytest-simloop``.
__version__: str

__all__ = [
    "BlockingCallError",
    "BlockingCallWarning",
    "CancelledSomewhere",
    "ConfigurationError",
    "CorruptStoreWarning",
    "DeadlockError",
    "DiskTiming",
    "EscapedSimulationError",
    "Failure",
    "HostCrashedError",
    "InjectedFault",
    "NondeterminismError",
    "OtherTestError",
    "Plan",
    "PluginError",
    "ProcessEndedError",
    "ReplayDriftWarning",
    "Report",
    "Sim",
    "SimFiles",
    "SimHost",
    "SimProcess",
    "SimProgram",
    "SimulationError",
    "StepLimitError",
    "StoreWarning",
    "Strategy",
    "TimeLimitError",
    "TokenError",
    "UncalledProgramError",
    "WorldError",
    "current",
    "explore",
    "hookimpl",
    "is_injected",
    "replay",
    "run",
    "world",
]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Only when it is asked for: this takes as long as a quarter of all other imports.
    from importlib.metadata import version

    return version("pytest-simloop")
