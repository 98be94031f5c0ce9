"""Calls that wait, on what the kernel refuses with EAGAIN: in virtual time, and as long as the flags allow it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from simloop.kernel.pipes import End
from simloop.kernel.process import File
from simloop.kernel.unseekable import Unseekable
from simloop.network.world import World

T = TypeVar("T")


def wait(world: World, call: Callable[[], T], nonblocking: Callable[[], int]) -> T:
    """Make a call, now or when it need not wait. ``nonblocking()`` says whether it may not wait at all."""
    results: list[T] = []

    def done() -> bool:
        if not results:
            try:
                results.append(call())
            except BlockingIOError:
                if nonblocking():
                    raise
                return False
        return True

    if not done():
        world.block(done)
    return results[0]


def wait_for(world: World, file: Unseekable, call: Callable[[], T]) -> T:
    """`wait`, as the flags of `file` want it."""
    return wait(world, call, lambda: file.flags & os.O_NONBLOCK)


def read_from(world: World, file: Unseekable, count: int) -> bytes:
    """read(2)."""
    return wait_for(world, file, lambda: file.read(count))


def write_to(world: World, file: Unseekable, data: memoryview) -> int:
    """write(2): into a pipe a blocking one writes all of it (pipe(7)), unless the reader leaves in the middle."""
    done = wait_for(world, file, lambda: file.write(data))
    while isinstance(file, End) and done < len(data) and not file.flags & os.O_NONBLOCK:
        try:
            done += wait_for(world, file, partial(file.write, data[done:]))
        except (BrokenPipeError, BlockingIOError):
            break
    return done


def wait_for_partner(world: World, file: File) -> None:
    """open(2) of a fifo "blocks until the other end is also opened" (fifo(7))."""
    if not isinstance(file, End) or file.flags & os.O_NONBLOCK or file.has_met():
        return
    try:
        world.block(file.has_met)
    except BaseException:
        file.close()
        raise
