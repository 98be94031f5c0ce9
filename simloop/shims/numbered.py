"""Hashes by number, for objects that would hash by address: so that sets of them iterate in the same order in each run.
This makes sets of such objects several times slower, so it is used only for tests whose runs differ without it."""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
import types
import weakref
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, compress, filterfalse, repeat
from operator import is_
from typing import Any

from simloop.shims import static_types
from simloop.shims.set_order import next_number
from simloop.world import active

_HAS_GC, _HEAP = 1 << 14, 1 << 9  # Py_TPFLAGS_...

_on = False
#: Returns the hash of an object by its address, which is the key of the tables below. (Not `id()`, each call of which
#: raises an audit event.)
_address = object.__hash__
#: Stored hashes of objects, by address: their numbers, or the addresses of objects that may be in a set by address.
_hashes: dict[int, int] = {}
_references: dict[int, _Reference] = {}
#: Objects with a stored hash whose end cannot be noticed: they are kept alive, so that their addresses are not reused.
_kept: dict[int, Any] = {}
#: Classes of the objects with a number, by the object's address. (Each mock has a class of its own, which refers to
#: it.)
_numbered: dict[int, weakref.ref[type]] = {}
#: Patched classes, each with True if it had `object.__hash__` as an attribute of its own.
_changed: list[tuple[weakref.ref[type], bool]] = []
#: Patched types written in C.
_patched: set[type] = set()
#: Functions that undo the patches of types written in C and of `object`, from which later classes inherit.
_undo: list[Callable[[], None]] = []


class _Reference(weakref.ref[Any]):
    """Weak reference that knows the memory address of its object, also after the object was freed."""

    __slots__ = ("key",)
    key: int


def number_objects(on: bool) -> None:
    """Make all objects that would hash by address hash by number (`on`), or by address again. Does nothing if they do
    so already. To be called outside of a world.

    An object has the same hash for life. Objects that exist when this is switched on, or that are first hashed outside
    of a world, keep hashing by address. Objects that were given a number keep it, and their classes stay patched until
    no such object is left.
    """
    global _on
    if on != _on:
        _on = on
        if on:
            _change_all()
        else:
            _let_go()
            gc.collect()  # the garbage of runs is nobody's
            _put_back()
    elif _kept or (_undo and not on):
        _release()
        if not on and not _numbered:
            _put_back()


def _change_all() -> None:
    for cls in type.__subclasses__(object):
        _change(cls, deep=True)
    for cls, function in _IN_C:
        _patch(cls, function)
    _keep_addresses()
    if vars(object)["__hash__"] is not _hash:
        # Classes that are made from now on find it there, by whatever way they are made.
        static_types.put(object, "__hash__", _hash)
        _undo.append(lambda: static_types.put(object, "__hash__", _address))


def _first_hash(found: Any) -> int:
    """Return the hash of the object `found`, which has none yet: inside of a world the next number of the run, outside
    its address. Remember it as long as the object lives."""
    key = _address(found)
    if not _on:
        return key
    cls = type(found)
    inside = active.here() is not None
    number = next_number() if inside else key
    _remember(found, cls, number)
    if inside:
        _numbered[key] = weakref.ref(cls)
    return number


# Numbers outlive the module at the interpreter's end, when it has no names any more: hence the defaults.
def _hash(
    self: Any,
    hashes: dict[int, int] = _hashes,
    address: Callable[[Any], int] = _address,
    first: Callable[[Any], int] = _first_hash,
) -> int:
    try:
        return hashes[address(self)]
    except KeyError:
        return first(self)


_hash.__name__ = _hash.__qualname__ = "__hash__"


def _hash_of_method(method: types.MethodType) -> int:
    owner, function = method.__self__, method.__func__
    if _inherited(type(owner), "__hash__") is not _hash:
        return _address(owner) ^ hash(function)
    value = _hash(owner)
    if _address(owner) not in _numbered:
        return value ^ hash(function)  # as CPython does
    # The function may be older than all runs, with an address that is another one in another process.
    name = function.__qualname__ if type(function) is types.FunctionType else ""
    return value + (zlib.crc32(name.encode()) << 20)


