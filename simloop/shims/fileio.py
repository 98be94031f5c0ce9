"""Shim of `io.FileIO`: a class that can be called, derived from and used with `isinstance`."""

from __future__ import annotations

import _io
import io
from typing import Any

from simloop.shims import late
from simloop.world import active

real_FileIO = io.FileIO
#: Classes whose instances count as instances of `io.FileIO` in `isinstance`.
_kinds: tuple[type, ...] = (real_FileIO,)


class _FileIOType(type(real_FileIO)):  # type: ignore[misc]
    """Metaclass that makes ``FileIO(...)`` return a simulated file inside a world and a real one outside."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any) -> Any:
        global _kinds
        if bases == (real_FileIO,):
            return super().__new__(mcls, name, bases, namespace)
        subclassed = late.load("simloop.shims.io").SubclassedFileIO
        _kinds = (real_FileIO, subclassed)
        made_of = tuple(subclassed if base is FileIO else base for base in bases)
        return type(name, made_of, namespace, **keywords)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if active.world() is None:
            return real_FileIO(*args, **kwargs)
        return late.load("simloop.shims.io").open_raw(*args, **kwargs)

    def __setattr__(cls, name: str, value: Any) -> None:
        raise TypeError(f"cannot set {name!r} attribute of immutable type '_io.FileIO'")

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _kinds)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _kinds)


class FileIO(real_FileIO, metaclass=_FileIOType):
    """Replacement of the class `io.FileIO` while shims are installed."""

    __module__ = "_io"


REPLACEMENTS: list[tuple[object, str, object]] = [(module, "FileIO", FileIO) for module in (io, _io)]
