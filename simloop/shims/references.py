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
import itertools
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


def holders_of(shims: Shims, replacements: list[tuple[Any, ...]], kept: set[str]) -> list[Any]:
    """Return the objects that hold what has a shim, but for `shims` and `replacements`."""
    sought = _held_elsewhere(shims, replacements, kept)
    ours = {id(held) for held in (*shims.values(), *replacements, sought)} | _cells(shims).keys()
    return [holder for holder in gc.get_referrers(*sought) if id(holder) not in ours]


def replace_held(holders: Iterable[Any], shims: Shims, owners: set[str], kept: set[str]) -> None:
    """Replace the references of `holders`, but for the namespaces of modules. Left out are functions and classes of the
    modules `owners`, which define the replaced functions, and everything that belongs to the packages `kept`."""
    ours = _belongings(kept)
    holders = [holder for holder in holders if id(holder) not in ours]

    def stays(module: object) -> bool:
        return module in owners or (isinstance(module, str) and module.partition(".")[0] in kept)

    # Functions hold tuples of defaults and, in a tuple, cells; classes a dictionary, and methods in it.
    around = _referrers(holders, (dict, tuple, CellType, staticmethod))
    around += _referrers(around, (dict, tuple))
    classes = {id(namespace_of(holder)): holder for holder in around if is_a(holder, type)}
    for owner in classes.values():
        if not stays(owner.__module__):
            in_class(owner, shims)
    for holder in holders:
        if id(holder) in classes:
            continue
        if is_a(holder, dict):
            _in_dict(holder, shims)
        elif is_a(holder, list):
            list.__setitem__(holder, slice(None), [_shim_of(value, shims) for value in list.__iter__(holder)])
        elif not is_a(holder, (type, ModuleType, CellType, FunctionType)):
            _in_instance(holder, shims)
    for holder in (*holders, *around):
        if type(holder) is FunctionType:
            if not stays(holder.__globals__.get("__name__")):
                _in_function(holder, shims)
        elif type(holder) is functools.partial:
            _in_partial(holder, shims)


def _referrers(things: Iterable[Any], kinds: tuple[type, ...]) -> list[Any]:
    """Return what refers to those of `things` that are of one of the kinds."""
    wanted = [thing for thing in things if type(thing) in kinds]
    return gc.get_referrers(*wanted) if wanted else []


def _held_elsewhere(shims: Shims, replacements: Iterable[Iterable[Any]], kept: set[str]) -> list[Any]:
    """Return what has a shim and more references than `shims`, `replacements` and the packages `kept` hold. A search
    takes longer the more functions it searches for, and most are held by nobody else."""
    # Each holder once, however many names it has.
    holders: dict[int, Iterable[Any]] = {id(held): held for held in (*replacements, *shims.values(), *SUPPORTS)}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in kept and is_a(module, ModuleType):
            namespace = vars(module)
            holders[id(namespace)] = namespace.values()
            holders |= {id(held): held.values() for held in namespace.values() if type(held) is dict}
    known = Counter(map(id, itertools.chain.from_iterable(holders.values())))
    known.update(_cells(shims).values())
    nobody = object()
    counts = [(real, sys.getrefcount(real)) for real in (nobody, *(real for real, _ in shims.values()))]
    # The first is held by this function alone.
    least = counts[0][1] - 1
    return [real for real, count in counts[1:] if count - known[id(real)] > least]


def _cells(shims: Shims) -> dict[int, int]:
    """Return the identities of the cells in which shims have the real functions, and of their contents."""
    found: dict[int, int] = {}
    for _, shim in shims.values():
        function = getattr(shim, "__func__", shim)
        if type(function) is functools.partial:  # a stand-in, see simloop/shims/late.py
            function = function.func
        if type(function) is FunctionType:
            found |= {id(cell): id(value) for cell, value in enclosed(function)}
    return found


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
    families: set[type] = set()
    heirs = {cls for cls, _ in replaced}
    while heirs:
        families |= heirs
        heirs = set(itertools.chain.from_iterable(family.__subclasses__() for family in heirs))
    found: Shims = {}
    for method in gc.get_referrers(*families):
        if type(method) is BuiltinMethodType and is_a(method.__self__, type):
            owner: Any = method.__self__
            if any((base, method.__name__) in replaced for base in owner.__mro__):
                found[id(method)] = (method, getattr(owner, method.__name__))
    return found


def _belongings(kept: set[str]) -> set[int]:
    """Return the identities of all module namespaces, which `simloop.shims.patch` handles itself, and of the objects in
    the namespaces of the packages `kept`."""
    found = set()
    for name, module in list(sys.modules.items()):
        namespace = getattr(module, "__dict__", {})
        found.add(id(namespace))
        if name.partition(".")[0] in kept:
            found.update(map(id, namespace.values()))
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
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not assigned yet
            shim = _shim_of(cell.cell_contents, shims)
            # By ``__class__``, super() finds the class that it is in.
            if shim is not cell.cell_contents and name != "__class__":
                cell.cell_contents = shim
