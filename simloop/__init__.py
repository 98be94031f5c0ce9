"""Runs unmodified asyncio programs in a simulated world, in which a seed chooses every order that the
real environment could choose."""

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
from simloop.simulation import Sim, SimHost, current, run, world

__all__ = [
    "ConfigurationError",
    "DeadlockError",
    "EscapedSimulationError",
    "NondeterminismError",
    "OtherTestError",
    "ReplayDriftWarning",
    "Sim",
    "SimHost",
    "SimulationError",
    "StepLimitError",
    "TimeLimitError",
    "TokenError",
    "WorldError",
    "current",
    "run",
    "world",
]
