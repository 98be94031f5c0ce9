"""The selector: level-triggered, over files of one process, in an order that a choice may change."""

from __future__ import annotations

import errno
from selectors import EVENT_READ, EVENT_WRITE

import pytest
from fakes import answering

from simloop.choices.choices import Choices
from simloop.errors import EscapedSimulationError
from simloop.kernel.descriptors import FIRST_FD, HUP, IN, OUT, File
from simloop.kernel.epoll import SimSelector
from simloop.kernel.process.pids import PidTable
from simloop.kernel.process.process import Process
from simloop.kernel.scheduler import Scheduler


class Readiness(File):
    """A file that is as ready as the test says."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.now = 0

    def __str__(self) -> str:
        return self.name

    def mask(self) -> int:
        return self.now

    def close(self) -> None:
        pass

    def become(self, mask: int) -> None:
        self.now = mask
        self.changed()


def made(choices: Choices | None = None, count: int = 3) -> tuple[SimSelector, list[Readiness], list[int]]:
    process = Process(None, PidTable(), 1, "test")  # type: ignore[arg-type]
    files = [Readiness(name) for name in "abc"[:count]]
    return SimSelector(Scheduler(choices or Choices()), process), files, [process.open(file) for file in files]


def ready(selector: SimSelector) -> list[tuple[int, int]]:
    return [(key.fd - FIRST_FD, events) for key, events in selector.select(0)]


def test_what_is_ready_stays_ready_until_it_is_not() -> None:
    selector, (file, *_), (fd, *_) = made()
    selector.register(fd, EVENT_READ)
    assert ready(selector) == []
    file.become(IN | OUT)
    assert ready(selector) == ready(selector) == [(0, EVENT_READ)]
    file.become(OUT)
    assert ready(selector) == []


def test_a_hang_up_is_readable_and_writable() -> None:
    selector, (file, *_), (fd, *_) = made()
    selector.register(fd, EVENT_READ | EVENT_WRITE)
    file.become(HUP)
    assert ready(selector) == [(0, EVENT_READ | EVENT_WRITE)]
    selector.modify(fd, EVENT_WRITE)
    assert ready(selector) == [(0, EVENT_WRITE)]


def test_files_are_reported_in_the_order_in_which_they_became_ready_unless_a_choice_differs() -> None:
    def order(choices: Choices) -> list[int]:
        selector, files, fds = made(choices)
        for fd in fds:
            selector.register(fd, EVENT_READ)
        for file in reversed(files):
            file.become(IN)
        return [fd for fd, _ in ready(selector)]

    assert order(Choices()) == [2, 1, 0]
    assert order(answering(poll_order=1)) != [2, 1, 0]


def test_what_was_ready_before_it_was_registered_is_seen_and_what_is_unregistered_is_not() -> None:
    selector, (file, *_), (fd, *_) = made()
    file.become(IN)
    selector.register(fd, EVENT_READ, "data")
    assert selector.has_ready()
    assert selector.unregister(fd).data == "data"
    assert not selector.has_ready()
    assert ready(selector) == []


def test_what_cannot_be_watched_is_refused() -> None:
    selector, (file, *_), (fd, *_) = made()
    with pytest.raises(EscapedSimulationError, match="file descriptor 7"):
        selector.register(7, EVENT_READ)
    with pytest.raises(ValueError, match="Invalid events"):
        selector.register(fd, 0)
    file.pollable = False
    with pytest.raises(OSError) as caught:  # noqa: PT011  the errno is what counts
        selector.register(fd, EVENT_READ)
    assert caught.value.errno == errno.EPERM
    with pytest.raises(KeyError):
        selector.unregister(fd)


def test_the_map_of_a_selector_takes_objects_and_descriptors() -> None:
    """As anyio asks it: ``loop.add_reader(sock)`` after ``loop.add_writer(sock)``."""
    selector, _, fds = made()

    class Object:
        def fileno(self) -> int:
            return fds[0]

    sock = Object()
    key = selector.register(sock, EVENT_WRITE)
    found = selector.get_map()
    assert found.get(sock) is found.get(fds[0]) is found[sock] is found[fds[0]] is key
    assert found.get(fds[1]) is None
    with pytest.raises(KeyError):
        found[fds[1]]
