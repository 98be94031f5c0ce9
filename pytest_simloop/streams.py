"""Standard streams of a session as they were before pytest captured them. Pytest writes its own output to copies of
them, also while a test runs (`capfd.disabled`, breakpoints); such writes are not simulated."""

from __future__ import annotations

import posix
from collections.abc import Iterator, Sequence

import pytest

from pytest_simloop import internals

_STREAMS = pytest.StashKey[Sequence[tuple[int, int]]]()


def note_streams(config: pytest.Config) -> None:
    """Record to which files the standard streams are connected, or were before pytest began to capture output."""
    config.stash[_STREAMS] = tuple(_identities([0, 1, 2, *internals.captured_streams(config)]))


def exempt_streams(config: pytest.Config) -> None:
    """Allow simulated tests to write to the real files behind the standard streams that `note_streams` has recorded,
    through any copy of their descriptors."""
    from simloop.shims.opened import exempt

    streams = config.stash[_STREAMS]
    exempt.update(streams)


def _identities(descriptors: list[int]) -> Iterator[tuple[int, int]]:
    for fd in descriptors:
        try:
            found = posix.fstat(fd)
        except OSError:
            continue  # it is closed
        yield found.st_dev, found.st_ino
