"""Deterministic simulator for asyncio: runs unmodified programs in a simulated world, where a seed decides the order of
events.

PYTEST_DONT_REWRITE
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simloop.errors import (
        BlockingCallError,
        BlockingCallWarning,
        ConfigurationError,
        CorruptStoreWarning,
        DeadlockError,
        EscapedSimulationError,
        HangError,
        HostCrashedError,
        JobWarning,
        NondeterminismError,
        OtherTestError,
        PluginError,
        ProcessEndedError,
        RealLibraryWarning,
        ReplayDriftWarning,
        SimulationError,
        StepLimitError,
        StoreWarning,
        TimeLimitError,
        TokenError,
        UncalledProgramError,
        WorldError,
    )
    from simloop.explore.failure import Failure
    from simloop.explore.hookspecs import hookimpl
    from simloop.explore.replay import explore, replay
    from simloop.explore.result import Report
    from simloop.explore.strategies.base import Plan, Strategy
    from simloop.kernel.files.disk import DiskTiming
    from simloop.kernel.files.faults import is_injected
    from simloop.simulation.cancelled import CancelledSomewhere
    from simloop.simulation.clock import SimClock
    from simloop.simulation.dns import SimDns
    from simloop.simulation.files import InjectedFault, SimFiles
    from simloop.simulation.handle import Sim, current
    from simloop.simulation.hosts import SimHost
    from simloop.simulation.network import Deliver, Drop, Fault, Packet, Pass, SimNetwork
    from simloop.simulation.programs import SimProcess, SimProgram
    from simloop.simulation.run import run, world
    from simloop.simulation.tls import Certificate, SimTls

#: Version of the distribution, as in ``pip show pytest-simloop``.
__version__: str

__all__ = [
    "BlockingCallError",
    "BlockingCallWarning",
    "CancelledSomewhere",
    "Certificate",
    "ConfigurationError",
    "CorruptStoreWarning",
    "DeadlockError",
    "Deliver",
    "DiskTiming",
    "Drop",
    "EscapedSimulationError",
    "Failure",
    "Fault",
    "HangError",
    "HostCrashedError",
    "InjectedFault",
    "JobWarning",
    "NondeterminismError",
    "OtherTestError",
    "Packet",
    "Pass",
    "Plan",
    "PluginError",
    "ProcessEndedError",
    "RealLibraryWarning",
    "ReplayDriftWarning",
    "Report",
    "Sim",
    "SimClock",
    "SimDns",
    "SimFiles",
    "SimHost",
    "SimNetwork",
    "SimProcess",
    "SimProgram",
    "SimTls",
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

# Where they are defined: who imports one module of this package need not wait for all the others.
_MODULES = {
    "simloop.errors": (
        "BlockingCallError",
        "BlockingCallWarning",
        "ConfigurationError",
        "CorruptStoreWarning",
        "DeadlockError",
        "EscapedSimulationError",
        "HangError",
        "JobWarning",
        "HostCrashedError",
        "NondeterminismError",
        "OtherTestError",
        "PluginError",
        "ProcessEndedError",
        "RealLibraryWarning",
        "ReplayDriftWarning",
        "SimulationError",
        "StepLimitError",
        "StoreWarning",
        "TimeLimitError",
        "TokenError",
        "UncalledProgramError",
        "WorldError",
    ),
    "simloop.explore.failure": ("Failure",),
    "simloop.explore.hookspecs": ("hookimpl",),
    "simloop.explore.replay": (
        "explore",
        "replay",
    ),
    "simloop.explore.result": ("Report",),
    "simloop.explore.strategies.base": (
        "Plan",
        "Strategy",
    ),
    "simloop.kernel.files.disk": ("DiskTiming",),
    "simloop.kernel.files.faults": ("is_injected",),
    "simloop.simulation.cancelled": ("CancelledSomewhere",),
    "simloop.simulation.clock": ("SimClock",),
    "simloop.simulation.dns": ("SimDns",),
    "simloop.simulation.files": (
        "InjectedFault",
        "SimFiles",
    ),
    "simloop.simulation.handle": (
        "Sim",
        "current",
    ),
    "simloop.simulation.hosts": ("SimHost",),
    "simloop.simulation.network": (
        "Deliver",
        "Drop",
        "Fault",
        "Packet",
        "Pass",
        "SimNetwork",
    ),
    "simloop.simulation.programs": (
        "SimProcess",
        "SimProgram",
    ),
    "simloop.simulation.run": (
        "run",
        "world",
    ),
    "simloop.simulation.tls": (
        "Certificate",
        "SimTls",
    ),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Only when it is asked for: this takes as long as all other imports.
        from importlib.metadata import version

        return version("pytest-simloop")
    for module, names in _MODULES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(ModuleType):
    """Class of the module object `simloop`, which keeps the functions `explore` and `world` when the subpackages of the
    same names are imported: an import would set the attribute to the package."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in ("explore", "world") and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
