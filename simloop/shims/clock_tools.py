"""freezegun and time-machine: their rule for the clock holds inside of a world, over the virtual clock.

freezegun puts functions and classes of its own over what it found, which are the shims. time-machine exchanges the C
code of the real functions: while it travels, shims go to those also inside of a world, and what it takes for the real
clock is the virtual one. Private parts of both are named here alone; `tests/shims/test_clock_tools.py` holds them.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time as _time
from collections.abc import Callable, Iterator
from typing import Any

from simloop.world import active

try:
    # It takes the functions of `time` and `datetime` when it is first imported, for C objects whatever they are: it
    # would crash the interpreter with shims. So it is imported before any shim is in place.
    _time_machine: Any = importlib.import_module("_time_machine")
except ImportError:
    _time_machine = None

_FREEZEGUN = "freezegun.api"
_TIME_MACHINE = "time_machine"


#: True while what time-machine takes for the real clock is read.
_at_home = False


def travelling() -> bool:
    """True while time-machine travels: the real functions follow it then, as far as it has them do so."""
    machine = sys.modules.get(_TIME_MACHINE)
    return machine is not None and not _at_home and len(machine.traveller_stack) > 0


def originals(shims: dict[str, Callable[..., Any]]) -> list[tuple[object, str, object]]:
    """Return replacements of what time-machine takes for the real clock: `shims`, by the names of their originals."""
    return [
        (_time_machine, f"original_{name}", _original(getattr(_time_machine, f"original_{name}"), shim))
        for name, shim in shims.items()
        if hasattr(_time_machine, f"original_{name}")
    ]


def _original(real: Callable[..., Any], shim: Callable[..., Any]) -> Callable[..., Any]:
    def original(*args: Any) -> Any:
        global _at_home
        if active.world() is None or not travelling():
            return real(*args)
        _at_home = True
        try:
            return shim(*args)
        finally:
            _at_home = False

    return original


def frozen() -> bool:
    """True while freezegun has its own functions and classes in all modules."""
    api = sys.modules.get(_FREEZEGUN)
    return api is not None and len(api.freeze_factories) > 0


@contextlib.contextmanager
def thawed() -> Iterator[None]:
    """freezegun, where it has frozen the clock, lets go of the module `time` for the length of the block. What it puts
    back later is what it holds, as modules do, by reference: shims."""
    api = sys.modules.get(_FREEZEGUN)
    faked = [
        (name, function)
        for name, function in vars(_time).items()
        if api is not None and function is getattr(api, f"fake_{name}", None)
    ]
    for name, _ in faked:
        setattr(_time, name, getattr(api, f"real_{name}"))
    try:
        yield
    finally:
        for name, function in faked:
            setattr(_time, name, function)


def refresh() -> None:
    """Let freezegun know the shims for what it has to replace: it finds references in modules by the address of the
    originals, which it noted when it was imported."""
    api = sys.modules.get(_FREEZEGUN)
    if api is not None:
        api._real_time_object_ids.update(id(value) for name, value in vars(api).items() if name.startswith("real_"))
        api._GLOBAL_MODULES_CACHE.clear()


def rewound() -> Rewound | None:
    """Let clocks that were frozen or sent travelling outside of the world begin anew, in virtual time. Returns what
    puts them back; None where no such tool is imported."""
    return Rewound() if _FREEZEGUN in sys.modules or _TIME_MACHINE in sys.modules else None


class Rewound:
    """Clocks of freezegun and time-machine that have begun anew, with what they were before."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        api: Any = sys.modules.get(_FREEZEGUN)
        machine = sys.modules.get(_TIME_MACHINE)
        clocks = [*getattr(api, "freeze_factories", ()), *getattr(machine, "traveller_stack", ())]
        self._before: list[tuple[Any, dict[str, Any]]] = [(clock, dict(vars(clock))) for clock in clocks]
        for clock in clocks:
            if hasattr(clock, "start"):  # a ticking one of freezegun
                clock.start = api.real_datetime.now()
            elif hasattr(clock, "_requested"):  # one of time-machine: the first look is the destination
                clock._requested = False

    def put_back(self) -> None:
        """Let the clocks go on as if the run had not been."""
        for clock, attributes in self._before:
            vars(clock).clear()
            vars(clock).update(attributes)
