"""Runs unmodified asyncio programs in a simulated world, in which a seed chooses every order that the
real environment could choose."""

from simloop.cancelled import CancelledSomewhere
from simloop.errors import (
    ConfigurationError,
    CorruptStoreWarning,
    DeadlockError,
    EscapedSimulationError,
    NondeterminismError,
    OtherTestError,
    PluginError,
    ReplayDriftWarning,
    SimulationError,
    StepLimitError,
    StoreWarning,
    TimeLimitError,
    TokenError,
    WorldError,
)
from simloop.explore.campaign import Failure, Report, explore
from simloop.explore.pin import replay
from simloop.explore.strategies import Plan, Strategy
from simloop.hookspecs import hookimpl
from simloop.simulation import Sim, SimHost, current, run, world

__all__ = [
    "CancelledSomewhere",
    "ConfigurationError",
    "CorruptStoreWarning",
    "DeadlockError",
    "EscapedSimulationError",
    "Failure",
    "NondeterminismError",
    "OtherTestError",
    "Plan",
    "PluginError",
    "ReplayDriftWarning",
    "Report",
    "Sim",
    "SimHost",
    "SimulationError",
    "StepLimitError",
    "StoreWarning",
    "Strategy",
    "TimeLimitError",
    "TokenError",
    "WorldError",
    "current",
    "explore",
    "hookimpl",
    "replay",
    "run",
    "world",
]
