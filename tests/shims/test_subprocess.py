"""All the ways in which programs are started: descriptors, users, paths, and what is wrong with a call."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from starting_tools import call, register_tools, shell

import simloop
from simloop.errors import EscapedSimulationError
from simloop.kernel.files.resolve import Credentials
from simloop.simulation.run import run

# --- descriptors ----------------------------------------------------------------------------------------


def test_passed_descriptors_keep_their_numbers() -> None:
    async def main() -> tuple[bytes, bytes, int]:
        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> int:
            source, target = int(proc.argv[1]), int(proc.argv[2])
            own = os.open("/work/file", os.O_RDONLY)
            assert own not in (source, target)
            os.write(target, os.read(source, 100) + os.read(own, 100))
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.read(int(proc.argv[3]), 1)
            assert os.get_inheritable(source)
            return 0

        simloop.current().fs.write_tree({"/work/file": "!"})
        (near, far), (back, forth), other = os.pipe(), os.pipe(), os.pipe()
        os.write(far, b"hello")
        process = await asyncio.create_subprocess_exec(
            "tool", str(near), str(forth), str(other[0]), pass_fds=(near, forth)
        )
        assert not os.get_inheritable(near)
        os.close(forth)
        code = await process.wait()
        # The child has ended, and nobody else has the other end.
        return os.read(back, 100), os.read(back, 100), code

    assert run(main, blocking="ignore") == (b"hello!", b"", 0)


@pytest.mark.parametrize("way", ["fork_exec", "posix_spawn"])
def test_without_close_fds_what_is_inheritable_is_passed_on(way: str) -> None:
    async def main() -> tuple[bool, bool]:
        found: list[bool] = []

        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            for text in proc.argv[1:]:
                try:
                    os.fstat(int(text))
                    found.append(True)
                except OSError:
                    found.append(False)

        first, second = os.pipe()
        os.set_inheritable(first, True)
        name = "/usr/bin/tool" if way == "posix_spawn" else "tool"
        subprocess.run([name, str(first), str(second)], close_fds=False, check=True)
        return found[0], found[1]

    assert run(main, blocking="ignore") == (True, False)


def test_a_descriptor_that_is_not_open_cannot_be_passed_on() -> None:
    async def main() -> None:
        register_tools()
        near, _ = os.pipe()
        with pytest.raises(OSError, match="Bad file descriptor"):
            subprocess.Popen(["say"], pass_fds=(near + 100,))

    run(main)


def test_posix_spawn_and_its_file_actions() -> None:
    async def main() -> tuple[Any, ...]:
        register_tools()
        sim = simloop.current()
        sim.fs.write_tree({"/work/in": "from a file", "/work/other": ""})
        near, far = os.pipe()
        pid = os.posix_spawnp(
            "cat",
            ["cat"],
            {"PATH": "/nowhere"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/work/in", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, far, 1),
                (os.POSIX_SPAWN_CLOSE, near),
            ],
            setpgroup=0,
        )
        group = os.getpgid(pid)
        os.close(far)
        status = os.waitpid(pid, 0)[1]
        codes = []
        for action in ((os.POSIX_SPAWN_DUP2, far, 1), (os.POSIX_SPAWN_OPEN, 5, "/work/none", os.O_RDONLY, 0)):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                os.posix_spawn("/bin/cat", ["cat"], os.environ, file_actions=[action])
            codes.append(caught.value.errno)
        return group == pid, status, os.read(near, 100), os.read(near, 100), codes

    assert run(main, blocking="ignore") == (True, 0, b"from a file", b"", [errno.EBADF, errno.ENOENT])


def test_posix_spawn_refuses_what_the_real_one_refuses() -> None:
    async def main() -> None:
        register_tools()
        with pytest.raises(FileNotFoundError, match="'/bin/nosuch'") as caught:
            os.posix_spawn("/bin/nosuch", ["x"], {})
        assert "@sim.program('/bin/nosuch')" in caught.value.__notes__[0]
        with pytest.raises(ValueError, match="posix_spawn: argv must not be empty"):
            os.posix_spawn("/bin/say", [], {})
        with pytest.raises(TypeError, match="posix_spawnp: argv must be a tuple or list"):
            os.posix_spawnp("say", "say", {})
        with pytest.raises(PermissionError):
            os.posix_spawn("/bin/say", ["say"], {}, setpgroup=99999)

    run(main)


# --- who runs it, and where -----------------------------------------------------------------------------


def test_preexec_fn_escapes() -> None:
    async def main() -> None:
        register_tools()
        with pytest.raises(
            EscapedSimulationError, match=r"test_subprocess\.py:\d+: preexec_fn is .* start_new_session"
        ):
            subprocess.Popen(["say"], preexec_fn=os.setsid)
        raise ZeroDivisionError

    with pytest.raises(EscapedSimulationError):
        run(main)


def test_umask_of_a_child() -> None:
    async def main() -> tuple[str, ...]:
        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            os.close(os.open(proc.argv[1], os.O_CREAT | os.O_WRONLY))

        simloop.current().fs.write_tree({"/nowhere": {}})
        os.umask(0o022)
        subprocess.run(["tool", "/nowhere/a"], check=True)
        subprocess.run(["tool", "/nowhere/b"], check=True, umask=0o077)
        return tuple(oct(os.stat(f"/nowhere/{name}").st_mode & 0o777) for name in "ab")

    assert run(main, blocking="ignore") == ("0o755", "0o700")


@pytest.mark.parametrize(
    ("own", "options", "allowed"),
    [
        (1000, {"user": 1000}, True),
        (1000, {"user": 0}, False),
        (1000, {"group": 1000}, True),
        (1000, {"group": 5}, False),
        (1000, {"extra_groups": [1000]}, False),
        (0, {"user": 7, "group": 8, "extra_groups": [9]}, True),
    ],
)
def test_only_root_can_be_somebody_else(own: int, options: dict[str, Any], allowed: bool) -> None:
    async def main() -> None:
        register_tools()
        world = simloop.current()._world
        world.files().credentials = Credentials(own, own, (own,))
        if allowed:
            child = subprocess.Popen(["hang"], **options)
            found = next(process for process in world.processes if process.pid == child.pid).calls.credentials
            assert found == Credentials(
                options.get("user", own), options.get("group", own), (9,) if not own else (own,)
            )
            child.kill()
            child.wait()
        else:
            with pytest.raises(PermissionError):
                subprocess.Popen(["hang"], **options)

    run(main, blocking="ignore")


def test_groups_and_sessions() -> None:
    async def main() -> None:
        register_tools()
        first = subprocess.Popen(["hang"], process_group=0)
        second = subprocess.Popen(["hang"], process_group=first.pid)
        assert os.getpgid(first.pid) == os.getpgid(second.pid) == first.pid
        assert os.getsid(second.pid) == os.getsid(0)
        with pytest.raises(PermissionError):
            subprocess.Popen(["hang"], process_group=99999)
        os.killpg(first.pid, signal.SIGTERM)
        assert [first.wait(), second.wait()] == [-15, -15]
        with pytest.raises(PermissionError):
            os.setpgid(0, 99999)

    run(main, blocking="ignore")


@pytest.mark.parametrize("close_fds", [True, False])
@pytest.mark.parametrize(("cwd", "kind"), [("/work/none", FileNotFoundError), ("/work/file", NotADirectoryError)])
def test_a_directory_that_is_not_there(cwd: str, kind: type[OSError], close_fds: bool) -> None:
    async def main() -> None:
        register_tools()
        simloop.current().fs.write_tree({"/work/file": ""})
        with pytest.raises(kind) as caught:
            subprocess.Popen(["/bin/say"], cwd=cwd, close_fds=close_fds)
        assert caught.value.filename == cwd
        assert not hasattr(caught.value, "__notes__")

    run(main)


def test_which_file_is_run() -> None:
    async def main() -> list[bytes]:
        sim = simloop.current()
        sim.fs.write_tree({"/work/bin": {}})
        sim.program("/opt/a/tool", stdout=b"a")
        sim.program("/opt/b/tool", stdout=b"b")
        sim.program("/work/bin/mine", stdout=b"mine")
        sim.program("./odd", stdout=b"odd")
        return [
            (await call("tool", env={"PATH": "/opt/b:/opt/a"}))[1],
            (await call("tool", env={"PATH": "/opt/none:/opt/a:/opt/b"}))[1],
            (await call("anything", executable="/opt/a/tool"))[1],
            (await call("bin/mine", cwd="/work"))[1],
            (await call("../bin/mine", cwd="/work/bin"))[1],
            (await call("mine", cwd="/work", env={"PATH": "bin"}))[1],
            (await call("./odd"))[1],
            (await call(Path("/opt/a/tool")))[1],
        ]

    assert run(main) == [b"b", b"a", b"a", b"mine", b"mine", b"mine", b"odd", b"a"]


def test_files_that_nobody_plays() -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.fs.write_tree({"/work/plain": "#!/bin/sh\n", "/work/text": "hello", "/work/script": "#!/bin/sh\n"})
        for name in ("text", "script"):
            os.chmod(f"/work/{name}", 0o755)
        for name, kind, number in (
            ("/work/plain", PermissionError, errno.EACCES),
            ("/work", PermissionError, errno.EACCES),
            ("/work/plain/x", NotADirectoryError, errno.ENOTDIR),
            ("/work/text", OSError, errno.ENOEXEC),
            (sys.executable, FileNotFoundError, errno.ENOENT),
        ):
            with pytest.raises(kind) as caught:
                subprocess.Popen([name])
            assert (caught.value.errno, caught.value.filename) == (number, name)
            if number != errno.ENOTDIR:
                assert f"@sim.program({name!r})" in caught.value.__notes__[0]
        assert (await shell("/work/plain"))[0] == 126
        with pytest.raises(PermissionError):
            subprocess.Popen(["plain"], env={"PATH": "/none:/work:/other"})
        subprocess.Popen(["/work/script"])

    with pytest.raises(EscapedSimulationError, match=r"test_subprocess\.py:\d+: running the file '/work/script'"):
        run(main)


@pytest.mark.parametrize(
    ("start", "kind", "message"),
    [
        (lambda: subprocess.Popen(["say", 5]), TypeError, "expected str, bytes or os.PathLike object, not int"),
        (lambda: subprocess.Popen(5), TypeError, "'int' object is not iterable"),
        (lambda: subprocess.Popen(["say", "a\0b"]), ValueError, "embedded null byte"),
        (lambda: subprocess.Popen(["say"], cwd=5), TypeError, "expected str, bytes or os.PathLike object, not int"),
        (lambda: subprocess.Popen(["say"], env={"A": "b\0"}), ValueError, "embedded null byte"),
        (lambda: subprocess.Popen(["say"], env={"A=": "b"}), ValueError, "illegal environment variable name"),
        (lambda: os.posix_spawn("/bin/say", ["say"], {"A": 1}), TypeError, "expected str, bytes or os.PathLike"),
    ],
)
def test_wrong_arguments_fail_as_they_do_outside(start: Callable[[], Any], kind: type[Exception], message: str) -> None:
    async def main() -> None:
        register_tools()
        with pytest.raises(kind, match=message):
            start()

    with pytest.raises(kind, match=message):
        start()
    run(main)


def test_which_finds_registered_programs() -> None:
    async def main() -> list[Any]:
        sim = simloop.current()
        sim.program("ffmpeg", "-version", stdout=b"!")
        sim.program("/opt/x/tool")
        sim.program("py*")
        sim.fs.write_tree({"/work/script": "#!"})
        os.chmod("/work/script", 0o755)
        found = shutil.which("ffmpeg")
        assert found is not None
        return [
            (await call(found, "-version"))[1],
            found,
            shutil.which(b"ffmpeg"),
            shutil.which("/usr/bin/ffmpeg"),
            shutil.which("tool"),
            shutil.which("tool", path="/none:/opt/x"),
            shutil.which("ffmpeg", path="/opt/y:/opt/x"),
            shutil.which("script", path="/work"),
            shutil.which("no-such-program"),
        ]

    assert run(main) == [
        b"!", "/usr/bin/ffmpeg", b"/usr/bin/ffmpeg", "/usr/bin/ffmpeg", None, "/opt/x/tool", "/opt/y/ffmpeg",
        "/work/script", None,
    ]  # fmt: skip


def test_a_child_hands_its_own_environment_on() -> None:
    async def main() -> bytes:
        register_tools()

        @simloop.current().program("outer")
        async def outer(proc: simloop.SimProcess) -> None:
            process = await asyncio.create_subprocess_exec("setting", "A")
            await process.wait()

        return (await call("outer", env={"A": "1"}))[1]

    assert run(main) == b"1"


# --- waiting --------------------------------------------------------------------------------------------


def test_wait3_wait4_and_waitid() -> None:
    async def main() -> None:
        register_tools()
        child = subprocess.Popen(["hang"])
        assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG) is None
        assert os.wait4(child.pid, os.WNOHANG)[:2] == os.wait3(os.WNOHANG)[:2] == (0, 0)
        child.kill()
        fd = os.pidfd_open(child.pid)
        for kind, ident in ((os.P_PID, child.pid), (os.P_PGID, 0), (os.P_ALL, 0), (os.P_PIDFD, fd)):
            found = os.waitid(kind, ident, os.WEXITED | os.WNOWAIT)
            assert found is not None
            assert (found.si_pid, found.si_signo) == (child.pid, signal.SIGCHLD)
            assert (found.si_status, found.si_code) == (signal.SIGKILL, os.CLD_KILLED)
        pid, status, usage = os.wait4(-1, 0)
        assert (pid, status, usage.ru_utime) == (child.pid, signal.SIGKILL, 0.0)
        with pytest.raises(ChildProcessError):
            os.waitid(os.P_PIDFD, fd, os.WEXITED)
        subprocess.Popen(["give", "5"])
        found = os.waitid(os.P_ALL, 0, os.WEXITED)
        assert found is not None
        assert (found.si_status, found.si_code) == (5, os.CLD_EXITED)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of Popen objects that nobody waited with
        run(main, blocking="ignore")


def test_errors_of_waiting() -> None:
    async def main() -> list[int]:
        register_tools()
        child = subprocess.Popen(["hang"])
        found = []
        for wait in (
            lambda: os.waitpid(child.pid, 1 << 8),
            lambda: os.waitid(os.P_PID, child.pid, os.WNOHANG),
            lambda: os.waitid(99, child.pid, os.WEXITED),  # type: ignore[arg-type]
            lambda: os.waitid(os.P_PID, 0, os.WEXITED),
            lambda: os.waitid(os.P_PIDFD, 0, os.WEXITED),
            lambda: os.waitid(os.P_PID, 99999, os.WEXITED),
            lambda: os.pidfd_open(99999),
            lambda: os.pidfd_open(0),
            lambda: os.setpgid(child.pid, 0),
            lambda: os.setpgid(99999, 0),
            lambda: os.setpgid(0, -1),
        ):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                wait()  # type: ignore[no-untyped-call]
            found.append(caught.value.errno)
        child.kill()
        child.wait()
        return found

    E = errno
    assert run(main, blocking="ignore") == [
        E.EINVAL, E.EINVAL, E.EINVAL, E.EINVAL, E.EBADF, E.ECHILD, E.ESRCH, E.EINVAL, E.EACCES, E.ESRCH, E.EINVAL,
    ]  # fmt: skip


# --- what is left at the end ----------------------------------------------------------------------------


def test_what_is_left_of_processes_is_told_once_and_then_forgotten() -> None:
    kept: list[Any] = []

    async def main() -> None:
        register_tools()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "hang", stdin=None, stderr=None)
        kept.extend([transport, subprocess.Popen(["hang"])])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main)
    told = [str(warning.message) for warning in caught]
    assert [text.split()[:3] for text in told] == [
        ["unclosed", "transport", "<_UnixReadPipeTransport"],
        ["unclosed", "transport", "<_UnixSubprocessTransport"],
        ["child", "localhost:hang#2", "(pid"],
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept.clear()
    assert not caught
    assert not subprocess._active  # type: ignore[attr-defined]


def test_a_real_process_from_outside_of_the_world_stays_real() -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    async def main() -> int | None:
        return child.poll()

    assert run(main) == 3


def test_asyncio_waiting_for_a_child_blames_nobody_for_a_blocking_call() -> None:
    async def main() -> None:
        simloop.current().program("tool")
        process = await asyncio.create_subprocess_exec("tool")
        await process.wait()

    for seed in range(100):
        run(main, seed=seed, blocking="fail")


def test_what_a_test_mocks_is_not_called_by_simloop_itself() -> None:
    async def main() -> tuple[list[Any], list[Any]]:
        with mock.patch("os.write") as write, pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("missing")
        os.mkdir("/here", 0o700)
        with mock.patch("os.geteuid", return_value=1000) as geteuid:
            first, second = socket.socketpair()
            await simloop.current().host("other").run(lambda: asyncio.to_thread(os.mkdir, "/there"))
            first.close(), second.close()
        return write.mock_calls, geteuid.mock_calls

    assert run(main) == ([], [])
