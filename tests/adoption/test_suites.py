"""Suites of other projects come to the same verdicts with `--sim` added; what differs is listed, with the reason.

Their sources are pinned in `sources.txt`, what they need in `requirements.txt`.
"""

from __future__ import annotations

import os

import driver
import pytest
from driver import Difference, Suite

SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")  # else pytest-asyncio warns, which is an error there
REFUSED = r"All connection attempts failed"
SERVER = "its fixture starts a real server, for the session"

SUITES = (
    Suite("aiofiles", ("asyncio",)),
    # Its pytest.ini is not part of the distribution.
    Suite(
        "aiojobs",
        ("asyncio", "aiohttp"),
        ("-o", "asyncio_mode=auto"),
        (
            Difference(
                r"tests\.test_scheduler::test_exception_non_waited_job",
                r"assert 1 == 0",
                "a true finding, of 30 runs: it gives a job 50 ms to fail, which one slow step uses up",
                always=False,
            ),
        ),
    ),
    Suite("aiolimiter", ("asyncio", "pytest_cov")),
    Suite("aiostream", ("asyncio", "pytest_cov")),
    Suite("async-lru", ("asyncio", "pytest_cov", "timeout"), SCOPE),
    Suite("async-timeout", ("asyncio", "pytest_cov")),
    Suite(
        "httpx",
        ("anyio",),
        differences=(
            Difference(r"tests\.test_timeouts::test_\w+\[asyncio.*\]", REFUSED, SERVER),
        ),
    ),
    Suite(
        "janus",
        ("asyncio", "benchmark", "pytest_cov"),
        differences=(
            Difference(
                r"tests\.test_async\.TestQueueGetTests::test_get_cancelled",
                r"TimeoutError",
                "a true finding, of 30 runs: an item comes 41 ms before the timeout, which one slow step uses up",
                always=False,
            ),
        ),
    ),
    Suite("starlette", ("anyio",)),
    Suite("tenacity"),
)  # fmt: skip

#: Runs of each test under `--sim`.
RUNS = int(os.environ.get("SIMLOOP_ADOPTION_RUNS", "1"))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.project)
def test_same_verdicts(suite: Suite) -> None:
    stock, simulated, wrong = driver.compare(suite, runs=RUNS)
    assert not wrong, f"{len(wrong)} of {len(stock.verdicts)}:\n" + "\n".join(wrong)
    assert stock.verdicts
    assert simulated.simulated
