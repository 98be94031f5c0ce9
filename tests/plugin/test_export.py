"""Exported scripts: they show a failure on stock asyncio, without simloop, by the same arrivals."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from simloop.choices.choices import Choices
from simloop.explore import standalone
from simloop.loop.stock_loop import Arrivals
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

pytestmark = pytest.mark.usefixtures("confirming")

TESTS = """
import asyncio
import pytest
import simloop
from helpers import answer

PORT = 8123
unused = pytest.raises

class Pool:
    def __init__(self):
        self.free = [1]

    async def get(self):
        while not self.free:
            await asyncio.sleep(0.1)
        return self.free.pop()

async def use(pool):
    number = await pool.get()
    await asyncio.sleep(0.002)
    pool.free.append(number)

async def test_cancelled():
    pool = Pool()
    user = asyncio.create_task(use(pool))
    simloop.current().may_cancel(user)
    await asyncio.wait([user])
    await asyncio.wait_for(pool.get(), 1)

async def test_fixture(sim):
    user = asyncio.create_task(asyncio.sleep(1))
    sim.may_cancel(user)
    await user

async def ask(what, got):
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(what)
    got.append(await reader.read(10))
    writer.close()

@pytest.mark.simloop(runs=300)
async def test_network():
    got = []
    server = await asyncio.start_server(answer, "127.0.0.1", PORT)
    async with server:
        await asyncio.gather(ask(b"a", got), ask(b"b", got))
    assert got == [b"a", b"b"]

async def take(first, second):
    async with first:
        await asyncio.sleep(0.01)
        async with second:
            pass

async def test_deadlock():
    locks = asyncio.Lock(), asyncio.Lock()
    await asyncio.gather(take(*locks), take(*reversed(locks)))

async def test_group():
    async def fail():
        await asyncio.sleep(0.01)
        raise ValueError

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())

async def test_thread():
    seen = []
    await asyncio.gather(*(asyncio.to_thread(seen.append, number) for number in range(2)))
    assert seen == [0, 1]

async def test_names():
    await asyncio.open_connection("nobody.invalid", 80)

@pytest.fixture
def one():
    return 1

async def test_fixtures(one):
    assert one == 2

async def test_random():
    import random
    assert random.random() > 1

async def test_time():
    import time
    began = time.time()
    await asyncio.sleep(100)
    assert time.time() < began + 50
"""
HELPERS = """
async def answer(reader, writer):
    writer.write(await reader.read(10))
    await writer.drain()
    writer.close()
"""


@pytest.fixture
def tests(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_it=TESTS, helpers=HELPERS)
    return pytester


def exported(pytester: pytest.Pytester, test: str) -> tuple[str, str]:
    """Find the failure of a test, and export it. Returns its token and the report."""
    found = pytester.runpytest("--sim", "-k", test, "--sim-no-confirm").stdout.str()
    token = found.partition("--sim-replay=")[2].split()[0]
    report = pytester.runpytest(f"--sim-replay={token}", f"--sim-export={test}_race.py").stdout.str()
    return token, " ".join(report.split())


@pytest.mark.parametrize(
    ("test", "error"),
    [
        ("test_cancelled", "TimeoutError"),
        ("test_fixture", "asyncio.exceptions.CancelledError"),
        ("test_network", "AssertionError"),
        ("test_deadlock", "DeadlockError: nothing can happen any more"),
        ("test_group", "ValueError"),
    ],
)
def test_a_script_fails_without_simloop(tests: pytest.Pytester, test: str, error: str) -> None:
    token, report = exported(tests, test)
    assert f"exported: python {test}_race.py fails in the same way, without simloop" in report
    script = tests.path / f"{test}_race.py"
    assert token in script.read_text()
    assert "unused" not in script.read_text()
    # Without what is installed beside the standard library.
    ended = subprocess.run(
        [sys.executable, "-I", "-S", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert error in [line.strip(" |") for line in ended.stderr.splitlines()]


def test_a_script_is_printed(tests: pytest.Pytester) -> None:
    token, _ = exported(tests, "test_cancelled")
    printed = tests.run(sys.executable, "-m", "simloop", "export", token)
    assert "\n".join(printed.outlines) == (tests.path / "test_cancelled_race.py").read_text().rstrip("\n")
    refused = tests.run(sys.executable, "-m", "simloop", "export", "--test", "test_it.py::test_thread", token)
    assert refused.ret == 2
    assert len(refused.errlines) == 1


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("test_thread", "a script has TCP, timers and cancellation, and this test needs threads, or names to look up"),
        ("test_fixtures", "test_fixtures has fixtures or parameters"),
        ("test_random", "a script has TCP, timers and cancellation, and this test needs random numbers"),
        ("test_time", "the script does not fail as the test does, but with nothing"),
    ],
)
def test_what_no_script_can_show_is_said_in_one_line(tests: pytest.Pytester, test: str, reason: str) -> None:
    _, report = exported(tests, test)
    assert f"not exported: {reason} " in report
    assert not (tests.path / f"{test}_race.py").exists()


def test_what_cannot_be_exported_is_said_in_one_line(tests: pytest.Pytester) -> None:
    nobodys = tests.run(sys.executable, "-m", "simloop", "export", "sl1:AAAAAAcAALcm", "--store", ".")
    assert nobodys.errlines == [
        "simloop: no failure of the token's test is saved: name the test, with --test FILE::NAME"
    ]
    alone = tests.runpytest("--sim", "--sim-export=x.py")
    alone.stderr.fnmatch_lines(["*--sim-export writes a script for one schedule: say which with --sim-replay=TOKEN"])


def test_a_script_takes_arrivals_in_pieces_as_the_run_did() -> None:
    """Real sockets have all that was sent at once; the script reads what the run read."""
    seen: list[bytes] = []

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100):
                seen.append(data)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 8124):
            reader, writer = await asyncio.open_connection("127.0.0.1", 8124)
            writer.write(b"ab")
            writer.write_eof()
            await reader.read()
            writer.close()

    choices = Choices(1)
    choices.stock = arrivals = Arrivals()
    assert execute(main, choices, Limits()).exception is None
    assert seen == [b"ab"]
    # As if the network had brought the second byte with a later poll.
    at = next(at for at, (_, events, _) in enumerate(arrivals.polls) if (events and events[0][2] == 2))
    time, [(number, mask, _)], cancelled = arrivals.polls[at]
    polls = [*arrivals.polls[:at], (time, [(number, mask, 1)], cancelled), (time + 1000, [(number, mask, 1)], [])]
    seen.clear()
    standalone.run(main, [*polls, *arrivals.polls[at + 1 :]])
    assert seen == [b"a", b"b"]
