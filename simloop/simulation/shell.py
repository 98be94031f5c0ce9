"""Simulated shell for ``sh -c``, used unless a program named ``sh`` is registered: simple commands, joined by ``;``,
``&&`` and ``||``.

Everything else in the shell's language raises `EscapedSimulationError` when the command is started, naming the line
that starts it.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from simloop.loop.process_runner import ProcessRunner
from simloop.shims.os.descriptors import set_blocking, write
from simloop.shims.os.paths import getcwd
from simloop.shims.os.processes import pidfd_open, waitpid
from simloop.shims.socket.sockets import close_fd
from simloop.shims.subprocess import environment, find_program
from simloop.world import active, lives

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

# A part of a word that stands for itself: quoted, or without a meaning to the shell. "~" and "#" have one where a word
# begins, and behind "=" and ":".
_PART = r"""'[^']*'|"(?:[^"\\$`]|\\["\\])*"|\\[^\n]|[^\s'"\\;&|<>()$`*?\[~#]|(?<=[^\s;&|=:])[~#]"""
_TOKEN = re.compile(rf"[ \t]*(?:(&&|\|\||[;\n])|((?:{_PART})+)|\Z)")
_SETTING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_RESERVED = (
    "!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "until", "while",
)  # fmt: skip
_PLAYED = (":", "true", "false", "echo", "exit", "exec")
# Those that sh has inside of itself, so that no program of the name would be run.
_BUILTIN = (
    ".", "[", "alias", "bg", "break", "cd", "chdir", "command", "continue", "eval", "export", "fc", "fg", "getopts",
    "hash", "jobs", "kill", "local", "printf", "pwd", "read", "readonly", "return", "set", "shift", "test", "times",
    "trap", "type", "ulimit", "umask", "unalias", "unset", "wait",
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """Simple command of the shell: the operator before it, its ``NAME=value`` assignments, and its words."""

    joint: str
    settings: dict[str, str]
    words: list[str]
    line: int


def _refuse(text: str) -> NoReturn:
    shown = text.strip().splitlines()[0] if text.strip() else "a command that ends too early"
    raise active.escape(f"{shown!r} in a command of the shell", "play the shell with @sim.program('sh')")


def parse(script: str) -> list[Command]:
    """Return the simple commands of `script`. Raises `EscapedSimulationError` for anything else in it."""
    commands: list[Command] = []
    raw: list[str] = []
    joint, at = "", 0
    while True:
        token = _TOKEN.match(script, at)
        if token is None:
            _refuse(script[at:])
        operator, word = token.groups()
        if word is not None:
            raw.append(word)
        elif raw:
            commands.append(_command(joint, raw, 1 + script.count("\n", 0, at)))
            joint, raw = operator or "", []
        elif operator not in (None, "\n") or (operator is None and joint in ("&&", "||")):
            _refuse(script[at:])
        if operator is None and word is None:
            return commands
        at = token.end()


def _command(joint: str, raw: list[str], line: int) -> Command:
    settings = {}
    while raw and (setting := _SETTING.fullmatch(raw[0])):
        settings[setting[1]] = _plain(setting[2])
        raw = raw[1:]
    words = [_plain(word) for word in raw]
    if raw and (raw[0] in _RESERVED or words[0] in _BUILTIN):
        _refuse(" ".join(raw))
    if raw and words[0] == "exit" and not (len(words) == 1 or words[1].isdecimal()):
        _refuse(" ".join(raw))
    if raw and words[0] == "echo" and "\\" in "".join(words):
        _refuse(" ".join(raw))  # it knows sequences of its own
    if raw:
        Shell.for_call(words[0], words)  # a shell in the shell is to escape no later
    return Command(joint, settings, words, line)


def _plain(word: str) -> str:
    return "".join(shlex.split(word))


class Shell:
    """Shell that runs the commands of one call of ``sh -c``."""

    is_silent = False

    def __init__(self, name: str, script: str) -> None:
        self.name = name
        self.commands = parse(script)

    @staticmethod
    def for_call(executable: str, argv: Sequence[str]) -> Shell | None:
        """Return a shell if the call of `executable` with the arguments `argv` is one of ``sh -c``; else None."""
        if posixpath.basename(executable) != "sh":
            return None
        if len(argv) < 3 or argv[1] != "-c":
            _refuse(shlex.join(argv))
        return Shell(argv[3] if len(argv) > 3 else argv[0], argv[2])

    def start(self, world: World, process: Process) -> None:
        call = _Call(self, world, process)
        ProcessRunner(world, process, call.main(), call.ended)


class _Call:
    """Execution of a shell in a process of its own."""

    def __init__(self, shell: Shell, world: World, process: Process) -> None:
        self._shell = shell
        self._world = world
        self._process = process
        self._env = environment(process)
        self._status = 0
        self._over = False
        #: Arguments and program that replace the shell's process after ``exec``; None if there are none.
        self._next: tuple[list[str], Any] | None = None

    async def main(self) -> int:
        for command in self._shell.commands:
            if self._over:
                break
            if not {"&&": self._status, "||": not self._status}.get(command.joint, False):
                self._status = await self._run(command)
        return self._status

    def ended(self, status: int | None) -> None:
        if status is None:
            return
        if self._next is None:
            self._world.end(self._process, status)
        else:
            self._world.programs.start(self._process, *self._next)

    async def _run(self, command: Command) -> int:
        words = command.words
        if not words:
            # Variables of the shell's own are nobody's concern; programs see those that it was given.
            self._env.update({name: value for name, value in command.settings.items() if name in self._env})
            return 0
        if words[0] in _PLAYED and words[0] != "exec":
            return await self._builtin(words)
        replaces = words[0] == "exec"
        if words == ["exec"]:
            return 0
        # With nothing else to do it does not fork, as dash does not.
        self._over = replaces or len(self._shell.commands) == 1
        argv = words[replaces:]
        env = self._env | command.settings
        paths = argv[:1] if "/" in argv[0] else [posixpath.join(entry, argv[0]) for entry in os.get_exec_path(env)]
        try:
            program = find_program(self._world, paths, argv, getcwd())
        except (FileNotFoundError, NotADirectoryError):
            await self._complain(command, f"{'exec: ' * replaces}{argv[0]}: not found")
            return 127
        except OSError:
            await self._complain(command, f"{'exec: ' * replaces}{argv[0]}: Permission denied")
            return 126
        if self._over:
            self._process.environ = env
            self._next = argv, program
            return 0
        return await self._wait_for(
            lives.spawn(
                self._world,
                self._process,
                dict(self._process.files),
                argv,
                program,
                env,
                None,
                self._process.started_at,
            )
        )

    async def _builtin(self, words: list[str]) -> int:
        name, *rest = words
        if name == "exit":
            self._over = True
            return int(rest[0]) & 0xFF if rest else self._status
        if name == "echo":
            newline = rest[:1] != ["-n"]
            await self._write(1, " ".join(rest if newline else rest[1:]) + "\n" * newline)
        return int(name == "false")

    async def _wait_for(self, child: Process) -> int:
        loop = asyncio.get_running_loop()
        fd = pidfd_open(child.pid)
        await _once(fd, loop.add_reader, loop.remove_reader)
        close_fd(fd)
        code = os.waitstatus_to_exitcode(waitpid(child.pid, 0)[1])
        if code >= 0:
            return code
        if -code not in (signal.SIGINT, signal.SIGPIPE):
            await self._write(2, f"{signal.strsignal(-code)}\n")
        return 128 - code

    async def _complain(self, command: Command, text: str) -> None:
        await self._write(2, f"{self._shell.name}: {command.line}: {text}\n")

    async def _write(self, fd: int, text: str) -> None:
        if fd not in self._process.files:
            # Inherited from the test itself.
            (sys.stdout if fd == 1 else sys.stderr).write(text)
            return
        loop = asyncio.get_running_loop()
        data = text.encode()
        set_blocking(fd, False)
        while data:
            try:
                data = data[write(fd, data) :]
            except BlockingIOError:
                await _once(fd, loop.add_writer, loop.remove_writer)
            except BrokenPipeError:
                # Python ignores the signal that goes with it; sh does not.
                lives.kill(self._world, self._process, signal.SIGPIPE)
                await loop.create_future()


async def _once(fd: int, watch: Callable[..., object], unwatch: Callable[[int], object]) -> None:
    """Wait until a descriptor is ready. `watch` and `unwatch` are the loop's methods for that, such as
    `loop.add_reader` and `loop.remove_reader`."""
    ready = asyncio.Event()
    watch(fd, ready.set)
    await ready.wait()
    unwatch(fd)
