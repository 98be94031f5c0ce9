"""Support for freezegun and time-machine, which can freeze or move the virtual clock inside of a world.

freezegun replaces the functions and classes that it finds, which are the shims. time-machine replaces the C code of the
real functions: while it is active, shims call the real functions also inside of a world, and time-machine reads the
virtual clock in place of the real one. Private parts of both libraries are used only here;
`tests/shims/test_clock_tools.py` checks them.
"""

from __future__ import annotations

import contextlib
import sys
import time as _time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from simloop.world import active

try:
    # It takes the functions of `time` and `datetime` when it is first imported, for C objects whatever they are: it
    # would crash the interpreter with shims. So it is imported before any shim is in place.
    _time_machine: Any = import_module("_time_machine")
except ImportError:
    _time_machine = None

_FREEZEGUN = "freezegun.api"
_TIME_MACHINE = "time_machine"


#: True while time-machine reads what it takes for the real clock.
_at_home = False


def travelling() -> bool:
    """Return True while time-machine is active: then shims have to call the real functions, whose C code it has
    replaced."""
    machine = sys.modules.get(_TIME_MACHINE)
    return machine is not None and not _at_home and len(machine.traveller_stack) > 0


def originals(shims: dict[str, Callable[..., Any]]) -> list[tuple[object, str, object]]:
    """Return replacements for the functions by which time-machine reads the real clock: they read the virtual clock
    inside of a world. `shims` maps the names of the functions that time-machine replaces to their shims."""
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
    """Return True while freezegun has frozen the clock, and its own functions and classes are in place in all
    modules."""
    api = sys.modules.get(_FREEZEGUN)
    return api is not None and len(api.freeze_factories) > 0


@contextlib.contextmanager
def thawed() -> Iterator[None]:
    """Context manager in which the module `time` has its own functions again, if freezegun has frozen the clock. The
    functions that freezegun restores later are then shims, since the references that it holds are replaced, too."""
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
    """Make freezegun find shims when it searches modules for functions to replace: it compares addresses, which it took
    from the real functions at its import."""
    api = sys.modules.get(_FREEZEGUN)
    if api is not None:
        api._real_time_object_ids.update(id(value) for name, value in vars(api).items() if name.startswith("real_"))
        api._GLOBAL_MODULES_CACHE.clear()


def rewound() -> Rewound | None:
    """Restart over virtual time the clocks that freezegun or time-machine has frozen or moved outside of the world.
    Return an object that restores them, or None if there are none."""
    api: Any = sys.modules.get(_FREEZEGUN)
    machine: Any = sys.modules.get(_TIME_MACHINE)
    if api is None and machine is None:
        return None
    frozen = api is not None and api.freeze_factories
    moved = machine is not None and machine.traveller_stack
    return Rewound(api, [*(frozen or ()), *(moved or ())]) if frozen or moved else None


class Rewound:
    """State of the clocks of freezegun and time-machine, saved before a run restarts them, to be restored after it."""

    __slots__ = ("_before",)

    def __init__(self, api: Any, clocks: list[Any]) -> None:
        self._before: list[tuple[Any, dict[str, Any]]] = [(clock, dict(vars(clock))) for clock in clocks]
        for clock in clocks:
            if hasattr(clock, "start"):  # a ticking one of freezegun
                clock.start = api.real_datetime.now()
            elif hasattr(clock, "_requested"):  # one of time-machine: the first look is the destination
                clock._requested = False

    def put_back(self) -> None:
        """Restore the clocks to their state before the run."""
        for clock, attributes in self._before:
            vars(clock).clear()
            vars(clock).update(attributes)
