"""The table of kernels: each is a program with a race, its mended version, and where the race comes from."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

Main = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Kernel:
    """A race: `wrong` and `mended` pass when nothing unusual happens, and `wrong` alone may fail."""

    name: str
    #: What the environment must do: ``network``, ``cancel``, ``thread``, or ``timer``.
    by: str
    source: str
    wrong: Main
    mended: Main
    #: Options of `simloop.explore`.
    options: dict[str, Any] = field(default_factory=dict)


KERNELS: list[Kernel] = []


def kernel(by: str, source: str) -> Callable[[Callable[[bool], Main]], Callable[[bool], Main]]:
    """Return a decorator for ``make(mended)``, which adds both programs that it makes to `KERNELS`."""

    def add(make: Callable[[bool], Main]) -> Callable[[bool], Main]:
        wrong, mended = make(False), make(True)
        wrong.__qualname__ = make.__name__
        mended.__qualname__ = f"{make.__name__}, mended"
        options = {"cancel": True} if by == "cancel" else {}
        KERNELS.append(Kernel(make.__name__, by, source, wrong, mended, options))
        return make

    return add


def named(parts: Sequence[str]) -> list[Kernel]:
    """Return the kernels whose names have one of these parts; all of them without any."""
    return [kernel for kernel in KERNELS if not parts or any(part in kernel.name for part in parts)]
