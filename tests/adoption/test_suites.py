"""Suites of other projects come to the same verdicts with `--sim` added; what differs is listed, with the reason.

Their sources are pinned in `sources.txt`, what they need in `requirements.txt`.
"""

from __future__ import annotations

import os

import driver
import pytest
from driver import Difference, Suite

SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")  # else pytest-asyncio warns, which is an error there
THREAD = r"a thread of its own is outside of the simulation"
# Its fixture starts a real server, for the session.
REFUSED = r"All connection attempts failed"
THREADS = "threads that a program starts itself are not simulated without threads=True"

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
            Difference(r"tests\.client\.test_async_client::test_\w+\[asyncio.*\]", THREAD, THREADS),
            Difference(r"tests\.test_timeouts::test_\w+\[asyncio.*\]", f"{THREAD}|{REFUSED}", THREADS),
        ),
    ),
    Suite(
        "janus",
        ("asyncio", "benchmark", "pytest_cov"),
        differences=(
            Difference(r"tests\.test_sync\.\w+::test_(failing|simple)?_?queue(_join)?", THREAD, THREADS),
            Difference(
                r"tests\.test_async\.TestQueueGetTests::test_get_cancelled",
                r"TimeoutError",
                "a true finding, of 30 runs: an item comes 41 ms before the timeout, which one slow step uses up",
                always=False,
            ),
        ),
    ),
    Suite(
        "starlette",
        ("anyio",),
        differences=(
            Difference(r"tests\.[\w.]+::test_\w+(\[asyncio.*\])?", THREAD, THREADS),
            Difference(
                r"tests\..*",
                r"ResourceWarning: Unclosed file",
                "a test that fails for the other reason leaves a file behind, which the collector finds in a later one",
                always=False,
            ),
        ),
    ),
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
