"""Standard streams of a session as they were before pytest captured them. It writes its own output to copies of these,
also while a test runs (`capfd.disabled`, breakpoints), and such output is as real as pytest is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from pytest_simloop import internals

_STREAMS = pytest.StashKey[Sequence[tuple[int, int]]]()


def note_streams(config: pytest.Config) -> None:
    """Record which files the standard streams are, or were before pytest began to capture."""
    config.stash[_STREAMS] = tuple(_identities([0, 1, 2, *internals.captured_streams(config)]))


def exempt_streams(config: pytest.Config) -> None:
    """Let simulated tests write to the files that were recorded, through whatever copy of their descriptors."""
    from simloop.shims.opened import exempt

    streams = config.stash[_STREAMS]
    exempt.update(streams)


def _identities(descriptors: list[int]) -> Iterator[tuple[int, int]]:
    for fd in descriptors:
        try:
            found = os.fstat(fd)
        except OSError:
            continue  # it is closed
        yield found.st_dev, found.st_ino
