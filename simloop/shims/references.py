"""Replacement of references to real functions in objects: default arguments, factories of dataclasses, partial
functions, attributes of instances, lists and dictionaries.

A module that was imported before the shims were installed may have stored real functions already (``def __init__(self,
timer=time.monotonic)``, ``field(default_factory=time.time)``), which in a run would read the real clock. The garbage
collector is asked which objects hold them. References in tuples and sets cannot be replaced.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from types import (
    BuiltinMethodType,
    CellType,
    ClassMethodDescriptorType,
    FunctionType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any, cast

from simloop.shims.static_types import HEAP_TYPE, namespaces_of

Shims = dict[int, tuple[object, object]]
"""Replaced functions and their shims, by the identity of the former: some cannot be hashed, or compare oddly."""


#: Sets by which programs find out which arguments a function of `os` supports.
SUPPORTS = (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks)


# How many tuples deep a function is looked for.
_DEPTH = 3
# What each class has, whatever its metaclass says.
_MRO, _BASES = type.__dict__["__mro__"], type.__dict__["__bases__"]


def is_a(value: object, kinds: type | tuple[type, ...]) -> bool:
    """Return `isinstance` of an object without reading its ``__class__``, which would make a lazy object, such as the
    settings of Django, load its content."""
    return issubclass(type(value), kinds)


# Below, builtin types' own methods do the work: what a class makes of an assignment (that it is frozen, that there is
# a member of an enumeration) is not for this one.


def _subclasses(*roots: type) -> Iterator[type]:
    """Yield the classes that are derived from `roots`, directly or not; some twice."""
    waiting = list(roots)
    while waiting:
        subclasses: list[type] = type.__subclasses__(waiting.pop())
        yield from subclasses
        waiting += subclasses


class Holders:
    """Objects that hold references to functions that have a shim: namespaces of modules, and all others that the
    garbage collector knows, except `shims` and `replacements` themselves. `kept` names packages that are left
    unchanged."""

    def __init__(self, shims: Shims, replacements: list[tuple[Any, ...]], kept: set[str]) -> None:
        self._shims = shims
        self._kept = kept
        #: Identities of the namespaces of modules that hold references.
        self.namespaces: set[int] = set()
        known, namespaces, belongings = self._known(replacements)
        cells = _cells(replacements)
        known.update(cells.values())
        sought = tuple(_held_elsewhere(shims, known))
        seen = {id(held) for held in (*shims.values(), *replacements, *SUPPORTS, sought)} | cells.keys() | belongings
        stay = seen | namespaces
        self._holders = [holder for holder in gc.get_referrers(*sought) if id(holder) not in stay] if sought else []
        #: What these are parts of: default arguments of functions, arguments of partial functions, static methods of
        #: classes, cells of closures, and whatever else has a tuple or a frozen set, which may be in one again.
        self._wholes: list[Any] = []
        parts = tuple(filter(_is_part, self._holders))
        for _ in range(_DEPTH):
            if not parts:
                break
            seen |= {id(parts), *map(id, parts)}
            wholes = [whole for whole in gc.get_referrers(*parts) if id(whole) not in seen]
            self._wholes += wholes
            parts = tuple(whole for whole in wholes if type(whole) in (tuple, frozenset))

    def _known(self, replacements: Iterable[Iterable[Any]]) -> tuple[Counter[int], set[int], set[int]]:
        """Return the number of references to each function in `shims`, `replacements` and modules; the identities of
        the namespaces of all modules; and those of objects to leave unchanged, which belong to the packages `kept`."""
        sought = set(self._shims)
        # By identity: a table may be in several modules, and a module under several names.
        namespaces: dict[int, Iterable[Any]] = {}
        tables: dict[int, Iterable[Any]] = {}
        everywhere: set[int] = set()
        belongings: set[int] = set()
        for name, module in list(sys.modules.items()):
            namespace = getattr(module, "__dict__", {})
            everywhere.add(id(namespace))
            if is_a(module, ModuleType):
                namespaces[id(namespace)] = namespace.values()
                if name.partition(".")[0] in self._kept:
                    belongings.update((id(namespace), *map(id, namespace.values())))
                    for held in namespace.values():
                        if type(held) is dict:
                            tables[id(held)] = held.values()
                        elif type(held) is list or type(held) is tuple:
                            belongings.update(map(id, held))
        for key, values in namespaces.items():
            if not sought.isdisjoint(map(id, values)):
                self.namespaces.add(key)
                tables[key] = values
        holding = (*replacements, *self._shims.values(), *SUPPORTS, *tables.values())
        known = Counter(filter(sought.__contains__, map(id, itertools.chain.from_iterable(holding))))
        return known, everywhere, belongings

    def replace(self, owners: set[str]) -> None:
        """Replace real functions by shims in all holders except modules. Not in functions and classes of the modules
        `owners`, which define the real functions, nor in anything that belongs to the packages `kept`."""
        held = {id(holder) for holder in self._holders}
        frozen = _frozen((*self._holders, *self._wholes), self._shims)
        shims = self._shims | frozen

        def stays(module: object) -> bool:
            return module in owners or (isinstance(module, str) and module.partition(".")[0] in self._kept)

        classes = self._classes(held)
        for owner in classes.values():
            if not stays(owner.__module__):
                in_class(owner, shims)
        for holder in self._holders:
            if id(holder) not in classes:
                _in_object(holder, shims)
        for whole in self._wholes:
            if type(whole) is FunctionType:
                if not stays(whole.__globals__.get("__name__")):
                    _in_function(whole, shims)
            elif type(whole) is functools.partial:
                _in_partial(whole, shims)
            elif type(whole) is CellType:
                whole.cell_contents = _shim_of(whole.cell_contents, frozen)
            elif id(whole) not in classes:
                _in_object(whole, frozen)

    def _classes(self, held: set[int]) -> dict[int, type]:
        """Return the classes with an attribute that has a shim, by the identity of their dictionary of attributes.
        `held` contains the identities of all holders."""
        held = held | set(map(id, self._wholes))
        classes = [each for each in _subclasses(object) if each.__flags__ & HEAP_TYPE]
        namespaces = zip(map(id, namespaces_of(classes)), classes, strict=True)
        return {key: owner for key, owner in namespaces if key in held}


def _is_part(holder: object) -> bool:
    """Return True if not a holder itself is to be changed, but what it is a part of."""
    kind = type(holder)
    if not is_a(holder, tuple):
        return kind in (staticmethod, frozenset) or (kind is CellType and not _is_of_super(cast("CellType", holder)))
    # Each class has a tuple of the classes that it inherits from, and one of its bases.
    for value in cast("tuple[Any, ...]", holder):
        if is_a(value, type) and (
            _MRO.__get__(value) is holder
            or any(_BASES.__get__(derived) is holder for derived in type.__subclasses__(value))
        ):
            return False
    return True


def _is_of_super(cell: CellType) -> bool:
    """Return True for the cell by which `super` finds the class that a method is in."""
    owner = cell.cell_contents
    methods = vars(owner).values() if is_a(owner, type) else ()
    closures = (method.__closure__ for method in methods if type(method) is FunctionType)
    return any(each is cell for closure in closures for each in closure or ())


def _held_elsewhere(shims: Shims, known: Counter[int]) -> list[Any]:
    """Return the replaced functions that have more references than `known` counts. Only for these are holders searched,
    since that takes longer the more functions are searched for."""
    nobody = object()
    counts = [(real, sys.getrefcount(real)) for real in (nobody, *(real for real, _ in shims.values()))]
    # The first is held by this function alone.
    least = counts[0][1] - 1
    return [real for real, count in counts[1:] if count - known[id(real)] > least]


def _cells(replacements: Iterable[tuple[Any, ...]]) -> dict[int, int]:
    """Return the identities of the closure cells in which shims hold the real functions, mapped to those of the
    functions."""
    found: dict[int, int] = {}
    waiting = [shim for *_, shim in replacements]
    while waiting:
        shim = waiting.pop()
        function = getattr(shim, "__func__", shim)
        if type(function) is functools.partial:  # a stand-in, see simloop/shims/late.py
            function = function.func
        if type(function) is FunctionType and function.__closure__ is not None:
            for cell, value in enclosed(function):
                if id(cell) not in found:
                    found[id(cell)] = id(value)
                    if type(value) is FunctionType and _is_ours(value):
                        waiting.append(value)
    return found


def _is_ours(function: FunctionType) -> bool:
    return str(function.__globals__.get("__name__")).startswith("simloop.")


def in_class(owner: type, shims: Shims) -> None:
    """Replace real functions by shims in the attributes of a class."""
    for key, value in list(vars(owner).items()):
        held = value.__func__ if is_a(value, staticmethod) else value
        found = shims.get(id(held))
        if found is not None and found[0] is held:
            # A function of Python's own would become a method, which the builtin one did not.
            plain = isinstance(found[1], FunctionType) and not is_a(value, FunctionType)
            type.__setattr__(owner, key, staticmethod(found[1]) if plain else found[1])  # type: ignore[arg-type]


def enclosed(function: FunctionType) -> Iterator[tuple[CellType, Any]]:
    """Yield the cells of a function's closure with their contents; cells that are not assigned yet are left out."""
    for cell in function.__closure__ or ():
        try:
            yield cell, cell.cell_contents
        except ValueError:
            continue


