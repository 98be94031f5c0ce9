"""Monkey-patching: replaces functions by their shims, and restores them."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

from simloop.shims import clock_tools, static_types
from simloop.shims.references import SUPPORTS, Holders, bound_methods, enclosed, in_class, is_a

Replacement = tuple[object, str, object]


# Packages whose references stay: the interpreter imports through some, and imports are real; the others are ours.
_KEPT = {"posix", "_io", "_frozen_importlib", "_frozen_importlib_external", "simloop", "pytest_simloop"}


# What stood in the place of a shim before, by the identity of its owner and by name.
_originals: dict[tuple[int, str], object] = {}


def builtin(shim: Any) -> Any:
    """Return `shim` wrapped to behave like a builtin function: as a class attribute it is not bound to instances."""
    return staticmethod(shim)


def original(owner: Any, name: str) -> Any:
    """Return the original of an attribute of a module or class that has a shim, installed or not."""
    key = (id(owner), name)
    return _originals[key] if key in _originals else _standing(owner, name)


def _standing(owner: Any, name: str) -> object:
    return vars(owner)[name] if static_types.is_immutable(owner) else getattr(owner, name)


def _put(owner: Any, name: str, value: object) -> None:
    if static_types.is_immutable(owner):
        static_types.put(owner, name, value)
    else:
        setattr(owner, name, value)


def _declare(owner: object, real: Any, shim: Any) -> None:
    """Add the shim of a function of `os` to the sets that contain the function, such as `os.supports_fd`. Never undone,
    since it does no harm."""
    if owner is os:
        for supported in SUPPORTS:
            if real in supported:
                supported.add(shim)


class Patch:
    """Set of replacements of attributes of modules and classes, which can be applied and undone.

    References to an original are replaced too: modules that imported it by name (``from time import monotonic``) hold
    it under a name of their own, classes as an attribute, and decorated functions in a closure (``stat =
    in_thread(os.stat)``, as in aiofiles). All references that exist when the patch is applied are replaced once and
    stay so, since every shim calls the real function outside of a world.
    """

    def __init__(self, replacements: Iterable[Replacement]) -> None:
        self._replacements: list[tuple[object, str, object, object]] = [
            (owner, name, _standing(owner, name), shim) for owner, name, shim in replacements
        ]
        for owner, name, real, shim in self._replacements:
            _originals[id(owner), name] = real
            _declare(owner, real, shim)
        # By identity, since some originals cannot be hashed or compare oddly.
        self._shims: dict[int, tuple[object, object]] = {
            id(real): (real, shim)
            for owner, _, real, shim in self._replacements
            if isinstance(owner, ModuleType) and callable(real) and shim is not None
        }
        # By name. One that is imported anew is another module.
        self._seen: dict[str, weakref.ref[ModuleType]] = {}
        self._modules = 0
        # What is replaced by name, and so is given back.
        self._named = {
            (owner.__name__, name) for owner, name, _, _ in self._replacements if isinstance(owner, ModuleType)
        }
        self._owners = {module for module, _ in self._named}

    def apply(self) -> None:
        """Put all replacements in place."""
        for owner, name, _, shim in self._replacements:
            _put(owner, name, shim)
        self.refresh()

    def refresh(self) -> bool:
        """Replace references in the modules that were imported since the last call. Return True if there are new
        modules."""
        if len(sys.modules) == self._modules:
            return False
        # While freezegun has the clock, it keeps a list of what to put back where, and here are modules, too.
        everywhere = not self._modules and not clock_tools.frozen()
        if everywhere:
            gc.unfreeze()  # what is frozen, the collector does not tell
            self._shims |= bound_methods(
                [(owner, name, real) for owner, name, real, _ in self._replacements if isinstance(owner, type)]
            )
            holders = Holders(self._shims, self._replacements, _KEPT)
            self._replace_references(holders.namespaces)
            holders.replace(self._owners)
        else:
            self._replace_references()
        self._modules = len(sys.modules)
        return True

    def forget(self) -> None:
        """Make the next `refresh` search all modules again."""
        self._seen.clear()
        self._modules = 0

    def imported(self, module: ModuleType | None) -> None:
        """Replace references in modules that were just imported: those new in `sys.modules`, and `module`."""
        if module is not None:
            self._replace_references_in(module.__name__, module)
        self._replace_references()
        self._modules = len(sys.modules)

    def restore(self) -> None:
        """Restore the original attributes."""
        for owner, name, real, _ in self._replacements:
            _put(owner, name, real)

    def _replace_references(self, holding: set[int] | None = None) -> None:
        """Replace references in modules that were not searched yet. `holding`, if given, contains the identities of the
        module namespaces that hold references: others need not be searched."""
        seen = self._seen
        for name, module in list(sys.modules.items()):
            known = seen.get(name)
            # What merely says that it is a module, as cffi's libraries do, may have no weak references.
            if is_a(module, ModuleType) and (known is None or known() is not module):
                seen[name] = weakref.ref(module)
                if holding is None:
                    self._replace_references_in(name, module)
                elif id(vars(module)) in holding:
                    self._replace_references_in(name, module, inside=False)

    def _replace_references_in(self, name: str, module: ModuleType, *, inside: bool = True) -> None:
        """Replace references in the namespace of a module, and with `inside` also in its functions and classes, which
        `Holders` finds as well."""
        if name.partition(".")[0] in _KEPT:
            return
        shims, named = self._shims, self._named
        namespace = vars(module)
        owns = name in self._owners
        for key, value in list(namespace.items()):
            found = shims.get(id(value))
            if found is not None and found[0] is value:
                if (name, key) not in named and not (owns and is_a(value, type)):
                    namespace[key] = found[1]
            elif not inside:
                continue
            elif type(value) is FunctionType:
                if value.__closure__ and (name, key) not in named:
                    self._replace_enclosed(value)
            elif is_a(value, type) and not owns and value.__module__ == name:
                self._replace_attributes(value)

    def _replace_enclosed(self, function: FunctionType) -> None:
        """Replace references in the closure of a function, and in those of the functions that the closure contains."""
        waiting, seen = [function], {id(function)}
        while waiting:
            function = waiting.pop()
            # Shims hold the real functions in the same way.
            if function.__globals__.get("__name__", "").partition(".")[0] in _KEPT:
                continue
            for cell, value in enclosed(function):
                found = self._shims.get(id(value))
                if found is not None and found[0] is value:
                    cell.cell_contents = found[1]
                elif type(value) is FunctionType and id(value) not in seen:
                    seen.add(id(value))
                    waiting.append(value)

    def _replace_attributes(self, owner: type) -> None:
        """Replace references in the attributes of a class, and of the classes defined in it."""
        in_class(owner, self._shims)
        for key, value in list(vars(owner).items()):
            if is_a(value, type) and value.__qualname__ == f"{owner.__qualname__}.{key}":
                self._replace_attributes(value)
