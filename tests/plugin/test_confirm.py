"""The process in which failures are replayed: one for all of a session, and gone with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("confirming")

RACES = """
    import asyncio, os, pytest
    SEEN = []
    @pytest.mark.parametrize("n", range(6))
    async def test_race(n, sim):
        task = asyncio.create_task(asyncio.sleep(1))
        sim.may_cancel(task)
        await asyncio.wait([task])
        assert not task.cancelled(), n
"""

# Each process that runs the file says so.
NOTES = """
    import os
    def note(name):
        with open(os.path.join(os.path.dirname(__file__), name), "a") as file:
            file.write(f"{os.getpid()}\\n")
    note("imported.txt")
    def pytest_sessionstart():
        if "SIMLOOP_SIGNATURE_FILE" in os.environ:
            note("replayed.txt")
"""


def noted(pytester: pytest.Pytester, name: str) -> list[int]:
    return [int(line) for line in (pytester.path / name).read_text().split()]


@pytest.mark.parametrize(
    ("options", "failures", "processes"), [((), 6, 1), (("-x",), 1, 1), (("--maxfail=2",), 2, 1), (("-n2",), 6, 2)]
)
def test_all_failures_of_a_session_share_it(
    pytester: pytest.Pytester, options: tuple[str, ...], failures: int, processes: int
) -> None:
    if "-n2" in options:
        pytest.importorskip("xdist", reason="it makes workers")
    pytester.makeconftest(NOTES)
    pytester.makepyfile(test_it=RACES)
    # What the file says of workers is not for a replay.
    pytester.makeini("[pytest]\naddopts = --junitxml=report.xml")
    result = pytester.runpytest_subprocess("--sim", *options)
    result.assert_outcomes(failed=failures)
    assert result.stdout.str().count("in a fresh process it fails in the same way") == failures
    # Each replay has a process of its own, and none of them imported what could be imported before.
    assert len(set(noted(pytester, "replayed.txt"))) == failures
    sessions = 1 if "-n2" not in options else 3
    assert len(noted(pytester, "imported.txt")) == sessions + processes
    assert (pytester.path / "report.xml").read_text().count("<failure") == failures
    for pid in {*noted(pytester, "imported.txt"), *noted(pytester, "replayed.txt")}:
        wait_for_end(pid)


def test_no_process_where_nothing_fails_or_nobody_asks(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(NOTES)
    pytester.makepyfile(test_it=RACES.replace("assert not task", "assert task or not task"))
    pytester.runpytest_subprocess("--sim").assert_outcomes(passed=6)
    assert len(noted(pytester, "imported.txt")) == 1
    pytester.makepyfile(test_it=RACES)
    for options in (["--sim-no-confirm"], ["-o", "sim_confirm=false"]):
        result = pytester.runpytest_subprocess("--sim", *options)
        result.assert_outcomes(failed=6)
        result.stdout.no_fnmatch_line("*in a fresh process*")
    assert len(noted(pytester, "imported.txt")) == 3


def test_a_replay_that_ends_its_process_says_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import os\nif 'SIMLOOP_SIGNATURE_FILE' in os.environ: os._exit(1 + 1)\nasync def test_it(): assert 0"
    )
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*in a fresh process*")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_the_session_in_whatever_way_that_ends(pytester: pytest.Pytester, end: signal.Signals) -> None:
    """In the middle of a replay that never ends."""
    pytester.makepyfile(
        test_it="""
        import os, signal
        if "SIMLOOP_SIGNATURE_FILE" in os.environ:
            with open("told", "w") as file:
                file.write(f"{os.getpid()} {os.getppid()}")
            signal.pause()
        async def test_it(): assert 0
        """
    )
    os.mkfifo(pytester.path / "told")
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--sim", "-p", "no:cacheprovider"],
        cwd=pytester.path,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pids = [int(pid) for pid in (pytester.path / "told").read_text().split()]
    assert len(pids) == 2
    session.send_signal(end)
    session.wait(30)
    for pid in pids:
        wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 30)[0]
    os.close(descriptor)


def test_a_replay_that_does_not_end_is_the_last_one(pytester: pytest.Pytester) -> None:
    """As where a fixture waits for a port that the session itself has."""
    pytester.makeconftest(NOTES + "    import pytest_simloop.replayer\n    pytest_simloop.replayer.PATIENCE = 0.5\n")
    pytester.makepyfile(
        test_it=RACES.replace("import asyncio, os, pytest", "import asyncio, os, pytest, signal")
        + """
    @pytest.fixture(scope="session", autouse=True)
    def port():
        while "SIMLOOP_SIGNATURE_FILE" in os.environ:
            signal.pause()
