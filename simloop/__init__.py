"""Runs unmodified asyncio programs in a simulated world, in which a seed chooses every order that the
real environment could choose."""

from simloop.cancelled import CancelledSomewhere
from simloop.errors import (
    ConfigurationError,
    DeadlockError,
    EscapedSimulationError,
    NondeterminismError,
    OtherTestError,
    ReplayDriftWarning,
    SimulationError,
    StepLimitError,
    TimeLimitError,
    TokenError,
    WorldError,
)
from simloop.explore.campaign import Failure, Report, explore, replay
from simloop.explore.strategies import Plan, Strategy
from simloop.simulation import Sim, SimHost, current, run, world

__all__ = [
    "CancelledSomewhere",
    "ConfigurationError",
    "DeadlockError",
    "EscapedSimulationError",
    "Failure",
    "NondeterminismError",
    "OtherTestError",
    "Plan",
    "ReplayDriftWarning",
    "Report",
    "Sim",
    "SimHost",
    "SimulationError",
    "StepLimitError",
    "Strategy",
    "TimeLimitError",
    "TokenError",
    "WorldError",
    "current",
    "explore",
    "replay",
    "run",
    "world",
]
