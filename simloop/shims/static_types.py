"""Assignment to attributes of types that are defined in C, so that the type remains the same object for all its users.

CPython refuses such assignments (``TypeError: cannot set 'now' attribute of immutable type``), and a subclass in its
place is another class: for C and Rust code that compares types, for metaclasses, for pickles. But attributes of the
type are looked up in an ordinary dictionary, to which ``__dict__`` gives only a read-only view. Only this module
changes that dictionary. It works on CPython 3.11, 3.12 and 3.13; `tests/shims/test_time.py` fails if it does not.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE
#: Flag of types that are allocated on the heap, not static data: Py_TPFLAGS_HEAPTYPE.
HEAP_TYPE = 1 << 9


#: Returns the read-only view of a type's attributes, even if its metaclass overrides ``__dict__``.
_view_of = type.__dict__["__dict__"].__get__


def is_immutable(owner: object) -> bool:
    """Return True for a type that refuses to have its attributes set."""
    return isinstance(owner, type) and bool(owner.__flags__ & _IMMUTABLE)


def namespace_of(owner: type) -> dict[str, Any]:
    """Return the dictionary of a type's attributes itself, not the read-only view of it."""
    return namespaces_of([owner])[0]


def namespaces_of(owners: list[type]) -> list[dict[str, Any]]:
    """Return the results of `namespace_of` for many types, in less time."""
    return gc.get_referents(*map(_view_of, owners))


def put(owner: type, name: str, value: Any) -> None:
    """Set the attribute `name` of the type `owner` to `value`, a descriptor like those in ``vars(owner)``."""
    # Here, since it takes milliseconds and is for those alone who enter a world.
    import ctypes

    namespace_of(owner)[name] = value
    # Types remember what was looked up in them and in their bases; so does the bytecode of the callers.
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))


# Offsets of tp_flags and tp_hash in a type object (PyTypeObject in Include/cpython/object.h).
_FLAGS_OFFSET = 168
_HASH_OFFSET = 120


def _flags_of(owner: type) -> Any:
    import ctypes

    return ctypes.c_ulong.from_address(id(owner) + _FLAGS_OFFSET)


def has_flags(owner: type) -> bool:
    """Return True if the flags of a type are at the memory position where `mutable` expects them."""
    found: bool = _flags_of(owner).value == owner.__flags__
    return found


@contextlib.contextmanager
def mutable(owner: type) -> Iterator[None]:
    """Context manager in which attributes of an immutable heap type can be set, together with the C slots that
    correspond to them, such as that of ``__next__``."""
    flags = _flags_of(owner)
    before = flags.value & _IMMUTABLE
    flags.value &= ~_IMMUTABLE
    try:
        yield
    finally:
        flags.value |= before


def put_method(owner: type, name: str, value: Any) -> None:
    """Set a method of an immutable heap type."""
    with mutable(owner):
        setattr(owner, name, value)


#: C callbacks that are in slots of types, by their function. Never freed, since later C types inherit slots.
_callbacks: dict[Callable[[Any], int], Any] = {}


def put_hash(owner: type, function: Callable[[Any], int]) -> Callable[[], None]:
    """Make instances of a static type hash by `function`, which must not raise. Subclasses, which have slots of their
    own, are not affected. Return a function that undoes this, which must be called before the interpreter ends."""
    import ctypes

    callback = _callbacks.get(function)
    if callback is None:
        callback = _callbacks[function] = ctypes.PYFUNCTYPE(ctypes.c_ssize_t, ctypes.py_object)(function)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(callback))
    # Not through the dictionary: for types that are static data the slot does not follow it.
    slot = ctypes.c_void_p.from_address(id(owner) + _HASH_OFFSET)
    before = slot.value
    slot.value = ctypes.cast(callback, ctypes.c_void_p).value

    def undo() -> None:
        slot.value = before

    return undo
