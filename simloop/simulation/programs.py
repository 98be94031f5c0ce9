"""Executables whose behaviour the test defines: ``@sim.program("ffmpeg")``."""

from __future__ import annotations

import asyncio
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from functools import cached_property, partial
from posixpath import basename
from typing import TYPE_CHECKING, Any, NoReturn

from simloop.errors import ConfigurationError, SimulationError, UncalledProgramError
from simloop.kernel.clock import MILLISECOND
from simloop.kernel.files.description import Description
from simloop.kernel.ipc.pipes import End
from simloop.kernel.net.sockets import Socket
from simloop.kernel.process.delays import RACE_NS, STARTS, delay
from simloop.kernel.process.exits import exit_status
from simloop.kernel.turn_taking import TIME_SLICES
from simloop.loop.process_runner import ProcessRunner, exit_code
from simloop.shims.io import open as open_file
from simloop.shims.os.descriptors import read, write
from simloop.shims.signal import kill
from simloop.shims.subprocess import environment
from simloop.simulation.shell import Shell
from simloop.sources import is_ours

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.kernel.run_queue import Runnable
    from simloop.world.world import World

# How long most programs take to get to their main function, as order of magnitude on Linux.
_START_NS = MILLISECOND

_NO_HANDLER: dict[int, Any] = {signal.SIGINT: signal.SIG_DFL}

ProgramMain = Callable[["SimProcess"], Awaitable[int | None] | int | None]
#: Output of a program: bytes, text (encoded as UTF-8), or a list of lines without their line ends.
Output = bytes | str | Sequence[bytes | str]


class SimProcess:
    """Handle of a registered program on the process that it runs in: the argument of ``async def main(proc)``.

    >>> import asyncio, simloop
    >>> async def main():
    ...     @simloop.current().program("wc")
    ...     async def wc(proc):
    ...         text = await proc.stdin.read()
    ...         proc.stdout.write(b"%d\\n" % len(text))
    ...         return 0 if text else 1
    ...
    ...     wc = await asyncio.create_subprocess_exec("wc", "-c", stdin=-1, stdout=-1)
    ...     output, _ = await wc.communicate(b"hello")
    ...     return output, wc.returncode
    >>> simloop.run(main)
    (b'5\\n', 0)
    """

    def __init__(self, world: World, process: Process, argv: Sequence[str]) -> None:
        self._world = world
        self._process = process
        self._cancelled_by: int | None = None
        #: Signals that cancel the program's main function while it runs.
        self._cancelling: list[int] = []
        self._running = True
        #: Arguments of the call, beginning with the name of the program.
        self.argv = list(argv)
        # None if nobody had used a file by then.
        self._cwd = None if process.calls is None else process.calls.cwd
        #: Open streams to standard output and error, by descriptor.
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._stdin: asyncio.StreamReader | None = None
        self._loop: Runnable | None = None
        self._connecting: asyncio.Task[Any] | None = None

    @cached_property
    def env(self) -> dict[str, str]:
        """Environment variables of the process. (`os.environ` holds those of the test.)"""
        return environment(self._process)

    @property
    def stdin(self) -> asyncio.StreamReader:
        """Stream of the program's standard input; at end of file at once if no process can write to it. It is opened on
        first use; until then nothing is read, and the program can use `os.read` instead."""
        if self._stdin is None:
            self._stdin = self._open_stdin()
        return self._stdin

    @property
    def stdout(self) -> asyncio.StreamWriter:
        """Stream to the program's standard output; if that is not redirected, the data is discarded. It is opened on
        first use, and a pipe is non-blocking from then on; until then the program can use `os.write` instead."""
        return self._writers.get(1) or self._open(1)

    @property
    def stderr(self) -> asyncio.StreamWriter:
        """Stream to the program's standard error."""
        return self._writers.get(2) or self._open(2)

    @property
    def cwd(self) -> str:
        """Working directory in which the program was started."""
        if self._cwd is None:
            from simloop.world.files import first_calls

            self._cwd = first_calls(self._world.fs(self._process.host), self._process).cwd
        return self._cwd.path

    @property
    def pid(self) -> int:
        """Process id in the simulated world."""
        return self._process.pid

    def exit(self, code: int = 0) -> NoReturn:
        """End the process at once with this exit code; what it has written is still delivered."""
        raise SystemExit(code)

    def cancel_on(self, *signals: int) -> None:
        """Make these signals cancel ``main(proc)`` from now on, as SIGINT does from the start (like under
        `asyncio.run`). If ``main(proc)`` ends with the cancellation, the process counts as killed by the signal. Any
        other signal kills it at once, unless the program has a handler for it, by `signal.signal` or
        `loop.add_signal_handler`."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel(number: int) -> None:
            if self._running:
                self._cancelled_by = number
                task.cancel()

        for number in signals:
            loop.add_signal_handler(number, cancel, number)
            self._cancelling.append(number)

    async def _run(self, main: ProgramMain) -> int:
        """Run the program's function `main`, and close its streams afterwards. Return its exit code."""
        self._loop = self._process.loop
        code = 0
        try:
            try:
                ended = main(self)
                code = (await ended if isinstance(ended, Awaitable) else ended) or 0
            finally:
                # What comes from now on ends it where it stands: there is nothing left to cancel.
                self._running = False
                for number in self._cancelling:
                    asyncio.get_running_loop().remove_signal_handler(number)
        except SystemExit as error:
            if isinstance(error.code, str):
                self.stderr.write(f"{error.code}\n".encode())
            code = exit_code(error)
        except asyncio.CancelledError:
            await self.close_streams()
            if self._cancelled_by is None:
                raise
            # As every well-behaved program ends after it has tidied up.
            signal.signal(self._cancelled_by, signal.SIG_DFL)
            kill(self._process.pid, self._cancelled_by)
        except SimulationError:
            raise
        except Exception as error:
            shown = error.__traceback__
            while shown is not None and is_ours(shown.tb_frame.f_code.co_filename):
                shown = shown.tb_next
            self.stderr.write("".join(traceback.format_exception(error.with_traceback(shown))).encode())
            code = 1
        if self._writers or self._connecting is not None:
            await self.close_streams()
        return code

    def _open_stdin(self) -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        if isinstance(self._process.files.get(0), (End, Socket)):
            protocol = asyncio.StreamReaderProtocol(reader)
            self._connecting = loop.create_task(loop.connect_read_pipe(lambda: protocol, open_file(0, "rb", 0)))
            return reader
        if isinstance(self._process.files.get(0), Description):
            while piece := read(0, 1 << 16):
                reader.feed_data(piece)
        reader.feed_eof()
        return reader

    def _open(self, fd: int) -> asyncio.StreamWriter:
        """Return a stream writer for a descriptor."""
        loop: Any = self._loop  # whatever thread it is that asks
        protocol = _Flow(loop)
        transport: asyncio.WriteTransport
        if isinstance(self._process.files.get(fd), End):
            transport = loop.make_write_pipe(open_file(fd, "wb", 0), protocol)
        else:
            transport = _Direct(self._process, fd, protocol)
        writer = self._writers[fd] = asyncio.StreamWriter(transport, protocol, None, loop)
        return writer

    async def close_streams(self) -> None:
        """Close the streams after the program has ended, once all output is written, however long the reader takes."""
        loop: Any = self._loop
        if self._connecting is not None:
            transport, _ = await self._connecting
            transport.close()
        for fd, writer in self._writers.items():
            writer.close()
            await writer.transport._protocol.closed  # type: ignore[attr-defined]
            loop.forget_pipe(fd)


