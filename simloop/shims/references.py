"""Replacement of references to real functions that objects hold: default arguments, factories of dataclasses, partial
functions, attributes of instances, lists and tables.

A module that was imported before the shims were in place may have stored real functions already (``def __init__(self,
timer=time.monotonic)``, ``field(default_factory=time.time)``): in a run they would read the real clock. The garbage
collector knows which objects hold them. References in tuples and sets cannot be changed, and stay.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from types import BuiltinMethodType, CellType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any, cast

from simloop.shims.static_types import namespace_of

Shims = dict[int, tuple[object, object]]
"""Replaced functions and their shims, by the identity of the former: some cannot be hashed, or compare oddly."""


#: Sets in which programs look up what a function of `os` can do.
SUPPORTS = (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks)


def is_a(value: object, kinds: type | tuple[type, ...]) -> bool:
    """Return True as `isinstance` does, but without reading ``__class__`` of the object: a lazy object, such as the
    settings of Django, would load what it stands for."""
    return issubclass(type(value), kinds)


# Below, builtin types' own methods do the work: what a class makes of an assignment (that it is frozen, that there is
# a member of an enumeration) is not for this one.


def replace_held(shims: Shims, replacements: list[tuple[Any, ...]], owners: set[str], kept: set[str]) -> None:
    """Replace the references that all objects hold by shims. Left out are the namespaces of modules, functions and
    classes of the modules `owners`, which define the replaced functions, and everything that belongs to the packages
    `kept`. `replacements` hold the functions, too, and are no reason to search."""
    # Methods hold their own class, and classes their bases: those stay.
    shims = {key: found for key, found in shims.items() if not isinstance(found[0], type)}
    ours = _belongings(kept)

    def stays(module: object) -> bool:
        return module in owners or (isinstance(module, str) and module.partition(".")[0] in kept)

    functions: list[FunctionType] = []
    partials: list[functools.partial[Any]] = []
    namespaces: dict[int, Any] = {}
    for thing in gc.get_objects():
        kind = type(thing)
        if kind is FunctionType:
            functions.append(thing)
        elif kind is functools.partial:
            partials.append(thing)
        elif issubclass(kind, type):
            namespaces[id(namespace_of(thing))] = thing
    # They hold replaced functions themselves by now.
    ours |= {id(functions), id(partials)}
    holders = gc.get_referrers(*_held_elsewhere(shims, replacements, kept))
    wrappers = [holder for holder in holders if type(holder) is staticmethod]
    holding = {id(holder) for holder in holders}
    of_classes = [*holders, *(gc.get_referrers(*wrappers) if wrappers else ())]
    for owner in [namespaces[id(found)] for found in of_classes if id(found) in namespaces]:
        if not stays(owner.__module__):
            in_class(owner, shims)
    for holder in holders:
        if id(holder) in ours or id(holder) in namespaces:
            continue
        if is_a(holder, dict):
            _in_dict(holder, shims)
        elif is_a(holder, list):
            list.__setitem__(holder, slice(None), [_shim_of(value, shims) for value in list.__iter__(holder)])
        elif not is_a(holder, (type, ModuleType, CellType, FunctionType)):
            _in_instance(holder, shims)
    # What they hold is in a tuple or in a cell.
    for function in functions:
        cells = function.__closure__
        if (
            id(function.__defaults__) in holding or (cells is not None and any(id(cell) in holding for cell in cells))
        ) and not stays(function.__globals__.get("__name__")):
            _in_function(function, shims)
    for partial in partials:
        if id(partial) in holding or id(partial.args) in holding:
            _in_partial(partial, shims)


def _held_elsewhere(shims: Shims, replacements: Iterable[tuple[Any, ...]], kept: set[str]) -> list[Any]:
    """Return those functions to which there are more references than the packages `kept` and `replacements` hold. A
    search takes longer the more functions it searches for, and most are held by nobody else."""
    # Each holder once, however many names it has.
    holders: dict[int, Iterable[Any]] = {id(held): held for held in (*replacements, *shims.values(), *SUPPORTS)}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in kept and is_a(module, ModuleType):
            namespace = vars(module)
            holders[id(namespace)] = namespace.values()
            holders |= {id(held): held.values() for held in namespace.values() if type(held) is dict}
    for *_, shim in (*replacements, *shims.values()):
        function = getattr(shim, "__func__", shim)
        if type(function) is functools.partial:  # a stand-in, see simloop/shims/late.py
            function = function.func
        if type(function) is FunctionType:
            holders |= {id(cell): (value,) for cell, value in enclosed(function)}
    known = Counter(id(value) for held in holders.values() for value in held)
    nobody = object()
    counts = [(function, sys.getrefcount(function)) for function in (nobody, *(real for real, _ in shims.values()))]
    # The first is held by this function alone.
    least = counts[0][1] - 1
    return [function for function, count in counts[1:] if count - known[id(function)] > least]


def in_class(owner: type, shims: Shims) -> None:
    """Replace the attributes of a class that have shims."""
    for key, value in list(vars(owner).items()):
        held = value.__func__ if is_a(value, staticmethod) else value
        found = shims.get(id(held))
        if found is not None and found[0] is held:
            # A function of Python's own would become a method, which the builtin one did not.
            plain = isinstance(found[1], FunctionType) and not is_a(value, FunctionType)
            type.__setattr__(owner, key, staticmethod(found[1]) if plain else found[1])  # type: ignore[arg-type]


def enclosed(function: FunctionType) -> Iterator[tuple[CellType, Any]]:
    """Return the cells of a function's closure with their contents, but for those that are not assigned yet."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            yield cell, cell.cell_contents


