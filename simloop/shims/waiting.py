"""Blocking calls in virtual time, built from non-blocking calls of the kernel, which fail with EAGAIN. Files with
O_NONBLOCK do not block."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from simloop.kernel.ipc.pipes import End
from simloop.shims.patch import original

if TYPE_CHECKING:
    from simloop.kernel.descriptors import File
    from simloop.kernel.ipc.unseekable import Unseekable
    from simloop.world.world import World

T = TypeVar("T")

_real_sigtimedwait = original(signal, "sigtimedwait")


def wait(world: World, call: Callable[[], T], nonblocking: Callable[[], int], timeout: float | None = None) -> T:
    """Make a call, and repeat it in virtual time until it does not fail with EAGAIN; raise `TimeoutError` after
    `timeout` seconds. If ``nonblocking()`` is true, do not wait, but fail with EAGAIN."""
    results: list[T] = []
    errors: list[OSError] = []

    def done() -> bool:
        # A thread's is asked by the scheduler, which must not see what the call raises.
        if not results and not errors:
            try:
                results.append(call())
            except OSError as error:
                if isinstance(error, BlockingIOError) and not nonblocking():
                    return False
                errors.append(error)
        return True

    if not done() and not world.block(done, timeout):
        raise TimeoutError("timed out")
    if errors:
        raise errors.pop()
    return results[0]


def wait_for(world: World, file: Unseekable, call: Callable[[], T]) -> T:
    """Make the system call ``call()``, which acts on `file`, and return its result. If it cannot go on at once, block
    the calling process until it can; or raise `BlockingIOError`, if O_NONBLOCK is set in the file's flags."""
    return wait(world, call, lambda: file.flags & os.O_NONBLOCK)


def read_from(world: World, file: Unseekable, count: int) -> bytes:
    """Read from a non-seekable file, as read(2) does."""
    return wait_for(world, file, lambda: file.read(count))


def write_to(world: World, file: Unseekable, data: memoryview) -> int:
    """Write to a non-seekable file, as write(2). A blocking write to a pipe writes all of the data (pipe(7)), unless
    the reader closes the pipe meanwhile."""
    done = wait_for(world, file, lambda: file.write(data))
    while isinstance(file, End) and done < len(data) and not file.flags & os.O_NONBLOCK:
        try:
            done += wait_for(world, file, partial(file.write, data[done:]))
        except (BrokenPipeError, BlockingIOError):
            break
    return done


def _leave_eagain() -> None:
    """Set errno to EAGAIN, which buffered files report after a raw call has returned None (_set_BlockingIOError() in
    Modules/_io/bufferedio.c). It calls sigtimedwait(2) with no signals and no timeout, which fails so."""
    _real_sigtimedwait((), 0)


def read_unless_empty(world: World, file: Unseekable, size: int) -> bytes | None:
    """Read from a pipe or another non-seekable file, as the raw file `io.FileIO` does. Return None if it is empty and
    non-blocking."""
    try:
        return read_from(world, file, size)
    except BlockingIOError:
        _leave_eagain()
    return None


def write_unless_full(world: World, file: Unseekable, data: memoryview) -> int | None:
    """Write to a pipe or another non-seekable file, as the raw file `io.FileIO` does, and return the number of bytes
    written. Return None if it is full and non-blocking."""
    try:
        return write_to(world, file, data)
    except BlockingIOError:
        _leave_eagain()
    return None


def wait_for_partner(world: World, file: File) -> None:
    """Wait until the other end of a FIFO is opened too, as open(2) does (fifo(7))."""
    if not isinstance(file, End) or file.flags & os.O_NONBLOCK or file.has_partner():
        return
    try:
        world.block(file.has_partner)
    except BaseException:
        file.close()
        raise
