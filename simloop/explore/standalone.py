"""Stock asyncio with scripted arrivals: sockets are real ones, on loopback; but what each poll sees of them, which
tasks are cancelled from outside, and what the loop's clock says, is written down below.
"""

import array
import asyncio
import collections
import fcntl
import selectors
import sys
import termios
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

# Real seconds to wait for what the script says has come, and for anything at all once the script is at its end.
PATIENCE = 5.0
QUIET = 0.2
# What the clock says at first, in nanoseconds.
START = 10**12
# Nanoseconds that a look at the clock takes.
LOOK = 1000


class DeadlockError(Exception):
    """Raised when the program waits for something that will never happen."""


class ScriptedSelector(selectors.DefaultSelector):
    """Selector that returns the events listed in the script, poll by poll, each as soon as it has really happened."""

    def __init__(self, polls: list[Any]) -> None:
        super().__init__()
        # The rest of the script: for each poll the time in nanoseconds; where something comes, also (socket, events,
        # size) of what it sees, and the numbers of the tasks that are cancelled then. Sockets have numbers in the order
        # in which they were registered, tasks in that in which they were created, from 1.
        self.polls = collections.deque(polls)
        self.numbers: dict[int, int] = {}
        self.registered = 0
        # The bytes that one read takes, or the connections that one listener accepts, by descriptor.
        self.sizes: dict[int, int] = {}
        self.cancelled: list[int] = []
        self.now = START

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        self.numbers[key.fd] = self.registered
        self.registered += 1
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self.numbers.pop(key.fd, None)
        return key

    def select(self, timeout: float | None = None) -> list[Any]:
        self.sizes, self.cancelled = {}, []
        if not self.polls:
            return self.unscripted(timeout)
        poll = self.polls.popleft()
        now, events, self.cancelled = poll if isinstance(poll, tuple) else (poll, [], [])
        self.now = START + now
        return [self.wait_for(*event) for event in events]

    def wait_for(self, number: int, mask: int, size: int) -> Any:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for key, ready in super().select(0.01):
                if self.numbers[key.fd] == number and ready & mask == mask and readable(key.fd) >= size:
                    self.sizes[key.fd] = size
                    return key, mask
        raise RuntimeError(f"the program has gone another way: nothing came on socket {number} in real time")

    def unscripted(self, timeout: float | None) -> list[Any]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        found = super().select(QUIET)
        if not found and timeout is None:
            raise DeadlockError("nothing can happen any more")
        if not found and timeout is not None:
            self.now += int(timeout * 1e9)
        return found


def readable(fd: int) -> int:
    """Return the number of bytes that can be read from a descriptor."""
    size = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.FIONREAD, size)
    except OSError:  # it listens
        return sys.maxsize
    return size[0]


class Listener:
    """Listening socket that accepts a given number of connections."""

    def __init__(self, sock: Any, left: int) -> None:
        self.sock = sock
        self.left = left

    def accept(self) -> Any:
        if not self.left:
            raise BlockingIOError
        self.left -= 1
        return self.sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


TURN = asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]


class ScriptedLoop(asyncio.SelectorEventLoop):
    """Event loop of stock asyncio over a scripted selector, which also gives it its time."""

    def __init__(self, polls: list[Any]) -> None:
        selector = ScriptedSelector(polls)
        super().__init__(selector)
        # What wakes the loop from other threads is no socket of the script.
        selector.numbers.clear()
        selector.registered = 0
        self.selector = selector
        self.created: list[Any] = []

    def time(self) -> float:
        if sys._getframe(1).f_code is not TURN:
            self.selector.now += LOOK
        return self.selector.now / 1e9

    def create_task(self, *args: Any, **kwargs: Any) -> Any:
        task = super().create_task(*args, **kwargs)
        self.created.append(weakref.ref(task))
        return task

    def _process_events(self, events: list[Any]) -> None:
        for key, mask in events:
            reader = key.data[0]
            transport: Any = getattr(getattr(reader, "_callback", None), "__self__", None)
            if mask & selectors.EVENT_READ and hasattr(transport, "max_size"):
                transport.max_size = self.selector.sizes.get(key.fd) or transport.max_size
        super()._process_events(events)  # type: ignore[misc]
        for number in self.selector.cancelled:
            self.call_soon(self.created[number - 1]().cancel)

    def _accept_connection(self, protocol_factory: Any, sock: Any, *args: Any, **kwargs: Any) -> None:
        listener = Listener(sock, self.selector.sizes.get(sock.fileno(), 100))
        super()._accept_connection(protocol_factory, listener, *args, **kwargs)  # type: ignore[misc]


def run(test: Callable[[], Coroutine[Any, Any, Any]], polls: list[Any]) -> None:
    """Run a test as `asyncio.run` does, with the events that the script lists in `polls`."""
    loop = ScriptedLoop(polls)

    async def main() -> None:
        try:
            await test()
        finally:
            loop.selector.polls.clear()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
