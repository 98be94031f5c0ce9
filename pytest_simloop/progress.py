"""Progress line on the terminal: how far the campaign of a test is. Nothing is written if the output is no terminal, or
in a worker of pytest-xdist."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_simloop.internals import rewrite_line

if TYPE_CHECKING:
    from pytest_simloop.simulated import Simulated
    from simloop.explore.progress import Progress


@contextlib.contextmanager
def shown(item: Simulated) -> Iterator[Progress | None]:
    """Context manager that returns the reporter of a campaign's progress, which writes a line on the terminal that is
    erased at the end; None if there is no terminal to write on."""
    reporter = item.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty:
        yield None
        return
    from simloop.explore.progress import Progress

    told = False

    def tell(line: str) -> None:
        nonlocal told
        # The first one comes after results that are there already.
        rewrite_line(item.config, f"{item.nodeid}: {line}", new=not told)
        told = True

    try:
        yield Progress(tell)
    finally:
        if told:
            rewrite_line(item.config, "")