# Types written in C whose objects a program makes in its run and puts into sets, and what these hash by then.
_IN_C: tuple[tuple[type, Callable[[Any], int]], ...] = (
    (types.FunctionType, _hash), (types.MethodType, _hash_of_method), (types.GeneratorType, _hash),
    (types.CoroutineType, _hash), (types.AsyncGeneratorType, _hash), (types.ModuleType, _hash), (object, _hash),
)  # fmt: skip


def _remember(found: Any, cls: type, value: int) -> None:
    """Store `value` as the hash of the object `found`, of class `cls`, until the object's end."""
    key = _address(found)
    if cls.__weakrefoffset__:
        reference = _references[key] = _Reference(found, _forget_reference)
        reference.key = key
    elif isinstance(found, BaseException):
        end = vars(found).get("__simloop_end__")
        if end is None or end.key != key:  # a copy has that of its original
            vars(found)["__simloop_end__"] = _EndOfException(key)
    elif _inherited(cls, "__del__") is not _forget:
        _kept[key] = found
    _hashes[key] = value


def _drop(key: int, tables: tuple[dict[int, Any], ...] = (_hashes, _references, _numbered)) -> None:
    for table in tables:
        table.pop(key, None)


class _EndOfException:
    """Attribute that is stored on an exception, and whose finalizer reports the end of that exception, since built-in
    exceptions have no weak references."""

    __slots__ = ("key",)

    def __init__(self, key: int) -> None:
        self.key = key

    def __del__(self, drop: Callable[[int], None] = _drop) -> None:
        drop(self.key)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()  # for copies of the exception


def _forget_reference(reference: _Reference, drop: Callable[[int], None] = _drop) -> None:
    drop(reference.key)


def _forget(self: Any, drop: Callable[[int], None] = _drop, address: Callable[[Any], int] = _address) -> None:
    drop(address(self))


def _release() -> None:
    """Drop the objects in `_kept` to which there are no other references."""
    alone = {0: object()}
    references = sys.getrefcount(alone[0])
    for key in [key for key in _kept if sys.getrefcount(_kept[key]) <= references]:
        del _kept[key]
        _drop(key)


def _inherited(cls: type, name: str) -> object:
    """Return what a class or its first base that has such a name has under it, or None. It is not asked for its value:
    the class of a mock would make another mock."""
    for base in cls.__mro__:
        namespace = vars(base)
        if name in namespace:
            return namespace[name]
    return None


def _change(cls: type, *, deep: bool = False) -> None:
    """Patch a class whose instances hash by address, so that they hash by number; with `deep`, its subclasses, too."""
    if issubclass(cls, type):
        return  # classes are looked up by hash at every isinstance() of an abstract class
    flags = cls.__flags__
    named = vars(cls).get("__hash__")
    hashed = _inherited(cls, "__hash__")
    if named is not _hash and (hashed is _address or hashed is _hash):
        if issubclass(cls, BaseException) and not flags & _HEAP:
            _patch(cls, _hash)
        # What the collector does not know would not be found by `_keep_addresses`.
        elif (
            flags & _HEAP
            and flags & _HAS_GC
            and (
                # Where there are no weak references, the end of an object is told by `__del__`.
                cls.__weakrefoffset__ or ("__slots__" in vars(cls) and _inherited(cls, "__del__") is None)
            )
        ):
            with _open(cls):
                type.__setattr__(cls, "__hash__", _hash)
                if not cls.__weakrefoffset__:
                    type.__setattr__(cls, "__del__", _forget)
            _changed.append((weakref.ref(cls), named is not None))
    if deep:
        for subclass in type.__subclasses__(cls):
            _change(subclass, deep=True)


def _patch(cls: type, function: Callable[[Any], int]) -> None:
    """Patch a type written in C so that `hash()` of its instances returns ``function(instance)``."""
    if cls not in _patched:
        _patched.add(cls)
        _undo.append(static_types.put_hash(cls, function))


