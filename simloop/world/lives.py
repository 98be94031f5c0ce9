"""Starts and ends of the processes of a world, and power failures of its hosts.

The test's own process exists from the start, and most worlds have no other, so this module is imported late.
"""

from __future__ import annotations

import signal as _signal  # constants only
from typing import TYPE_CHECKING, Any

from simloop.kernel.process.process import State

if TYPE_CHECKING:
    from simloop.kernel.descriptors import File
    from simloop.kernel.host import Host
    from simloop.kernel.process.process import Process
    from simloop.world.world import World


def spawn(
    world: World,
    parent: Process,
    files: dict[int, File],
    argv: list[str],
    program: Any,
    environ: dict[str, str],
    cwd: str | None,
    place: str,
) -> Process:
    """Start a child of `parent`, as fork(2) and execve(2) do, and return it. It runs `program` with the arguments
    `argv`, and has the descriptors in `files`. `place` is the source line that starts it."""
    child = world.add_process(parent.host, argv[0].rpartition("/")[2][:24])
    child.parent = parent
    parent.children[child.pid] = child
    child.group, child.session, child.masked = parent.group, parent.session, parent.masked
    child.environ = environ
    child.started_at = place
    for fd, file in files.items():
        child.inherit(fd, file)
    if parent.signal_handlers:
        handlers = parent.signal_handlers.items()
        # "The dispositions of any signals that are being caught are reset to the default" (execve(2)).
        child.signal_handlers = {number: handler for number, handler in handlers if handler == _signal.SIG_IGN}
    if not program.is_silent and (cwd is not None or parent.calls is not None or parent.host.fs is not None):
        # (Where nobody has used a file, the child begins as its parent would: with the real working directory.)
        from simloop.world.files import inherit_calls

        inherit_calls(world.files(parent), child, cwd)
    world.programs.start(child, argv, program)
    return child


def spawn_failed(world: World, parent: Process) -> Process:
    """Return a zombie child of `parent` that exited before its program could be run."""
    child = world.add_process(parent.host, "?")
    child.parent = parent
    parent.children[child.pid] = child
    child.environ = {}
    child.enter(State.ZOMBIE)
    child.status = 255 << 8
    return child


def kill(world: World, process: Process, status: int) -> None:
    """End `process` at once with a wait status (wait(2)); if a signal kills it, that is the signal's number."""
    if process.exited:
        return
    _halt(world, process)
    world.end(process, int(status))
    process.forget_holders()
    process.killed()


def _halt(world: World, process: Process) -> None:
    """Stop the code of `process` for good."""
    if process.loop is not None and process.loop in world.scheduler.loops:
        process.loop.lose_power()
    process.calls = None


def crash(world: World, host: Host) -> None:
    """Cut the power of `host`. Its processes stop where they are, and only what is on its disk remains."""
    host.up = False
    for process in world.processes:
        if process.host is host and process.alive:
            _halt(world, process)
            process.lose_power()
    host.lose_power()
    world.network.forget_names(host.name)
    world.network.cut_off()
    if host.fs is not None:
        from simloop.kernel.files.crash import lose_power

        lose_power(host.fs, world.choices)


def let_crash(world: World, host: Host) -> None:
    """Let the environment cut the power of `host`, once: before any change of a file by a process on it and, if the
    host has connections, after one too, since what the process sends next may depend on the change."""

    def ask(what: str, after: bool) -> None:
        if world.current.host is not host or (after and not host.has_connections()):
            return
        when = f"{'after' if after else 'before'} {what}"
        if world.choices.order(f"{host.name}:{when}", "host.crash", 2, when):
            crash(world, host)
            world.stop()

    world.fs(host).on_change = ask