def bound_methods(replaced: set[tuple[type, str]]) -> Shims:
    """Return the bound methods of C classes that were stored (``default_factory=datetime.now``) before the classes were
    changed, each with what the same expression gives now."""
    found: Shims = {}
    for method in gc.get_objects():
        cls: Any = method.__self__ if type(method) is BuiltinMethodType else None
        if is_a(cls, type) and any((base, method.__name__) in replaced for base in cls.__mro__):
            found[id(method)] = (method, getattr(cls, method.__name__))
    return found


def _belongings(kept: set[str]) -> set[int]:
    """Return the identities of all module namespaces, which `simloop.shims.patch` handles itself, and of the objects in
    the namespaces of the packages `kept`."""
    found = set()
    for name, module in list(sys.modules.items()):
        namespace = getattr(module, "__dict__", {})
        found.add(id(namespace))
        if name.partition(".")[0] in kept:
            for value in namespace.values():
                found.add(id(value))
                if is_a(value, type):
                    found.update(map(id, gc.get_referents(value)))
    return found


def _shim_of(value: object, shims: Shims) -> Any:
    found = shims.get(id(value))
    return found[1] if found is not None and found[0] is value else value


def _in_dict(holder: dict[Any, Any], shims: Shims) -> None:
    for key, value in list(dict.items(holder)):
        shim = _shim_of(value, shims)
        if shim is not value:
            dict.__setitem__(holder, key, shim)


def _in_partial(holder: functools.partial[Any], shims: Shims) -> None:
    function, args, keywords, namespace = cast("tuple[Any, ...]", holder.__reduce__()[2])
    args = tuple(_shim_of(value, shims) for value in args)
    holder.__setstate__((_shim_of(function, shims), args, keywords, namespace))  # type: ignore[attr-defined]


def _in_instance(holder: object, shims: Shims) -> None:
    """Replace the attributes of an instance, without calling its class's own methods for assignment."""
    with contextlib.suppress(AttributeError):
        namespace = object.__getattribute__(holder, "__dict__")
        if type(namespace) is dict:
            _in_dict(namespace, shims)
    for cls in type(holder).__mro__:
        # Those of classes in C may be read-only.
        slots = vars(cls).values() if "__slots__" in vars(cls) else ()
        for slot in [slot for slot in slots if type(slot) is MemberDescriptorType]:
            with contextlib.suppress(AttributeError):  # an empty one
                value = slot.__get__(holder)
                shim = _shim_of(value, shims)
                if shim is not value:
                    slot.__set__(holder, shim)


def _in_function(function: FunctionType, shims: Shims) -> None:
    defaults = function.__defaults__
    if defaults is not None:
        replaced = tuple(_shim_of(value, shims) for value in defaults)
        if any(shim is not value for shim, value in zip(replaced, defaults, strict=True)):
            function.__defaults__ = replaced
    for cell, value in enclosed(function):
        shim = _shim_of(value, shims)
        if shim is not value:
            cell.cell_contents = shim
