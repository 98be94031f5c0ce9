"""The same calls on processes, made on Linux with its own programs and in a world with registered ones.

As a program it makes those on Linux, as the leader of a session of its own, and prints what came of each.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

NOBODY = 4_000_000  # more than any pid (proc(5) on pid_max is 2**22 on 64 bits, and nobody comes so far)
STATES = os.WEXITED | os.WSTOPPED | os.WCONTINUED


class Diary:
    """What came of each call, with names in the place of pids."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._pids = {os.getpid(): "self"}

    def name(self, pid: int) -> int:
        self._pids[pid] = f"child{len(self._pids)}"
        return pid

    def start(self, *args: str, **options: Any) -> int:
        process = subprocess.Popen(args, **options)
        # It is waited for by other calls than its own.
        process.returncode = 0
        return self.name(process.pid)

    def shown(self, value: Any) -> str:
        if isinstance(value, os.waitid_result):
            return f"{self.shown(value.si_pid)} {value.si_signo} {value.si_status} {value.si_code}"
        if isinstance(value, tuple):
            return " ".join(self.shown(part) for part in value[:2])
        return self._pids.get(value, repr(value)) if isinstance(value, int) else repr(value)

    def tell(self, call: Callable[..., Any], *args: Any, **options: Any) -> None:
        try:
            line = self.shown(call(*args, **options))
        except OSError as error:
            name = "" if error.filename is None else " " + os.path.basename(os.fsdecode(error.filename))
            line = f"{type(error).__name__} {errno.errorcode[error.errno or 0]}{name}"
        except (TypeError, ValueError) as error:
            line = f"{type(error).__name__} {error}"
        self.lines.append(line)


def exit_codes(diary: Diary) -> None:
    for code in (0, 1, 2, 127, 255, 256, 1000):
        diary.tell(os.waitpid, diary.start("sh", "-c", f"exit {code}"), 0)
    for program in ("true", "false"):
        diary.tell(os.waitpid, diary.start(program), 0)


def deadly_signals(diary: Diary) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM):
        pid = diary.start("sleep", "100")
        diary.tell(os.kill, pid, number)
        diary.tell(os.waitpid, pid, 0)


def harmless_signals(diary: Diary) -> None:
    for number in (0, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT):
        pid = diary.start("sleep", "100")
        diary.tell(os.kill, pid, number)
        diary.tell(os.waitpid, pid, os.WNOHANG)
        diary.tell(os.kill, pid, signal.SIGKILL)
        diary.tell(os.waitpid, pid, 0)


def ignored_signals_stay_ignored(diary: Diary) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    pid = diary.start("sleep", "100")
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    caught = diary.start("sleep", "100")
    signal.signal(signal.SIGUSR1, before)
    for child in (pid, caught):
        os.kill(child, signal.SIGUSR1)
        os.kill(child, signal.SIGTERM)
        diary.tell(os.waitpid, child, 0)


