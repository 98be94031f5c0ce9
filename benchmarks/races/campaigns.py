"""Runs one test's campaign once for each seed, in this process, and writes down what came of them.

Started by measure.py with the interpreter of the environment that has the library in question.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from simloop.explore.campaign import Campaign
from simloop.explore.result import Report

# Where simloop keeps failures, to try them first the next time. Here, each campaign is to find its own.
KEPT = Path(__file__).resolve().parent / ".simloop"


@dataclass
class Result:
    """One campaign; `runs` is 0 when nothing was found."""

    seed: int
    runs: int = 0
    deviations: int = 0
    strategy: str = ""
    token: str = ""
    seconds: float = 0.0


class Problems:
    """A pytest plugin that takes down how a test failed."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.texts.append(report.longreprtext)


_reports: list[Report] = []
_explore = Campaign.explore


def _explore_and_record(campaign: Campaign) -> Report:
    _reports.append(campaign.report)
    return _explore(campaign)


def run_campaign(test: str, seed: int, runs: int) -> Result:
    _reports.clear()
    shutil.rmtree(KEPT, ignore_errors=True)
    problems = Problems()
    began = time.perf_counter()
    pytest.main(["-q", "--sim", f"--sim-runs={runs}", f"--sim-seed={seed}", test], plugins=[problems])
    result = Result(seed, seconds=time.perf_counter() - began)
    failure = _reports[0].failure if _reports else None
    if failure is not None:
        result.runs = failure.run_number
        result.deviations = len(failure.schedule.deviations)
        result.strategy = failure.strategy
        result.token = failure.token
    elif problems.texts or len(_reports) != 1:
        raise SystemExit(f"seed {seed}: no campaign, or one that did not come to its end\n{''.join(problems.texts)}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("test")
    parser.add_argument("results", type=Path)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    options = parser.parse_args()
    Campaign.explore = _explore_and_record  # type: ignore[method-assign, assignment]
    results = [run_campaign(options.test, seed, options.runs) for seed in options.seeds]
    options.results.write_text(json.dumps([asdict(result) for result in results]))


if __name__ == "__main__":
    main()