def bound_methods(replaced: Iterable[tuple[Any, str, object]]) -> Shims:
    """Return bound methods of classes written in C that were stored (``default_factory=datetime.now``) before the
    classes were patched, each with its replacement: the method that the same expression gives now. `replaced` are the
    classes, the names of their methods, and what these were."""
    owners = {owner for owner, _, real in replaced if type(real) is ClassMethodDescriptorType}
    keys = {(id(owner), name) for owner, name, _ in replaced}
    found: Shims = {}
    for method in gc.get_referrers(*owners, *_subclasses(*owners)) if owners else ():
        if type(method) is BuiltinMethodType:
            owner: Any = method.__self__
            if is_a(owner, type) and any((id(base), method.__name__) in keys for base in owner.__mro__):
                found[id(method)] = (method, getattr(owner, method.__name__))
    return found


def _shim_of(value: object, shims: Shims) -> Any:
    found = shims.get(id(value))
    return found[1] if found is not None and found[0] is value else value


def _frozen(holders: Iterable[object], shims: Shims) -> Shims:
    """Return those of `holders` that cannot be changed, tuples and frozen sets, each with a copy that has the shims.
    One that is in another comes before it."""
    found: Shims = {}
    for holder in holders:
        kind: Any = type(holder)
        if kind is tuple or kind is frozenset or (is_a(holder, tuple) and hasattr(kind, "_fields")):
            values = list(cast("Iterable[Any]", holder))
            replaced = [_shim_of(value, found if id(value) in found else shims) for value in values]
            if any(shim is not value for shim, value in zip(replaced, values, strict=True)):
                copy = frozenset(replaced) if kind is frozenset else tuple.__new__(kind, replaced)
                found[id(holder)] = holder, copy
    return found


def _in_object(holder: object, shims: Shims) -> None:
    """Replace real functions by shims in a container, a partial function, or the attributes of an instance."""
    if is_a(holder, dict):
        _in_dict(cast("dict[Any, Any]", holder), shims)
    elif is_a(holder, list):
        elements = cast("list[Any]", holder)
        list.__setitem__(elements, slice(None), [_shim_of(value, shims) for value in list.__iter__(elements)])
    elif type(holder) is functools.partial:
        _in_partial(holder, shims)
    elif type(holder) is deque:
        for index, value in enumerate(holder):
            holder[index] = _shim_of(value, shims)
    elif type(holder) is set:
        held = [value for value in holder if _shim_of(value, shims) is not value]
        holder.difference_update(held)
        holder.update(_shim_of(value, shims) for value in held)
    elif not is_a(holder, (type, tuple, frozenset, ModuleType, CellType, FunctionType)):
        _in_instance(holder, shims)


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
    """Replace real functions by shims in the attributes of an instance, without calling the `__setattr__` of its
    class."""
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
