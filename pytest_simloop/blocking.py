"""Section of pytest's summary about blocking calls, with one row for each line of code that has stopped an event loop
in any test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

_NAME = "simloop-blocking"
# The key of the rows in what a worker of pytest-xdist sends at its end.
_OUTPUT = "simloop_blocking"
ROWS_MAX = 20


class Calls:
    """Statistics of the blocking calls of one line of code, in all runs of the session."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_ns = 0
        self.tests: set[str] = set()


class BlockingCalls:
    """Pytest plugin that counts the blocking calls of simulated tests and lists them at the end of the session. They
    are not reported as warnings, since warning filters could turn these into failures. With pytest-xdist, workers send
    their counts to the controller. It is registered once there is a call to count."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lines: dict[tuple[str, int], Calls] = {}

    @classmethod
    def of(cls, config: pytest.Config) -> BlockingCalls:
        """Return the plugin of this session, which is registered if it is not yet."""
        plugin: BlockingCalls | None = config.pluginmanager.get_plugin(_NAME)
        if plugin is None:
            plugin = cls(config)
            config.pluginmanager.register(plugin, _NAME)
        return plugin

    def add(self, file: str, line: int, count: int, longest_ns: int, tests: Iterable[str]) -> None:
        calls = self._lines.setdefault((file, line), Calls())
        calls.count += count
        calls.longest_ns = max(calls.longest_ns, longest_ns)
        calls.tests.update(tests)

    def pytest_sessionfinish(self) -> None:
        output = getattr(self._config, "workeroutput", None)
        if output is not None and self._lines:
            output[_OUTPUT] = [
                (file, line, calls.count, calls.longest_ns, sorted(calls.tests))
                for (file, line), calls in self._lines.items()
            ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._lines:
            return
        from simloop.kernel.clock import SECOND
        from simloop.sources import shown_path

        write = terminalreporter.write_line
        terminalreporter.write_sep("=", "blocking calls in coroutines (simloop)")
        rows = sorted(self._lines.items(), key=lambda row: (-row[1].count, row[0]))
        for (file, line), calls in rows[:ROWS_MAX]:
            times = f"{calls.count} call{'s' * (calls.count != 1)}"
            tests = next(iter(calls.tests)) if len(calls.tests) == 1 else f"{len(calls.tests)} tests"
            write(f"{shown_path(file)}:{line}: {times}, the longest {calls.longest_ns / SECOND:.3g} s, in {tests}")
        if len(rows) > ROWS_MAX:
            write(f"and {len(rows) - ROWS_MAX} more lines")
        write(
            "Each has stopped its loop, in all runs together: await something instead, or run it in an executor. "
            "--sim-blocking=fail makes it an error, ignore leaves it unsaid."
        )


def add_rows(node: Any) -> None:
    """Add the blocking calls that a worker of pytest-xdist has counted."""
    for row in getattr(node, "workeroutput", {}).get(_OUTPUT, ()):
        BlockingCalls.of(node.config).add(*row)
