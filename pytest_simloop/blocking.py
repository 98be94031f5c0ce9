"""Section of pytest's summary about blocking calls, with one row for each line of code that has stopped an event loop
in any test."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import pytest

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
    their counts to the controller."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lines: dict[tuple[str, int], Calls] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if not getattr(item, "simulated", False):
            return (yield)
        from simloop.simulation import blocking

        def heard(file: str, line: int, took_ns: int) -> None:
            self._add(file, line, 1, took_ns, [item.nodeid])

        previous, blocking.listener = blocking.listener, heard
        try:
            return (yield)
        finally:
            blocking.listener = previous

    def _add(self, file: str, line: int, count: int, longest_ns: int, tests: Iterable[str]) -> None:
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

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for row in getattr(node, "workeroutput", {}).get(_OUTPUT, ()):
            self._add(*row)

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