def zombies(diary: Diary) -> None:
    pid = diary.start("true")
    diary.tell(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    for number in (0, signal.SIGTERM, signal.SIGKILL):
        diary.tell(os.kill, pid, number)
    diary.tell(os.getpgid, pid)
    diary.tell(os.getsid, pid)
    diary.tell(os.waitpid, pid, 0)
    for call in (os.getpgid, os.getsid, os.pidfd_open):
        diary.tell(call, pid)
    for number in (0, signal.SIGTERM, 99):
        diary.tell(os.kill, pid, number)
    diary.tell(os.waitpid, pid, 0)


def waiting_for_nobody(diary: Diary) -> None:
    for pid in (-1, 0, NOBODY, -NOBODY, os.getpid()):
        diary.tell(os.waitpid, pid, 0)
        diary.tell(os.waitpid, pid, os.WNOHANG)
        diary.tell(os.wait4, pid, 0)
    diary.tell(os.wait)
    diary.tell(os.wait3, 0)
    for kind in (os.P_ALL, os.P_PID, os.P_PGID):
        diary.tell(os.waitid, kind, NOBODY, os.WEXITED)


def wrong_options(diary: Diary) -> None:
    pid = diary.start("sleep", "100")
    for options in (os.WEXITED, os.WNOWAIT, 1 << 8, os.WNOHANG | os.WUNTRACED | os.WCONTINUED):
        diary.tell(os.waitpid, pid, options)
    for options in (0, os.WNOHANG, os.WNOWAIT, STATES | os.WNOHANG, STATES | os.WNOHANG | 1 << 8):
        diary.tell(os.waitid, os.P_PID, pid, options)
    for kind, ident in ((99, pid), (os.P_PID, 0), (os.P_PID, -1), (os.P_PGID, -1), (os.P_PIDFD, 0), (os.P_PIDFD, -1)):
        diary.tell(os.waitid, kind, ident, os.WEXITED | os.WNOHANG)
    for number in (-1, 65, 1000):
        diary.tell(os.kill, pid, number)
    diary.tell(os.pidfd_open, pid, 1)
    for none in (0, -1):
        diary.tell(os.pidfd_open, none)
    os.kill(pid, signal.SIGKILL)
    diary.tell(os.waitpid, pid, 0)


def all_ways_to_wait(diary: Diary) -> None:
    for status in ("exit 3", "exec sleep 100"):
        for wait in (
            lambda pid: os.waitpid(pid, 0),
            lambda pid: os.waitpid(-1, 0),
            lambda pid: os.waitpid(0, 0),
            lambda pid: os.wait(),
            lambda pid: os.wait3(0),
            lambda pid: os.wait4(pid, 0),
            lambda pid: os.waitid(os.P_ALL, 0, os.WEXITED),
            lambda pid: os.waitid(os.P_PID, pid, os.WEXITED),
            lambda pid: os.waitid(os.P_PGID, 0, os.WEXITED),
        ):
            pid = diary.start("sh", "-c", status)
            if "sleep" in status:
                os.kill(pid, signal.SIGTERM)
            diary.tell(wait, pid)
            diary.tell(os.waitpid, pid, 0)


def descriptors_of_processes(diary: Diary) -> None:
    pid = diary.start("sleep", "100")
    fd = os.pidfd_open(pid)
    diary.tell(os.get_inheritable, fd)
    diary.tell(lambda: select.select([fd], [], [], 0)[0] == [])
    diary.tell(os.waitid, os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
    os.kill(pid, signal.SIGTERM)
    diary.tell(lambda: select.select([fd], [], [], None)[0] == [fd])
    diary.tell(os.waitid, os.P_PIDFD, fd, os.WEXITED | os.WNOWAIT)
    diary.tell(os.waitid, os.P_PIDFD, fd, os.WEXITED)
    diary.tell(lambda: select.select([fd], [], [], None)[0] == [fd])
    diary.tell(os.waitid, os.P_PIDFD, fd, os.WEXITED)
    os.close(fd)


def groups(diary: Diary) -> None:
    same = diary.start("sleep", "100")
    first = diary.start("sleep", "100", process_group=0)
    second = diary.start("sleep", "100", process_group=first)
    alone = diary.start("sleep", "100", start_new_session=True)
    for pid in (0, same, first, second, alone):
        diary.tell(os.getpgid, pid)
        diary.tell(os.getsid, pid)
    diary.tell(os.getpgrp)
    for group in (NOBODY, alone, same):
        diary.tell(subprocess.Popen, ["true"], process_group=group)
    for group in (0, first):
        diary.tell(subprocess.Popen, ["true"], process_group=group, start_new_session=True)
        diary.tell(os.posix_spawn, "/bin/true", ["true"], os.environ, setpgroup=group, setsid=True)
    for pid, group in (
        (same, 0),
        (first, same),
        (alone, 0),
        (0, 0),
        (0, first),
        (0, NOBODY),
        (NOBODY, 0),
        (0, -1),
        (-1, 0),
    ):
        diary.tell(os.setpgid, pid, group)
    diary.tell(os.setsid)
    diary.tell(os.waitpid, -first, os.WNOHANG)
    diary.tell(os.killpg, first, signal.SIGTERM)
    for pid in (first, second):
        diary.tell(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    diary.tell(os.killpg, first, 0)
    diary.tell(os.waitpid, first, 0)
    diary.tell(os.waitid, os.P_PGID, first, os.WEXITED | os.WNOWAIT)
    diary.tell(os.killpg, first, 0)
    diary.tell(os.waitpid, -first, 0)
    diary.tell(os.waitpid, -first, 0)
    diary.tell(os.killpg, first, 0)
    diary.tell(os.killpg, NOBODY, signal.SIGTERM)
    diary.tell(os.kill, -alone, signal.SIGKILL)
    diary.tell(os.waitpid, -alone, 0)
    os.kill(same, signal.SIGKILL)
    diary.tell(os.waitpid, 0, 0)


def what_cannot_be_started(diary: Diary) -> None:
    with tempfile.TemporaryDirectory() as root:
        os.mkdir(f"{root}/directory")
        for name, mode in (("plain", 0o644), ("text", 0o755), ("empty", 0o755)):
            with open(f"{root}/{name}", "w") as file:
                file.write("" if name == "empty" else "some words\n")
            os.chmod(f"{root}/{name}", mode)
        for close_fds in (True, False):
            for args in (
                ["none"],
                [f"{root}/none"],
                [f"{root}/plain"],
                [f"{root}/plain/x"],
                [f"{root}/directory"],
                [f"{root}/text"],
                [""],
            ):
                diary.tell(subprocess.Popen, args, close_fds=close_fds)
            for cwd in ("none", "plain"):
                diary.tell(subprocess.Popen, ["/bin/true"], cwd=f"{root}/{cwd}", close_fds=close_fds)
        diary.tell(subprocess.Popen, ["plain"], env={"PATH": f"/none:{root}:{root}/plain"})
        diary.tell(subprocess.Popen, ["none"], env={"PATH": f"/none:{root}:{root}/plain"})
        for args in (["true", 5], ["tr\0ue"], ["true", None], 5, []):
            try:
                subprocess.Popen(args)  # type: ignore[call-overload]
            except (TypeError, ValueError, IndexError) as error:
                diary.lines.append(f"{type(error).__name__} {error}")
        for action in (
            (os.POSIX_SPAWN_OPEN, 5, f"{root}/none", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, 999, 1),
        ):
            diary.tell(os.posix_spawn, "/bin/true", ["true"], os.environ, file_actions=[action])
        diary.tell(os.posix_spawn, "/bin/true", ["true"], os.environ, setpgroup=NOBODY)
        diary.tell(os.posix_spawn, f"{root}/none", ["true"], os.environ)
        diary.tell(os.posix_spawnp, "none", ["true"], os.environ)
        diary.tell(os.posix_spawn, "/bin/true", [], os.environ)
        diary.tell(os.posix_spawn, "/bin/true", [""], os.environ)
        diary.tell(os.posix_spawn, "/bin/true", "true", os.environ)
    diary.tell(os.wait)


COMMANDS = (
    "", "  ", "exit", "exit 7", "exit 256", "exit 1 2", "true", "false", ":", "false; exit", "true && false || echo b",
    "false && echo a", "false || false || exit 3", "true || echo a; echo b", "false && echo a || echo b && echo c",
    "echo a;echo b", "echo a\n\n\necho b\n", "echo a;", "true &&\n\n echo a", "echo 'a  b' \"c d\" e\\ f '' \"\" g",
    "echo '$x *' \"'\" a~b x#y {} ]", "echo -n a; echo -n; echo b", "echo -- -e a", "A=1", "A=1 echo b",
    "no-such-program", "/no/such/program", "/etc/passwd", "/etc", "/etc/passwd/x", "exec", "exec; echo a",
    "exec no-such-program; echo a", "echo a; exec sh -c 'exit 4'; echo b", "sh -c 'exit 5'", "sh -c 'exit 5'; echo a",
    "sh -c no-such-program name", "true\nno-such-program; no-such-program", "echo 'a\nb'\nno-such-program",
    "'true' && \"echo\" a",
)  # fmt: skip


def shells(diary: Diary) -> None:
    for command in COMMANDS:
        done = subprocess.run(command, shell=True, capture_output=True, check=False)
        diary.lines.append(f"{command!r}: {done.returncode} {done.stdout!r} {done.stderr!r}")
    for command in ("exit 9", "true", "exec sleep 0", "false && true"):
        diary.tell(os.system, command)
    with os.popen("echo a; exit 3") as stream:
        diary.lines.append(stream.read())
    diary.tell(os.popen("exit 3").close)
    diary.tell(os.popen("true").close)
    diary.tell(subprocess.getstatusoutput, "echo a; no-such-program")


def children_that_hang_on(diary: Diary) -> None:
    for command in ("sleep 100", "sleep 100; true", "true; exec sleep 100"):
        pid = diary.start("sh", "-c", command, start_new_session=True)
        os.killpg(pid, signal.SIGTERM)
        diary.tell(os.waitpid, pid, 0)


def descriptors_that_are_passed_on(diary: Diary) -> None:
    for close_fds, inheritable, passed in (
        (True, True, False),
        (False, False, False),
        (False, True, False),
        (True, False, True),
    ):
        reader, writer = os.pipe()
        os.set_inheritable(writer, inheritable)
        options: dict[str, Any] = {"pass_fds": (writer,)} if passed else {"close_fds": close_fds}
        pid = diary.start("sleep", "100", **options)
        os.close(writer)
        # As long as the child has the other end there is no end of file.
        diary.tell(lambda fd=reader: select.select([fd], [], [], 0)[0] == [])
        os.kill(pid, signal.SIGKILL)
        diary.tell(os.waitpid, pid, 0)
        diary.tell(os.read, reader, 1)
        os.close(reader)


CASES: dict[str, Callable[[Diary], None]] = {
    case.__name__: case
    for case in (
        exit_codes, deadly_signals, harmless_signals, ignored_signals_stay_ignored, zombies, waiting_for_nobody,
        wrong_options, all_ways_to_wait, descriptors_of_processes, groups, what_cannot_be_started, shells,
        children_that_hang_on, descriptors_that_are_passed_on,
    )
}  # fmt: skip


def outcome(name: str) -> list[str]:
    diary = Diary()
    CASES[name](diary)
    return diary.lines


if __name__ == "__main__":
    # Whoever runs the tests may be deaf to these (nohup, a shell's background), and then so would be all children.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(json.dumps({name: outcome(name) for name in CASES}))
