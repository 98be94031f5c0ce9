"""Shells: what simloop plays of `/bin/sh`, and where it says that it does not."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from typing import Any

import pytest
from starting_tools import PIPE, register_tools, shell

import simloop
from simloop.errors import EscapedSimulationError
from simloop.simulation.run import run


# As dash 0.5.12 answers.
@pytest.mark.parametrize(
    ("command", "code", "out", "err"),
    [
        ("exit 7", 7, b"", b""),
        ("exit 256", 0, b"", b""),
        ("", 0, b"", b""),
        ("say hello", 0, b"hello\n", b""),
        ("say 'a  b' \"c d\" e\\ f ''", 0, b"a  b c d e f \n", b""),
        ("say '$x *' \"'\" x~ a=b#c", 0, b"$x * ' x~ a=b#c\n", b""),
        ("say a;say b", 0, b"a\nb\n", b""),
        ("say a\n\nsay b;", 0, b"a\nb\n", b""),
        ("give 3", 3, b"", b""),
        ("give 3; say a", 0, b"a\n", b""),
        ("true && give 3 || say a", 0, b"a\n", b""),
        ("false && say a", 1, b"", b""),
        ("false && say a || say b", 0, b"b\n", b""),
        ("true || say a; say b", 0, b"b\n", b""),
        ("give 4; exit; say a", 4, b"", b""),
        ("nosuch -x", 127, b"", b"/bin/sh: 1: nosuch: not found\n"),
        ("true\nnosuch; say a", 0, b"a\n", b"/bin/sh: 2: nosuch: not found\n"),
        ("exec nosuch; say a", 127, b"", b"/bin/sh: 1: exec: nosuch: not found\n"),
        ("say a && exec give 5; say b", 5, b"a\n", b""),
        ("exec; say a", 0, b"a\n", b""),
        ("echo a 'b  c'; echo -n d; echo", 0, b"a b  c\nd\n", b""),
        ("NAME=1 setting NAME; setting NAME", 0, b"10", b""),
        ("NAME=1; setting NAME", 0, b"1", b""),
        ("NAME=1 setting NAME", 0, b"1", b""),
        ("OTHER=1; setting OTHER", 0, b"?", b""),
        ("/opt/bin/say a", 0, b"a\n", b""),
        ("sh -c 'give 6'", 6, b"", b""),
        ("sh -c 'nosuch' name", 127, b"", b"name: 1: nosuch: not found\n"),
    ],
)
def test_what_the_shell_of_simloop_knows(command: str, code: int, out: bytes, err: bytes) -> None:
    async def main() -> tuple[int | None, bytes, bytes]:
        register_tools()
        return await shell(command, env={"PATH": "/usr/bin:/bin", "NAME": "0"})

    assert run(main) == (code, out, err)


@pytest.mark.parametrize(
    "command",
    [
        "say a | cat", "say a > file", "say $HOME", 'say "$HOME"', "say `say a`", "say *.py", "say a?", "say [ab]",
        "hang &", "say 'a", 'say "a', "if true; then say a; fi", "for i in 1; do say a; done", "(say a)", "{ say a; }",
        "! true", "cd /tmp && say a", "export A=1", "kill 1", "say a;; say b", "&& say a", "say a &&", "say ~",
        "A=~ say", "say a # comment", "exit now", "echo 'a\\tb'", "say a \\\n b", "test -f x",
        "sh -c 'say $X'", "sh file",
    ],
)  # fmt: skip
def test_the_rest_of_the_language_escapes_where_the_command_is_started(command: str) -> None:
    caught: list[str] = []

    async def main() -> None:
        register_tools()
        try:
            await asyncio.create_subprocess_shell(command)
        except EscapedSimulationError as error:
            caught.append(str(error))

    with pytest.raises(EscapedSimulationError):
        run(main)
    assert re.search(r"test_shells\.py:\d+: .* @sim\.program\('sh'\)", caught[0])


def test_a_registered_shell_gets_the_call_as_it_is() -> None:
    async def main() -> tuple[Any, ...]:
        sh = simloop.current().program("sh", returncode=5)
        return (await shell("a | b"))[0], sh.calls

    assert run(main) == (5, [["/bin/sh", "-c", "a | b"]])


def test_a_shell_with_one_command_becomes_that_program() -> None:
    seen: list[Any] = []

    async def main() -> list[Any]:
        register_tools()

        @simloop.current().program("who")
        async def who(proc: simloop.SimProcess) -> None:
            seen.append((proc.pid, os.getppid()))

        own = os.getpid()
        for command in ("who", "true; exec who", "who; true"):
            process = await asyncio.create_subprocess_shell(command)
            await process.wait()
            seen[-1] = (seen[-1][0] == process.pid, seen[-1][1] == own, seen[-1][1] == process.pid)
        return seen

    assert run(main) == [(True, True, False), (True, True, False), (False, False, True)]


def test_signals_and_shells() -> None:
    async def main() -> list[Any]:
        register_tools()
        found: list[Any] = []
        for command in ("hang", "hang; true"):
            process = await asyncio.create_subprocess_shell(command)
            await asyncio.sleep(1)
            process.terminate()
            found.append(await process.wait())

        @simloop.current().program("dies")
        async def dies(proc: simloop.SimProcess) -> None:
            os.kill(os.getppid(), 0)
            await asyncio.sleep(1000)

        process = await asyncio.create_subprocess_shell("dies; exit", stderr=PIPE)
        await asyncio.sleep(1)
        # The shell's child has the pid after that of the shell.
        os.kill(process.pid + 1, signal.SIGKILL)
        _, err = await process.communicate()
        return [*found, process.returncode, err]

    assert run(main) == [-15, -15, 128 + 9, b"Killed\n"]


def test_a_shell_whose_reader_has_gone() -> None:
    async def main() -> int | None:
        reader, writer = os.pipe()
        os.close(reader)
        process = await asyncio.create_subprocess_shell("echo a; exit 3", stdout=writer)
        os.close(writer)
        return await process.wait()

    assert run(main) == -signal.SIGPIPE


def test_a_shell_waits_until_what_it_says_is_read() -> None:
    async def main() -> tuple[int, int | None]:
        reader, writer = os.pipe()
        process = await asyncio.create_subprocess_shell(f"echo {'x' * 100_000}", stdout=writer)
        os.close(writer)
        await asyncio.sleep(5)
        assert process.returncode is None
        size = 0
        while piece := os.read(reader, 1 << 16):
            size += len(piece)
        return size, await process.wait()

    assert run(main, blocking="ignore") == (100_001, 0)


def test_os_system_and_os_popen() -> None:
    async def main() -> tuple[Any, ...]:
        register_tools()
        with os.popen("say a; give 3") as stream:
            text = stream.read()
        failing = os.popen("give 3")
        return os.system("exit 3"), os.system(""), os.waitstatus_to_exitcode(os.system("give 4")), text, failing.close()

    assert run(main, blocking="ignore") == (3 << 8, 0, 4, "a\n", 3 << 8)


def test_subprocess_getoutput_and_friends() -> None:
    def work() -> tuple[Any, ...]:
        done = subprocess.run("cat && say b", shell=True, input="a\n", capture_output=True, text=True, check=True)
        return done.stdout, subprocess.getstatusoutput("say c; give 2"), subprocess.check_output("say d", shell=True)

    async def main() -> tuple[Any, ...]:
        register_tools()
        return await asyncio.to_thread(work)

    assert run(main) == ("a\nb\n", (2, "c"), b"d\n")


def test_what_a_program_does_not_read_is_left_for_the_next() -> None:
    async def main() -> tuple[bytes, ...]:
        register_tools()

        @simloop.current().program("head")
        async def head(proc: simloop.SimProcess) -> None:
            proc.stdout.write(os.read(0, 1))

        process = await asyncio.create_subprocess_shell("say a; head; cat", stdin=PIPE, stdout=PIPE)
        return (await process.communicate(b"input"))[0], await asyncio.to_thread(quiet)

    def quiet() -> bytes:
        # Nobody reads this, and nothing is left open.
        return subprocess.run(["say"], input=b"input", stdout=subprocess.PIPE, check=True).stdout

    for seed in range(30):
        assert run(main, seed=seed) == (b"a\ninput", b"\n")
