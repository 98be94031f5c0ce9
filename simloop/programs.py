"""Executables that the test plays itself: ``@sim.program("ffmpeg")``."""

from __future__ import annotations

import asyncio
import os
import shlex
import stat as _stat
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from posixpath import basename
from typing import Any, NoReturn

from simloop.errors import ConfigurationError
from simloop.hosted import HostedProcess
from simloop.kernel.files import Description
from simloop.kernel.process import Process
from simloop.kernel.processes import exit_status
from simloop.network.world import World
from simloop.shell import Shell

ProgramMain = Callable[["SimProcess"], Awaitable[int | None]]


class ProgramExit(BaseException):
    """What `SimProcess.exit` raises."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class SimProcess:
    """The process in which a registered program runs, as the program sees it: ``async def main(proc)``."""

    #: What it writes; the data are gone where nobody asked for them.
    stdout: asyncio.StreamWriter
    stderr: asyncio.StreamWriter

    def __init__(self, process: Process, argv: Sequence[str], cwd: str) -> None:
        self._process = process
        #: Its name and its arguments.
        self.argv = list(argv)
        #: Its environment.
        self.env: dict[str, str] = process.environ or {}
        #: The directory in which it was started.
        self.cwd = cwd
        self._stdin: asyncio.StreamReader | None = None
        self._connecting: asyncio.Task[Any] | None = None

    @property
    def stdin(self) -> asyncio.StreamReader:
        """What others write to it: an end at once where nobody can. Until it asks for this, a program takes nothing of
        what others may read as well, and can use `os.read` instead."""
        if self._stdin is None:
            self._stdin = self._open_stdin()
        return self._stdin

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def exit(self, code: int = 0) -> NoReturn:
        """End it at once with this exit code; what it has written is still delivered."""
        raise ProgramExit(code)

    async def open_streams(self) -> None:
        """Before the program begins."""
        self.stdout, self.stderr = await self._writer(1), await self._writer(2)

    def _open_stdin(self) -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        if _is_pipe(self._process, 0):
            protocol = asyncio.StreamReaderProtocol(reader)
            self._connecting = loop.create_task(loop.connect_read_pipe(lambda: protocol, os.fdopen(0, "rb", 0)))
            return reader
        if isinstance(self._process.files.get(0), Description):
            while piece := os.read(0, 1 << 16):
                reader.feed_data(piece)
        reader.feed_eof()
        return reader

    async def _writer(self, fd: int) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        transport: Any
        protocol: Any
        if _is_pipe(self._process, fd):
            transport, protocol = await loop.connect_write_pipe(_Flow, os.fdopen(fd, "wb", 0))
        else:
            protocol = _Flow()
            transport = _Direct(self._process, fd, protocol)
        return asyncio.StreamWriter(transport, protocol, None, loop)

    async def close_streams(self) -> None:
        """After the program has ended: what it wrote is written out, however long nobody reads it."""
        if self._connecting is not None:
            transport, _ = await self._connecting
            transport.close()
        for writer in (self.stdout, self.stderr):
            writer.close()
            await writer.transport._protocol.closed  # type: ignore[attr-defined]


class _Flow(asyncio.streams.FlowControlMixin):
    """The protocol of a stream that is only written to."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)  # type: ignore[arg-type]
        if not self.closed.done():
            self.closed.set_result(None)

    def _get_close_waiter(self, stream: object) -> asyncio.Future[None]:
        return self.closed


class _Direct(asyncio.WriteTransport):
    """Writes to a file, or to nobody, at once."""

    def __init__(self, process: Process, fd: int, protocol: _Flow) -> None:
        super().__init__()
        self._process = process
        self._fd = fd
        self._protocol = protocol
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._fd in self._process.files:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        elif self._fd in (1, 2):
            # Inherited from the test itself.
            stream = sys.stdout if self._fd == 1 else sys.stderr
            stream.write(bytes(data).decode(errors="backslashreplace"))

    def is_closing(self) -> bool:
        return self._closing or self._process.ended

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def _is_pipe(process: Process, fd: int) -> bool:
    return fd in process.files and _stat.S_ISFIFO(os.fstat(fd).st_mode)


class SimProgram:
    """A registered program. ``calls`` lists the arguments of each time that it was started."""

    def __init__(
        self, name: str, arguments: tuple[str, ...], stdout: bytes, stderr: bytes, returncode: int, takes: float
    ) -> None:
        self.name = name
        self.arguments = arguments
        #: The arguments of each call, the name of the program first.
        self.calls: list[list[str]] = []
        self._script = stdout, stderr, returncode, takes
        self._main: ProgramMain = self._scripted

    def __call__(self, main: ProgramMain) -> ProgramMain:
        """As a decorator: ``main(proc)`` plays it."""
        self._main = main
        return main

    def main(self, process: SimProcess) -> Awaitable[int | None]:
        return self._main(process)

    async def _scripted(self, process: SimProcess) -> int:
        stdout, stderr, returncode, takes = self._script
        if takes:
            await asyncio.sleep(takes)
        process.stdout.write(stdout)
        process.stderr.write(stderr)
        return returncode

    def plays(self, executable: str, argv: Sequence[str]) -> bool:
        """Whether it stands for this file, called with these arguments."""
        name = executable if "/" in self.name else basename(executable)
        arguments = argv[1:]
        return (
            fnmatchcase(name, self.name)
            and len(arguments) >= len(self.arguments)
            and all(fnmatchcase(argument, pattern) for argument, pattern in zip(arguments, self.arguments))  # noqa: B905
        )

    def __repr__(self) -> str:
        return f"<SimProgram {shlex.join([self.name, *self.arguments])}, called {len(self.calls)} times>"


class Programs:
    """All registered programs of a world, and how they are started."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._programs: list[SimProgram] = []

    def add(self, program: SimProgram) -> None:
        if not program.name:
            raise ConfigurationError("a program needs a name, such as 'git' or '/usr/bin/git'")
        self._programs.append(program)

    def never_called(self) -> list[SimProgram]:
        return [program for program in self._programs if not program.calls]

    def find(self, executable: str, argv: Sequence[str]) -> SimProgram | Shell | None:
        """What stands for a file: of several the one that was registered last."""
        found = next((program for program in reversed(self._programs) if program.plays(executable, argv)), None)
        return found if found is not None else Shell.for_call(executable, argv)

    def is_there(self, name: str) -> bool:
        """Whether some program has this very name, whatever its arguments."""
        return any(program.name == name for program in self._programs)

    def start(self, process: Process, argv: list[str], program: SimProgram | Shell) -> None:
        """Begin to run `program` in `process`."""
        if isinstance(program, Shell):
            program.start(self._world, process)
            return
        program.calls.append(argv)
        world = self._world
        code = 0
        assert process.calls is not None
        proc = SimProcess(process, argv, process.calls.getcwd())

        async def main() -> None:
            nonlocal code
            await proc.open_streams()
            try:
                code = await program.main(proc) or 0
            except ProgramExit as error:
                code = error.code
            except Exception:
                proc.stderr.write(traceback.format_exc().encode())
                code = 1
            await proc.close_streams()

        def on_end() -> None:
            if not process.dead:
                world.end(process, exit_status(code))

        HostedProcess(world, process, main(), on_end)
