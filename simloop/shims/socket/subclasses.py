"""Support for classes derived from `socket.socket`: inside a world their instances are simulated sockets."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable
from socket import socket
from typing import Any

# The class of simulated instances, by the program's own class.
_simulated: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()


def simulated(cls: type, base: type) -> type:
    """Return the class to use inside a world for instances of `cls`: a subclass of `cls` whose `super()` leads to
    `base`, the class of simulated sockets. Its ``__class__`` is `cls`."""
    found = _simulated.get(cls)
    if found is None:
        if not _simulated:
            _let_bases_be_named(base)
        reference = weakref.ref(cls)
        namespace = {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
            "__class__": property(lambda self: reference()),
        }
        found = _simulated[cls] = types.new_class(
            cls.__name__, (cls, base), {"metaclass": type(cls)}, lambda space: space.update(namespace)
        )
    return found


def _let_bases_be_named(base: type) -> None:
    """Patch the methods of `socket.socket` so that ``socket.socket.connect(self, ...)`` in a derived class does the
    same as ``super().connect(...)``: for a simulated socket both call the simulated method. For a real one nothing
    changes."""
    for name, method in vars(base).items():
        real = getattr(socket, name, None)
        # Others have a shim that looks whose they are (simloop/shims/opened.py).
        mine = getattr(real, "__module__", None) != "simloop.shims.opened"
        if isinstance(method, types.FunctionType) and real is not None and mine and name not in _KEPT:
            setattr(socket, name, _either(base, method, real))


# Those that Python calls itself, and finds by the instance's own class.
_KEPT = ("__del__", "__getstate__", "__repr__")


def _either(base: type, method: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return (method if isinstance(self, base) else real)(self, *args, **kwargs)

    return functools.wraps(real)(call)
