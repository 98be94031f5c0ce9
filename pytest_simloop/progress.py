"""Progress line on the terminal: how far the campaign of a test is. Nothing is written where there is no terminal: into
a file, or in a worker of pytest-xdist."""

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
    """Context manager that shows the progress of the item's campaign, in a line that is removed at its end."""
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
