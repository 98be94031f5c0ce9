"""Shims of `select.select`, `select.poll` and `select.epoll`, and so of `selectors`, over simulated descriptors.

They are for code that polls its sockets itself: a client that checks if a pooled connection has been closed, a blocking
server. An event loop of asyncio in the world uses `kernel.epoll` instead.
"""

from __future__ import annotations

import errno
import select as _select
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from simloop.kernel.descriptors import ERR, FIRST_FD, HUP, IN, OUT
from simloop.kernel.errors import fail
from simloop.shims.late import real
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

_real = real(__name__, _select)
_INVALID = 0x20  # POLLNVAL
_RDHUP = 0x2000  # POLLRDHUP
_DEFAULT = _select.POLLIN | _select.POLLPRI | _select.POLLOUT
_LEVEL = 0x27FF  # the events proper of epoll; the rest, such as EPOLLET, changes how they are told


def _descriptor(fileobj: Any) -> int:
    fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
    if not isinstance(fd, int):
        raise TypeError("argument must be an int, or have a fileno() method.")
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return fd


def _mask(world: World, fd: int) -> int:
    file = world.current.files.get(fd)
    if file is not None:
        return file.mask() | (_RDHUP if file.hung_up else 0)
    if fd < FIRST_FD:
        raise active.escape(f"waiting for the real descriptor {fd}", "open the file or socket inside the run")
    return _INVALID


class SimPoll:
    """Polling object that `select.poll()` returns inside a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        # In order of registration, which is the order in which poll(2) reports.
        self._wanted: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = _DEFAULT) -> None:
        self._wanted[_descriptor(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int) -> None:
        number = _descriptor(fd)
        if number not in self._wanted:
            raise fail(errno.ENOENT)
        self._wanted[number] = eventmask

    def unregister(self, fd: Any) -> None:
        del self._wanted[_descriptor(fd)]

    def _ready(self) -> list[tuple[int, int]]:
        masks = ((fd, _mask(self._world, fd) & (wanted | ERR | HUP | _INVALID)) for fd, wanted in self._wanted.items())
        return [(fd, mask) for fd, mask in masks if mask]

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Wait for events, as poll(2). `timeout` is in milliseconds, and a negative one means no timeout."""
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        self._world.block(lambda: bool(self._ready()), seconds)
        return self._ready()


class SimEpoll(SimPoll):
    """Level-triggered epoll object that `select.epoll()` returns inside a world."""

    closed = False

    def register(self, fd: Any, eventmask: int = _DEFAULT) -> None:
        if eventmask & ~_LEVEL:
            raise active.escape("an edge-triggered epoll", "register the descriptor level-triggered")
        number = _descriptor(fd)
        if number in self._wanted:
            raise fail(errno.EEXIST)
        if _mask(self._world, number) == _INVALID:
            raise fail(errno.EBADF)
        self._wanted[number] = eventmask

    def unregister(self, fd: Any) -> None:
        if self._wanted.pop(_descriptor(fd), None) is None:
            raise fail(errno.ENOENT)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Wait for events, as epoll_wait(2), except that `timeout` is in seconds."""
        found = super().poll(None if timeout is None else timeout * 1000)
        return found if maxevents < 0 else found[:maxevents]

    def close(self) -> None:
        self.closed = True

    def fileno(self) -> int:
        raise active.escape("the descriptor of an epoll", "poll it by its own method")

    def __enter__(self) -> SimEpoll:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def poll() -> Any:
    world = active.world()
    return _real["poll"]() if world is None else SimPoll(world)


def epoll(sizehint: int = -1, flags: int = 0) -> Any:
    world = active.world()
    return _real["epoll"](sizehint, flags) if world is None else SimEpoll(world)


def select(
    rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    world = active.world()
    if world is None:
        found: tuple[list[Any], list[Any], list[Any]] = _real["select"](rlist, wlist, xlist, timeout)
        return found
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    readers = [(item, _descriptor(item)) for item in rlist]
    writers = [(item, _descriptor(item)) for item in wlist]
    others = [_descriptor(item) for item in xlist]

    def ready(wanted: list[tuple[Any, int]], mask: int) -> list[Any]:
        return [item for item, fd in wanted if _mask(world, fd) & mask]

    for fd in [fd for _, fd in readers + writers] + others:
        if _mask(world, fd) == _INVALID:
            raise fail(errno.EBADF)
    world.block(lambda: bool(ready(readers, IN | HUP | ERR) or ready(writers, OUT | ERR)), timeout)
    # Nothing has urgent data.
    return ready(readers, IN | HUP | ERR), ready(writers, OUT | ERR), []


REPLACEMENTS: list[tuple[object, str, object]] = [(_select, name, globals()[name]) for name in _real]
