"""Runs unmodified asyncio programs in a simulated world, in which a seed chooses every order that the
real environment could choose.

PYTEST_DONT_REWRITE
"""

from simloop.cancelled import CancelledSomewhere
from simloop.disks import InjectedFault, SimFiles
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
from simloop.explore.campaign import Failure, Report, explore
from simloop.explore.pin import replay
from simloop.explore.strategies import Plan, Strategy
from simloop.hookspecs import hookimpl
from simloop.hosts import SimHost
from simloop.kernel.files import DiskTiming, is_injected
from simloop.programs import SimProcess, SimProgram
from simloop.simulation import Sim, current, run, world

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
