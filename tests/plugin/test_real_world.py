"""Where a simulated test meets the real world: output and signals of this process, servers of wide fixtures."""

from __future__ import annotations

import re

import pytest

OUTPUT = """
    import asyncio, os, sys
    import pytest

    async def test_capfd(capfd):
        print("text")
        os.write(1, b"bytes\\n")
        await asyncio.sleep(1)
        assert capfd.readouterr().out == "text\\nbytes\\n"
        with capfd.disabled():
            print("seen")
        print("more")
        assert capfd.readouterr().out == "more\\n"

    async def test_capfdbinary(capfdbinary):
        os.write(2, b"bytes")
        assert capfdbinary.readouterr().err == b"bytes"

    async def test_capsys(capsys):
        print("text")
        assert capsys.readouterr().out == "text\\n"

    @pytest.fixture
    def printing(capfd):
        print("first")
        yield capfd
        assert capfd.readouterr().out == "last\\n"

    async def test_by_way_of_a_fixture(printing):
        assert printing.readouterr().out == "first\\n"
        print("last")

    async def test_fails(capfd):
        print("printed")
        assert 1 == 2

    def test_without_a_world(capfd):
        os.write(1, b"bytes")
        assert capfd.readouterr().out == "bytes"
"""


@pytest.mark.parametrize("option", ["--capture=fd", "--capture=sys", "-s"])
def test_output_is_captured_in_the_real_world(pytester: pytest.Pytester, option: str) -> None:
    pytester.makepyfile(OUTPUT)
    result = pytester.runpytest_subprocess("--sim", "--sim-runs=3", option)
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["E * assert 1 == 2"])
    assert len(re.findall(r"^\W*printed$", result.stdout.str(), re.MULTILINE)) == 1


def test_what_plugins_do_to_this_process_they_do_in_the_real_world(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        a_plugin="""
        import os, signal, tempfile
        import pytest

        @pytest.fixture
        def log():
            file, saved = tempfile.TemporaryFile(buffering=0), os.dup(1)
            os.dup2(file.fileno(), 1)
            yield file
            os.dup2(saved, 1)
            os.close(saved)
            file.close()

        @pytest.fixture
        def alarm():
            before = signal.signal(signal.SIGALRM, signal.default_int_handler)
            yield
            assert signal.signal(signal.SIGALRM, before) is signal.default_int_handler
        """
    )
    pytester.makepyfile(
        """
        import asyncio, os

        async def test_it(log, alarm):
            os.write(1, b"bytes")
            await asyncio.sleep(1)
            log.seek(0)
            assert log.read() == b"bytes"
        """
    )
    result = pytester.runpytest_subprocess("-p", "a_plugin", "--sim", "--sim-runs=3")
    result.assert_outcomes(passed=1)


SERVER = """
    import asyncio, http.server, threading
    import pytest

    class Server:
        def __init__(self):
            self.http = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
            self.port = self.http.server_address[1]
            threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def serve():
        server = Server()
        yield server
        server.http.shutdown()
        server.http.server_close()

    shared = pytest.fixture(scope="session")(serve)
    own = pytest.fixture(serve)

    @pytest.fixture
    def unnamed(shared):
        return lambda: asyncio.open_connection("localhost", shared.port)

    async def ask(server):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
        assert b"501" in await reader.read()
        writer.close()
"""


def test_a_server_of_a_session_fixture_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        SERVER
        + """
    async def test_asks(shared):
        await ask(shared)

    async def test_polls(unnamed):
        async with asyncio.timeout(20):
            while True:
                try:
                    await unnamed()
                    break
                except OSError:
                    await asyncio.sleep(1)

    async def test_fails_for_want_of_an_answer(shared):
        found = await asyncio.gather(ask(shared), return_exceptions=True)
        assert found == [None]

    async def test_expects_nobody_there(shared):
        with pytest.raises(OSError):
            await ask(shared)

    async def test_own_server(own):
        await ask(own)
    """
    )
    result = pytester.runpytest("--sim", "--sim-runs=3")
    result.assert_outcomes(passed=2, failed=3)
    text = result.stdout.str()
    assert len(set(re.findall(r"\.py:\d+: the server of fixture 'shared' that listens on the real port", text))) == 3
    assert "can happen" not in text
    assert text.count("this is a limit of the simulation") == 3


def test_a_program_of_the_machine_that_nobody_plays(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, subprocess

        async def test_needs_it():
            program = await asyncio.create_subprocess_exec("true")
            assert await program.wait() == 0

        async def test_needs_it_in_a_thread():
            try:
                await asyncio.to_thread(subprocess.run, ["true"], check=True)
            except OSError as error:
                raise RuntimeError("it cannot be done") from error

        async def test_needs_what_the_machine_lacks():
            await asyncio.create_subprocess_exec("no-such-program")

        async def test_can_do_without():
            try:
                await asyncio.create_subprocess_exec("true")
            except FileNotFoundError:
                pass
    """
    )
    result = pytester.runpytest("--sim", "--sim-runs=2")
    result.assert_outcomes(passed=1, failed=3)
    text = result.stdout.str()
    assert text.count("this is a limit of the simulation") == 2
    assert text.count("can happen on stock asyncio") == 1
    assert text.count("play it with @sim.program('true')") == 2


def test_a_fixture_that_fails_says_nothing_about_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        import pytest

        @pytest.fixture
        def broken():
            raise OSError("no disk")

        @pytest.fixture
        async def slow():
            async with asyncio.timeout(1):
                await asyncio.sleep(2)

        async def test_sync(broken):
            pass

        async def test_async(slow):
            pass

        @pytest.fixture
        async def fine():
            yield

        async def test_of_its_own(fine):
            assert 1 == 2
        """
    )
    result = pytester.runpytest("--sim", "--sim-runs=3")
    result.assert_outcomes(failed=3)
    text = result.stdout.str()
    assert text.count("it is a fixture that fails, while it is set up: the test has not begun") == 2
    assert text.count("can happen on stock asyncio") == 1
