"""Runs one module of CPython's own tests, method by method, and prints a verdict for each.

A program of its own, so that a test that hangs, or that leaves something behind, spoils nothing else:

    python tests/conformance/verdicts.py stock|simulated|list MODULE [--patience SECONDS] [METHOD ...]

It prints one JSON object per line: ``{"id": ..., "verdict": ..., "detail": ...}``, and before each method
``{"begins": ...}``, by which the caller knows what hung. ``list`` prints the names alone.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import importlib
import json
import signal
import sys
import unittest
from collections.abc import Iterator
from typing import Any

import players
from test import support

import simloop

# From least to most: a method with several (of its subtests, its clean-ups) has the last of them.
VERDICTS = ("pass", "skip", "fail", "error")


class Recorder(unittest.TestResult):
    """Keeps the worst verdict of one method and what it said."""

    def __init__(self) -> None:
        super().__init__()
        self.verdict = "pass"
        self.detail = ""

    def note(self, verdict: str, detail: str) -> None:
        if VERDICTS.index(verdict) > VERDICTS.index(self.verdict):
            self.verdict, self.detail = verdict, detail

    def addError(self, test: Any, err: Any) -> None:
        self.note("error", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addFailure(self, test: Any, err: Any) -> None:
        self.note("fail", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            kind = "fail" if issubclass(err[0], test.failureException) else "error"
            self.note(kind, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSkip(self, test: Any, reason: str) -> None:
        self.note("skip", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        pass

    def addUnexpectedSuccess(self, test: Any) -> None:
        self.note("fail", "it succeeded, but was expected to fail")


def without_debug() -> None:
    """`IsolatedAsyncioTestCase` runs its loop in debug mode, which has ways of its own through the loop: here
    it is to take those that production takes, on both loops."""
    setup = unittest.IsolatedAsyncioTestCase._setupAsyncioRunner  # type: ignore[attr-defined]

    def set_up(self: Any) -> None:
        setup(self)
        self._asyncioRunner._debug = None

    unittest.IsolatedAsyncioTestCase._setupAsyncioRunner = set_up  # type: ignore[attr-defined]


def methods(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            yield from methods(entry)
        else:
            yield entry


def identifier(test: unittest.TestCase, module: str) -> str:
    """``test_tasks.CTask_CFuture_Tests.test_wait``, without the package's name."""
    return test.id().removeprefix(module.rpartition(".")[0] + ".")


def judge(test: unittest.TestCase, simulated: bool) -> tuple[str, str]:
    """The verdict on one method, with the fixtures of its module and class around it."""
    recorder = Recorder()
    suite = unittest.TestSuite([test])
    try:
        if simulated:
            with simloop.world(blocking="ignore", max_hang=1000) as sim:
                players.register(sim)
                suite.run(recorder)
        else:
            suite.run(recorder)
    except (Exception, KeyboardInterrupt) as error:  # what a world says at its end, or what unittest lets through
        recorder.verdict = "error"
        recorder.detail = f"{type(error).__name__}: {error}\n(at the end of the world)\n{recorder.detail}"
    return recorder.verdict, recorder.detail


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("stock", "simulated", "list"))
    parser.add_argument("module")
    parser.add_argument("method", nargs="*")
    parser.add_argument("--patience", type=float, default=60.0, help="real seconds after which a method hangs")
    options = parser.parse_args()
    out = sys.stdout
    # A shell starts what runs in the background with SIGINT ignored, and some of the tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    without_debug()
    # As `python -m test` has it: nothing that takes gigabytes, minutes or the internet.
    support.use_resources = []
    # Tests print, too.
    with contextlib.redirect_stdout(sys.stderr):
        module = importlib.import_module(options.module)
        known = 0
        for test in methods(unittest.TestLoader().loadTestsFromModule(module)):
            name = identifier(test, options.module)
            if options.method and name not in options.method:
                continue
            if options.mode == "list":
                print(name, file=out)
                continue
            if len(sys.modules) > known:
                # Half of asyncio's own tests collect garbage: what was imported needs no search each time.
                known = len(sys.modules)
                gc.collect()
                gc.freeze()
            print(json.dumps({"begins": name}), file=out, flush=True)
            # A watchdog of the interpreter's, in C: neither a signal nor a Python thread, which tests count.
            faulthandler.dump_traceback_later(options.patience, exit=True)
            if "warning" in name:
                # It collects garbage and counts what that says: of its own, not of the methods before it.
                gc.collect()
            verdict, detail = judge(test, options.mode == "simulated")
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps({"id": name, "verdict": verdict, "detail": detail}), file=out, flush=True)


if __name__ == "__main__":
    main()