def _keep_addresses() -> None:
    """Make all existing objects keep hashing by address, since each of them may be in a set.

    A large suite has millions of objects, hence the loops in C. Types are told apart by address: metaclasses may
    compare oddly.
    """
    gc.unfreeze()  # what is frozen is not in the list of objects
    objects = gc.get_objects()
    classes = list(map(type, objects))
    keys = list(map(_address, classes))
    by_key = dict(zip(keys, classes, strict=True))
    known = frozenset(key for key, cls in by_key.items() if _hashes_by_number(cls))
    told = frozenset(key for key, cls in by_key.items() if not issubclass(cls, types.ModuleType))
    # The collector does not know objects that hold no others, nor dictionaries of such ones; and classes may have a
    # hash of their own that asks for the address. (Modules written in C may tell of what they keep to be used again,
    # and a reference to that is fatal.)
    referents = gc.get_referents(*compress(objects, map(told.__contains__, keys)))
    _remember_all(compress(objects, map(known.__contains__, keys)))
    untracked = compress(referents, map(partial(is_, dict), map(type, referents)))
    tracked = compress(objects, map(_COLLECTIONS.__contains__, keys))
    for found in chain(tracked, filterfalse(gc.is_tracked, untracked)):
        # Most have such keys alone, which is seen without a step of the interpreter for each.
        if not _COMPARED.issuperset(map(type, found)):
            for member in found:
                if type(member) not in _COMPARED:
                    _keep_address(member)


def _hashes_by_number(cls: type) -> bool:
    return cls in _patched or (not issubclass(cls, type) and _inherited(cls, "__hash__") is _hash)


def _remember_all(found: Iterable[Any]) -> None:
    """Store the addresses of objects as their hashes, as `_remember` does for one, if they have none yet."""
    referred = []
    for each in found:
        if (key := _address(each)) not in _hashes:
            cls = type(each)
            if cls.__weakrefoffset__:
                referred.append(each)
            else:
                _remember(each, cls, key)
    keys = list(map(_address, referred))
    references = list(map(_Reference, referred, repeat(_forget_reference)))
    for _ in map(setattr, references, repeat("key"), keys):
        pass
    _hashes.update(zip(keys, keys, strict=True))
    _references.update(zip(keys, references, strict=True))


_COLLECTIONS = frozenset(map(_address, (dict, set, frozenset)))
# Types of most keys.
_COMPARED = frozenset({str, int, bytes, float, tuple, bool, type(None)})


def _keep_address(member: object) -> None:
    try:
        key = hash(member)
    except Exception:
        return
    if key == _address(member) and key not in _hashes:
        _remember(member, type(member), key)


def _let_go() -> None:
    """Forget the stored hashes of objects without a number: they hash by address again."""
    tables: tuple[dict[int, Any], ...] = (_hashes, _references, _kept)
    for table in tables:
        left = {key: table[key] for key in _numbered if key in table}
        table.clear()
        table.update(left)


def _put_back() -> None:
    """Give back its own `__hash__` to each patched class of which no instance is left that has a number for a hash."""
    _release()
    _let_go()
    # By identity: metaclasses may forbid subclass checks, or compare oddly.
    left = {id(base) for reference in {*_numbered.values()} if (cls := reference()) for base in cls.__mro__}
    kept = []
    for reference, own in _changed:
        cls = reference()
        if cls is None:
            continue
        if id(cls) in left:
            kept.append((reference, own))
            continue
        with _open(cls):
            if own:
                type.__setattr__(cls, "__hash__", _address)
            else:
                type.__delattr__(cls, "__hash__")
            if vars(cls).get("__del__") is _forget:
                type.__delattr__(cls, "__del__")
    _changed[:] = kept
    if not _numbered:
        _undo_slots()


def _open(cls: type) -> contextlib.AbstractContextManager[None]:
    """Return a context manager in which attributes of a class can be set, even if it is immutable."""
    return static_types.mutable(cls) if static_types.is_immutable(cls) else contextlib.nullcontext()


@atexit.register
def _undo_slots() -> None:
    while _undo:
        _undo.pop()()
    _patched.clear()