class _Flow(asyncio.streams.FlowControlMixin):
    """Asyncio protocol with flow control, for a stream that is only written to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.closed: asyncio.Future[None] = loop.create_future()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)  # type: ignore[arg-type]
        if not self.closed.done():
            self.closed.set_result(None)

    def _get_close_waiter(self, stream: object) -> asyncio.Future[None]:
        return self.closed


class _Direct(asyncio.WriteTransport):
    """Asyncio transport to a descriptor that is not a pipe: it writes at once, or discards the data."""

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
                view = view[write(self._fd, view) :]
        elif self._fd in (1, 2):
            # Inherited from the test itself.
            stream = sys.stdout if self._fd == 1 else sys.stderr
            stream.write(bytes(data).decode(errors="backslashreplace"))

    def is_closing(self) -> bool:
        return self._closing or self._process.exited

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def _is_like(text: str, pattern: str) -> bool:
    # A text that happens to look like a pattern stands for itself, too.
    return text == pattern or fnmatchcase(text, pattern)


def _data(output: Output) -> bytes:
    if isinstance(output, str):
        return output.encode()
    if isinstance(output, bytes):
        return output
    return b"".join(_data(line) + b"\n" for line in output)


class SimProgram:
    """Executable whose behaviour the test defines, registered by `Sim.program`."""

    def __init__(
        self,
        name: str,
        arguments: tuple[str, ...],
        stdout: Output,
        stderr: Output,
        returncode: int,
        takes: float,
        times: int | None,
    ) -> None:
        self.name = name
        self.arguments = arguments
        #: Arguments of each call so far, each list beginning with the name of the program.
        self.calls: list[list[str]] = []
        #: Line of code that registered the program, as ``file:line``.
        self.place = "?"
        self._times = times
        self._stdout, self._stderr = _data(stdout), _data(stderr)
        self._returncode = returncode
        #: Exit status of the program, encoded as by wait(2).
        self.status = exit_status(returncode)
        self._takes = takes
        self._main: ProgramMain = self._scripted
        #: True if the program only ends, without output or delay: then it needs no event loop.
        self.is_silent = not self._stdout and not self._stderr and not takes

    def __call__(self, main: ProgramMain) -> ProgramMain:
        """Register ``main(proc)`` as the code of the program. Used as a decorator; returns `main`."""
        self._main = main
        self.is_silent = False
        return main

    def main(self, process: SimProcess) -> Awaitable[int | None] | int | None:
        return self._main(process)

    async def _scripted(self, process: SimProcess) -> int:
        if self._takes:
            await asyncio.sleep(self._takes)
        if self._stdout:
            process.stdout.write(self._stdout)
        if self._stderr:
            process.stderr.write(self._stderr)
        return self._returncode

    def plays(self, executable: str, argv: Sequence[str]) -> bool:
        """Return True if the program is to be run for a call of the file `executable` with the arguments `argv`."""
        if executable != self.name and not _is_like(
            executable if "/" in self.name else basename(executable), self.name
        ):
            return False
        if self._times is not None and len(self.calls) >= self._times:
            return False
        if not self.arguments:
            return True
        arguments = argv[1:]
        return len(arguments) >= len(self.arguments) and all(
            _is_like(argument, pattern)
            for argument, pattern in zip(arguments, self.arguments)  # noqa: B905
        )

    @property
    def pattern(self) -> str:
        """Shell patterns of the name and arguments of the calls that the program is run for, separated by spaces."""
        return " ".join([self.name, *self.arguments])

    def __repr__(self) -> str:
        return f"<SimProgram {self.pattern}, called {len(self.calls)} times>"


class Programs:
    """Registry of the programs that a test has defined, which also starts them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._programs: list[SimProgram] = []

    def add(self, program: SimProgram) -> None:
        if not program.name:
            raise ConfigurationError("a program needs a name, such as 'git' or '/usr/bin/git'")
        self._programs.append(program)

    def check_called(self) -> None:
        """Raise `UncalledProgramError` if there are programs that were never started."""
        missing = [program for program in self._programs if not program.calls]
        if missing:
            listed = ", ".join(f"{program.pattern!r} (registered at {program.place})" for program in missing)
            raise UncalledProgramError(f"nobody has started the program {listed}")

    def find(self, executable: str, argv: Sequence[str]) -> SimProgram | Shell | None:
        """Return the program to run for the file `executable` and the arguments `argv`: of several that match, the one
        registered last; or the simulated shell for ``sh -c``. None if there is none."""
        for program in reversed(self._programs):
            if program.plays(executable, argv):
                return program
        return Shell.for_call(executable, argv)

    def is_there(self, name: str) -> bool:
        """Return True if a program is registered under exactly this name, whatever its arguments."""
        return any(program.name == name for program in self._programs)

    def start(self, process: Process, argv: list[str], program: SimProgram | Shell) -> None:
        """Start `program` in the simulated process `process`."""
        if isinstance(program, Shell):
            program.start(self._world, process)
            return
        program.calls.append(argv)
        scheduler = self._world.scheduler
        # Between fork(2) and its first step it loads what it needs, which takes one process longer than another.
        answer = scheduler.choices.choose(process.name, "process.start", len(STARTS), process)
        at_once = 0 < answer <= len(TIME_SLICES)
        begin: Callable[[], None]
        if program.is_silent:
            # Nobody handles signals there, as Python does with the one of Ctrl-C.
            process.signal_handlers = (
                {**_NO_HANDLER, **process.signal_handlers} if process.signal_handlers else _NO_HANDLER
            )
            begin = partial(self._end, process, program.status)
        else:
            begin = partial(self._begin, process, argv, program, TIME_SLICES[answer - 1] if at_once else 0)
        if not answer:
            scheduler.at(scheduler.clock.now + _START_NS, begin)
        elif at_once:
            scheduler.at(scheduler.clock.now, begin)
        else:
            delay(scheduler, answer - len(TIME_SLICES), _START_NS, begin)

    def _begin(self, process: Process, argv: list[str], program: SimProgram, turns: int) -> None:
        if not process.alive:
            return
        world = self._world
        body: Any = SimProcess(world, process, argv)._run(program.main)
        body.__name__ = body.__qualname__ = process.name.partition(":")[2]  # what reports call it
        hosted = ProcessRunner(world, process, body, partial(self._ended, process))
        world.scheduler.grant_time_slice(hosted.loop, turns)

    def _end(self, process: Process, status: int, raced: bool = False) -> None:
        """End the process of a silent program, which only ends, with the exit status `status`: now, or, as a choice
        point decides, together with a timer. `raced` is True if that choice was made already."""
        if not process.alive:
            return
        world = self._world
        scheduler = world.scheduler
        if process.stopped:
            end = partial(self._end, process, status, raced)
            scheduler.when(lambda: not process.stopped, end)
            return
        if not raced and scheduler.any_timers():
            due = scheduler.timer_race(f"{process.name} ", 0, "thread.race", scheduler.clock.now, RACE_NS, process)
            if due is not None:
                scheduler.at(due, partial(self._end, process, status, True))
                return
        world.end(process, status, at_once=True)

    def _ended(self, process: Process, status: int | None) -> None:
        if status is not None:
            self._world.end(process, status)
            # Until somebody waits for it, and after that, nobody needs more of it than its status.
            process.loop = process.calls = None