"""
    )
    result = pytester.runpytest_subprocess("--sim")
    result.assert_outcomes(failed=6)
    assert "in a fresh process" not in result.stdout.str()
    assert len(noted(pytester, "replayed.txt")) == 1


# A file that stands for the database of a test session: a second process that begins with it removes the first one's.
DATABASE = """
    import pathlib, pytest
    file = pathlib.Path(__file__).parent / "database"

    def begin():
        file.unlink(missing_ok=True)
        file.touch()
"""
SCOPES = {
    "database": """
    @pytest.fixture(scope="session")
    def database():
        begin()
        yield
        file.unlink()

    @pytest.mark.usefixtures("database")
    class TestIt:
    """,
    "setup_module": """
    def setup_module():
        begin()

    def teardown_module():
        file.unlink()

    class TestIt:
    """,
    "setUpClass": """
    import unittest

    class TestIt(unittest.IsolatedAsyncioTestCase):
        @classmethod
        def setUpClass(cls):
            begin()

        @classmethod
        def tearDownClass(cls):
            file.unlink()
    """,
}


@pytest.mark.parametrize("fixture", SCOPES)
def test_what_only_one_process_can_have_is_not_set_up_by_another(pytester: pytest.Pytester, fixture: str) -> None:
    pytester.makepyfile(
        DATABASE
        + SCOPES[fixture]
        + """
        async def test_fails(self):
            assert 0

        def test_later(self):
            assert file.exists()
    """
    )
    result = pytester.runpytest("--sim", "--sim-runs=1")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([f"not replayed in a fresh process, which would set up and tear down '{fixture}' *"])


def test_what_a_plugin_sets_up_for_all_tests_hinders_no_replay(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = pytester.mkdir("site-packages")
    (installed / "patches.py").write_text(
        "import pytest\n\n@pytest.fixture(scope='session', autouse=True)\ndef patches():\n    yield\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(installed), prepend=os.pathsep)
    monkeypatch.syspath_prepend(installed)
    pytester.makeini("[pytest]\naddopts = -p patches\n")
    pytester.makepyfile("async def test_fails(): assert 0")
    result = pytester.runpytest("--sim", "--sim-runs=1")
    result.stdout.fnmatch_lines(["in a fresh process it fails in the same way"])


def test_a_case_of_unittest_without_anything_to_tear_down_is_replayed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import unittest

        class TestIt(unittest.IsolatedAsyncioTestCase):
            async def test_fails(self):
                assert 0
        """
    )
    result = pytester.runpytest("--sim", "--sim-runs=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["in a fresh process it fails in the same way"])


def test_an_option_that_a_replay_is_not_given_is_no_state_of_earlier_tests(pytester: pytest.Pytester) -> None:
    """As `--disable-socket` of pytest-socket."""
    pytester.makeconftest(
        NOTES + "    def pytest_addoption(parser): parser.addoption('--special', action='store_true')\n"
    )
    pytester.makepyfile("async def test_it(request): assert not request.config.option.special")
    result = pytester.runpytest_subprocess("--sim", "--special")
    result.assert_outcomes(failed=1)
    assert "in a fresh process" not in result.stdout.str()
    assert len(noted(pytester, "replayed.txt")) == 1


def test_a_limit_of_the_simulation_is_not_replayed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(NOTES)
    pytester.makepyfile(
        "import socket\nasync def test_it(sim): socket.socket(socket.AF_PACKET)",
    )
    result = pytester.runpytest_subprocess("--sim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["this is a limit of the simulation*"])
    assert "in a fresh process" not in result.stdout.str()
    assert len(noted(pytester, "imported.txt")) == 1
