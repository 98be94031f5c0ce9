"""Synchronous programs, several at once, that wait for one another: every run must agree with Linux.

Each runs first with real processes, and is then explored with ones that are played by the same functions. What starts
them is synchronous, too: it blocks the main thread of the test, or a thread beside its loop.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import importlib
import logging
import mailbox
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import sizes
from blocking_scripts import PIPE, RUNNER, SCRIPTS, command, nap, receive_all
from corpus import Corpus, Program, check_real, check_simulated, name_of
from sizes import examples

import simloop

# What scripts import by themselves: here, since the first import in a run reads files, and later ones do not.
for name in ("hashlib", "http.client", "http.server", "socketserver"):
    importlib.import_module(name)

#: Programs that take a directory of their own.
corpus = Corpus()
gives = corpus.gives


class Script:
    """A script that runs. At the end of its ``with`` block its input is closed, and it must end by itself."""

    def __init__(self, name: str, *arguments: object, **options: Any) -> None:
        self.popen = subprocess.Popen(command(name, *arguments), **{"stdin": PIPE, "stdout": PIPE, **options})
        self.pid = self.popen.pid

    def __enter__(self) -> Script:
        return self

    def __exit__(self, error: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        if error is None:
            self.rest()
        else:
            self.popen.kill()
            self.popen.communicate()

    def line(self) -> str:
        assert self.popen.stdout is not None
        return str(self.popen.stdout.readline().decode().rstrip("\n"))

    def tell(self, text: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{text}\n".encode())
        self.popen.stdin.flush()

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def answer_to(self, number: int) -> str:
        """Return the line that the script writes because of a signal. A signal that comes just before a call blocks is
        handled when the call returns, so it is sent again to a script that is silent."""
        assert self.popen.stdout is not None
        while True:
            self.signal(number)
            if select.select([self.popen.stdout], [], [], 10)[0]:
                return self.line()

    def rest(self) -> list[str]:
        """Close the script's input, wait for its end, and return the rest of its output."""
        assert self.popen.stdout is not None
        if self.popen.stdout.closed:
            self.popen.wait()
            return []
        output: bytes = self.popen.communicate()[0]
        return output.decode().splitlines()

    def ended(self) -> list[Any]:
        """Return its exit code, and then the rest of its output."""
        lines = self.rest()
        return [self.popen.returncode, *lines]


def together(*commands: tuple[object, ...], **options: Any) -> list[list[str]]:
    """Run scripts at once, and return the lines of each. All of them must succeed."""
    scripts = [Script(*words, **options) for words in commands]  # type: ignore[arg-type]
    lines = [script.rest() for script in scripts]
    assert [script.popen.returncode for script in scripts] == [0] * len(scripts)
    return lines


# --- sockets --------------------------------------------------------------------------------------------


@gives([["A"] * 3, ["BB"] * 3, ["CCC"] * 3])
def clients_of_an_echo_server_take_turns(at: Path) -> list[list[str]]:
    with Script("echo_server", 3) as server:
        port = server.line()
        return together(*(("echo_client", port, word) for word in ("a", "bb", "ccc")))


@gives(18)
def a_server_with_a_thread_for_each_client(at: Path) -> int:
    with Script("counting_server", 3) as server:
        port = server.line()
        together(*(("counting_client", port, number) for number in (1, 2, 3)))
        return int(server.line())


@gives("True at last")
def a_client_waits_until_its_server_listens(at: Path) -> str:
    with Script("late_server") as server, Script("patient_client", server.line()) as client:
        assert client.line() == "refused"
        server.tell("listen")
        return client.line()


@gives([["True"]])
def an_answer_comes_after_the_end_of_the_data(at: Path) -> list[list[str]]:
    with Script("digest_server") as server:
        return together(("digest_client", server.line()))


@gives([["True"]])
def a_proxy_hands_on_both_directions(at: Path) -> list[list[str]]:
    with Script("digest_server") as server, Script("proxy", server.line()) as proxy:
        return together(("digest_client", proxy.line()))


@gives([["hello of a,hello of b,hello of c"]] * 3)
def everybody_in_a_chat_hears_everybody(at: Path) -> list[list[str]]:
    with Script("chat_server", 3) as server:
        port = server.line()
        return together(*(("chat_client", port, name, 3) for name in "abc"))


@gives([0, "served 2"])
def a_server_ends_between_two_clients(at: Path) -> list[Any]:
    with Script("graceful_server") as server:
        port = server.line()
        answers = together(("reverse_client", port, "abc"), ("reverse_client", port, "xyz"))
        assert answers == [["cba"], ["zyx"]]
        server.signal(signal.SIGTERM)
        return server.ended()


@gives([b"served", b"served"])
def workers_share_a_listening_socket(at: Path) -> list[bytes]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        workers = [Script("accepts_once", fd, pass_fds=[fd]) for _ in range(2)]
        answers = []
        for _ in range(2):
            with socket.create_connection(listening.getsockname()) as connection:
                answers.append(receive_all(connection))
    assert [worker.ended() for worker in workers] == [[0], [0]]
    return answers


@gives([["0", "1", "5000"]] * 2)
def frames_are_put_together(at: Path) -> list[list[str]]:
    with Script("sum_server", 2) as server:
        port = server.line()
        return together(("sum_client", port), ("sum_client", port))


@gives([0, "done"])
def a_client_that_gave_up_waits_again(at: Path) -> list[Any]:
    with Script("slow_server") as server, Script("impatient_client", server.line()) as client:
        assert client.line() == "timed out"
        server.tell("go on")
        return client.ended()


# --- pipes ----------------------------------------------------------------------------------------------


@gives(["2450"])
def a_pipeline_of_three(at: Path) -> list[str]:
    with (
        Script("yes", 100, stdin=subprocess.DEVNULL) as source,
        Script("evens", stdin=source.popen.stdout) as middle,
        Script("total", stdin=middle.popen.stdout) as sink,
    ):
        for script in (source, middle):
            assert script.popen.stdout is not None
            script.popen.stdout.close()
        return sink.rest()


@gives((200_000, b"200000"))
def a_blocking_write_writes_all(at: Path) -> tuple[int, bytes]:
    with Script("big_write", 200_000, stderr=PIPE) as script:
        output, errors = script.popen.communicate()
        return len(output), errors


@gives(7)
def a_pipe_that_nobody_reads_is_broken(at: Path) -> int:
    script = Script("writes_until_broken", stdin=subprocess.DEVNULL)
    assert script.popen.stdout is not None
    script.popen.stdout.read(10)
    script.popen.stdout.close()
    return script.popen.wait()


@gives((100_007, 100_000, b"300000\n"))
def much_on_three_pipes_at_once(at: Path) -> tuple[int, int, bytes]:
    with Script("both_streams", 100_000, stderr=PIPE) as script:
        output, errors = script.popen.communicate(b"i" * 300_000)
        return len(output), len(errors), output[-7:]


@gives(["3", "7", "11"])
def a_coprocess_answers_line_by_line(at: Path) -> list[str]:
    answers = []
    with Script("adder") as script:
        for line in ("1 2", "3 4", "5 6"):
            script.tell(line)
            answers.append(script.line())
    return answers


@gives([[], [], ["20"]])
def a_ring_of_pipes(at: Path) -> list[list[str]]:
    pipes = [os.pipe() for _ in range(3)]
    members = []
    for number in range(3):
        source, target = pipes[number][0], pipes[(number + 1) % 3][1]
        members.append(Script("ring_member", source, target, int(number == 0), pass_fds=[source, target]))
    for pipe in pipes:
        os.close(pipe[0])
        os.close(pipe[1])
    return sorted(member.rest() for member in members)


@gives([True, True, 12])
def tokens_in_a_pipe_limit_jobs(at: Path) -> list[Any]:
    source, target = os.pipe()
    os.write(target, b"tt")
    together(*[("job_with_token", source, target, at / "log")] * 4, pass_fds=[source, target])
    tokens = os.read(source, 100)
    os.close(source)
    os.close(target)
    log, inside, most = (at / "log").read_text(), 0, 0
    for char in log:
        inside += 1 if char == "+" else -1
        most = max(most, inside)
    return [tokens == b"tt" and inside == 0, 1 <= most <= 2, log.count("+")]


@gives([["5"], []])
def a_fifo_joins_two(at: Path) -> list[list[str]]:
    os.mkfifo(at / "fifo")
    return together(("fifo_reader", at / "fifo"), ("fifo_writer", at / "fifo", "x"))


@gives([["open", "EPIPE"], ["1"]])
def a_fifo_whose_reader_is_gone_is_broken(at: Path) -> list[list[str]]:
    os.mkfifo(at / "fifo")
    return together(("fifo_breaks", at / "fifo"), ("fifo_reads_once", at / "fifo"))


@gives(["a"] * 5 + ["b"] * 5 + ["c"] * 5)
def lines_of_several_writers_of_a_fifo_stay_whole(at: Path) -> list[str]:
    os.mkfifo(at / "fifo")
    with open(os.open(at / "fifo", os.O_RDWR), "rb") as fifo:
        together(*(("fifo_writer", at / "fifo", name) for name in "abc"))
        return sorted(fifo.readline().decode().strip() for _ in range(15))


@gives(["ONE", "TWO"])
def requests_and_answers_by_two_fifos(at: Path) -> list[str]:
    for name in ("requests", "answers"):
        os.mkfifo(at / name)
    with Script("fifo_server", at / "requests", at / "answers", 2) as server:
        assert server.line() == "ready"
        answers = []
        with open(at / "requests", "w") as requests, open(at / "answers") as lines:
            for word in ("one", "two"):
                requests.write(f"{word}\n")
                requests.flush()
                answers.append(lines.readline().strip())
        return answers


# --- files ----------------------------------------------------------------------------------------------


def counted(at: Path, *scripts: str) -> int:
    (at / "count").write_text("0")
    together(*((script, at / "count") for script in scripts))
    return int((at / "count").read_text())


@gives(12)
def a_count_under_a_file_that_must_be_new(at: Path) -> int:
    return counted(at, *["counts_excl"] * 4)


@gives(12)
def a_count_under_a_directory_that_must_be_new(at: Path) -> int:
    return counted(at, *["counts_mkdir"] * 4)


@gives(12)
def a_count_under_a_link_that_must_be_new(at: Path) -> int:
    return counted(at, *["counts_link"] * 4)


@gives(12)
def a_count_under_flock(at: Path) -> int:
    return counted(at, *["counts_flock"] * 2, *["counts_flock_in_turns"] * 2)


@gives(12)
def a_count_under_lockf(at: Path) -> int:
    return counted(at, *["counts_lockf"] * 4)


@gives((6, 6, 3))
def counts_in_records_that_are_locked_one_by_one(at: Path) -> tuple[int, ...]:
    (at / "records").write_bytes(bytes(12))
    together(*(("counts_of_a_record", at / "records", number) for number in (0, 0, 1, 1, 2)))
    return struct.unpack("!3I", (at / "records").read_bytes())


@gives("4 4")
def readers_share_a_lock_that_the_writer_has_alone(at: Path) -> str:
    (at / "pair").write_text("0 0")
    together(*((script, at / "pair") for script in ("reads_pairs", "writes_pairs", "reads_pairs")))
    return (at / "pair").read_text()


@gives([True, 1, [0, "started"]])
def only_one_instance_runs(at: Path) -> list[Any]:
    with Script("single_instance", at / "pid") as first:
        assert first.line() == "started"
        with Script("single_instance", at / "pid") as second:
            refused = second.line() == f"runs as {first.pid}"
            code = second.ended()[0]
    with Script("single_instance", at / "pid") as third:
        return [refused, code, third.ended()]


@gives([[], ["20"], ["20"]])
def what_is_published_by_rename_is_whole(at: Path) -> list[list[str]]:
    path = at / "published"
    return together(("publisher", path, 20), ("subscriber", path, 20), ("subscriber", path, 20))


def lines_in_order(text: str) -> bool:
    """Return True if each name has the lines 0 to 9, in this order."""
    seen: dict[str, list[int]] = {}
    for line in text.splitlines():
        name, number, *_ = line.split()
        seen.setdefault(name, []).append(int(number))
    return len(seen) == 3 and all(numbers == list(range(10)) for numbers in seen.values())


@gives(True)
def a_log_of_several_writers_keeps_each_line(at: Path) -> bool:
    together(*(("appends", at / "log", name) for name in "abc"))
    return lines_in_order((at / "log").read_text())


@gives(True)
def a_log_that_stays_open_keeps_each_line(at: Path) -> bool:
    together(*(("appends_to_one", at / "log", name) for name in "abc"))
    return lines_in_order((at / "log").read_text())


@gives(True)
def a_log_that_is_rotated_loses_nothing(at: Path) -> bool:
    together(*(("logs_watching", at / "log", name) for name in "abc"), ("rotates", at / "log", 4))
    old = [at / f"log.{number}" for number in range(4)]
    return lines_in_order("".join(path.read_text() for path in [*old, at / "log"] if path.exists()))


@gives(["one\n", "two\nthree\n"])
def a_log_is_opened_anew_on_sighup(at: Path) -> list[str]:
    with Script("logs_until_told", at / "log") as script:
        assert script.line() == "ready"
        script.tell("one")
        assert script.line() == "written"
        os.rename(at / "log", at / "old")
        script.signal(signal.SIGHUP)
        for line in ("two", "three"):
            script.tell(line)
            assert script.line() == "written"
    return [(at / "old").read_text(), (at / "log").read_text()]


def with_jobs(at: Path) -> Path:
    for number in range(6):
        (at / f"{number}.job").write_text(str(number))
    return at


@gives([0, 1, 4, 9, 16, 25])
def jobs_are_claimed_by_rename(at: Path) -> list[int]:
    lines = together(*[("claims_by_rename", with_jobs(at))] * 3)
    return sorted(int(line) for some in lines for line in some)


@gives([0, 1, 4, 9, 16, 25])
def jobs_are_claimed_by_new_files(at: Path) -> list[int]:
    lines = together(*[("claims_by_excl", with_jobs(at))] * 3)
    return sorted(int(line) for some in lines for line in some)


@gives([["8"], [], []])
def messages_are_delivered_to_a_maildir(at: Path) -> list[list[str]]:
    for name in ("tmp", "new", "cur"):
        (at / name).mkdir()
    return together(("collects", at, 8), ("delivers", at, "a"), ("delivers", at, "b"))


@gives([["all there"]] * 4)
def processes_meet_in_a_directory(at: Path) -> list[list[str]]:
    return together(*(("meets", at, name, 4) for name in "abcd"))


@gives([["follower"], ["follower"], ["leader"]])
def one_is_elected(at: Path) -> list[list[str]]:
    return sorted(together(*[("elects", at)] * 3))


@gives(list(range(1, 10)))
def numbers_are_taken_once(at: Path) -> list[int]:
    return sorted(int(line) for some in together(*[("takes_numbers", at)] * 3) for line in some)


@gives("190")
def a_sum_survives_kill(at: Path) -> str:
    for _ in range(3):
        with Script("sums_with_checkpoints", at / "state") as script:
            assert script.line() == "begun"
            script.popen.kill()
    return str(together(("sums_with_checkpoints", at / "state"))[0][-1])


@gives([["11"], [], ["11"]])
def a_file_that_grows_is_followed(at: Path) -> list[list[str]]:
    return together(("follows", at / "log"), ("writes_slowly", at / "log"), ("follows", at / "log"))


@gives([("A", 5000), ("B", 5000), ("C", 5000)])
def parts_of_a_file_are_filled_at_once(at: Path) -> list[tuple[str, int]]:
    (at / "parts").write_bytes(bytes(15_000))
    together(*(("fills_a_part", at / "parts", part) for part in range(3)))
    data = (at / "parts").read_text()
    return [(part[0], part.count(part[0])) for part in (data[:5000], data[5000:10_000], data[10_000:])]


@gives([15, 5])
def directories_are_made_by_several(at: Path) -> list[int]:
    together(*(("fills_a_directory", at, name) for name in "abc"))
    paths = list(at.rglob("*"))
    return [sum(path.is_file() for path in paths), sum(path.is_dir() for path in paths)]


# --- signals --------------------------------------------------------------------------------------------


@gives([3, "bye"])
def sigterm_runs_what_tidies_up(at: Path) -> list[Any]:
    with Script("ends_gracefully") as script:
        assert script.line() == "ready"
        script.signal(signal.SIGTERM)
        return script.ended()


@gives([0, "all ended"])
def sigterm_lets_a_job_end(at: Path) -> list[Any]:
    with Script("ends_between_jobs") as script:
        assert script.line() == "ready"
        script.signal(signal.SIGTERM)
        return script.ended()


@gives(["one", "two", "three"])
def sighup_loads_anew(at: Path) -> list[Any]:
    seen: list[Any] = []
    (at / "config").write_text("one")
    with Script("reloads", at / "config") as script:
        seen.append(script.line())
        for text in ("two", "three"):
            (at / "config").write_text(text)
            seen.append(script.answer_to(signal.SIGHUP))
        script.popen.kill()
        return seen


@gives(["0", "1", "2", "3", 0, "in all 3"])
def signals_that_are_acknowledged_are_all_seen(at: Path) -> list[Any]:
    with Script("acknowledges") as script:
        seen: list[Any] = [script.line()]
        for _ in range(3):
            seen.append(script.answer_to(signal.SIGUSR1))
        return seen + script.ended()


def interrupted(where: str) -> list[Any]:
    with Script("interrupted", where) as script:
        assert script.line() == "ready"
        said = script.answer_to(signal.SIGINT)
        return [script.popen.wait(), said]


def _add_interrupted(where: str) -> None:
    def program(at: Path) -> list[Any]:
        return interrupted(where)

    program.__name__ = f"ctrl_c_in_{where.replace(' ', '_')}"
    gives([130, "interrupted"])(program)


for call in (
    "sleep", "read", "write", "accept", "lock", "event", "queue", "simple queue", "select", "pause", "child", "stdin"
):  # fmt: skip
    _add_interrupted(call)


@gives([0, "three"])
def pause_returns_after_each_of_many_signals(at: Path) -> list[Any]:
    with Script("counts_down_on_signals") as script:
        assert script.line() == "ready"
        while script.popen.poll() is None:
            script.signal(signal.SIGUSR2)
            nap()
        return script.ended()


@gives(["SIGUSR2", "SIGUSR1", "SIGUSR1", "SIGTERM", 0])
def sigwait_takes_one_signal_after_another(at: Path) -> list[Any]:
    seen: list[Any] = []
    with Script("waits_with_sigwait") as script:
        assert script.line() == "ready"
        for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
            script.signal(number)
            seen.append(script.line())
        return seen + script.ended()


@gives(["too late", "in time"])
def an_alarm_ends_a_read(at: Path) -> list[str]:
    with Script("times_out_by_alarm") as script:
        seen = [script.line()]
        script.tell("in time")
        seen.append(script.line())
    return seen


@gives([["three"], ["three"]])
def interval_timers_tick(at: Path) -> list[list[str]]:
    return together(("ticks",), ("ticks",))


@gives([0, *map(str, range(10))])
def a_read_goes_on_after_a_handler(at: Path) -> list[Any]:
    with Script("goes_on_reading") as script:
        assert script.line() == "ready"
        for number in range(10):
            script.signal(signal.SIGUSR1)
            script.tell(str(number))
        return script.ended()


@gives(["TimeoutExpired", True])
def run_with_a_time_limit_kills(at: Path) -> list[Any]:
    with Script("sleeps") as script:
        assert script.line() == "ready"
        try:
            subprocess.run(command("sleeps"), stdin=subprocess.DEVNULL, stdout=PIPE, timeout=0.2)
        except subprocess.TimeoutExpired as error:
            name = type(error).__name__
        alive = script.popen.poll() is None
        script.popen.kill()
    return [name, alive]


@gives(["TimeoutExpired", b"3\n", 0])
def communicate_goes_on_after_a_time_limit(at: Path) -> list[Any]:
    source, target = os.pipe()
    script = subprocess.Popen(command("adder"), stdin=source, stdout=PIPE)
    os.close(source)
    try:
        script.communicate(timeout=0.05)
    except subprocess.TimeoutExpired as error:
        seen: list[Any] = [type(error).__name__]
    os.write(target, b"1 2\n")
    os.close(target)
    return [*seen, script.communicate()[0], script.returncode]


@gives([-signal.SIGKILL, "TimeoutExpired"])
def kill_follows_where_terminate_is_ignored(at: Path) -> list[Any]:
    with Script("ignores", "SIGTERM") as script:
        assert script.line() == "ready"
        script.popen.terminate()
        try:
            script.popen.wait(timeout=0.05)
        except subprocess.TimeoutExpired as error:
            script.popen.kill()
            return [script.popen.wait(), type(error).__name__]
    return []


@gives([0, "-15,-15"])
def a_signal_to_a_group_reaches_all_of_it(at: Path) -> list[Any]:
    with Script("leads_a_group", start_new_session=True) as script:
        assert script.line() == "ready"
        os.killpg(script.pid, signal.SIGTERM)
        return script.ended()


@gives([["True"]])
def waitpid_finds_all_children(at: Path) -> list[list[str]]:
    return together(("reaps_all",))


@gives([["True"]])
def a_handler_of_sigchld_finds_all_children(at: Path) -> list[list[str]]:
    return together(("reaps_on_sigchld",))


@gives([["3"]])
def a_child_that_fails_is_started_again(at: Path) -> list[list[str]]:
    return together(("supervisor", at / "tries"))


@gives([0, "3,4"])
def sigterm_is_handed_on_to_children(at: Path) -> list[Any]:
    with Script("supervisor_of_two") as script:
        assert script.line() == "ready"
        script.signal(signal.SIGTERM)
        return script.ended()


@gives([["8"]])
def a_tree_of_processes_sums_up(at: Path) -> list[list[str]]:
    return together(("tree", 3))


@gives(["1", [0, "2"]])
def a_process_that_is_stopped_goes_on(at: Path) -> list[Any]:
    with Script("adder") as script, Script("adder") as other:
        script.signal(signal.SIGSTOP)
        script.tell("2")
        other.tell("1")
        answer = other.line()
        script.signal(signal.SIGCONT)
        return [answer, script.ended()]


@gives([[0, "a"], [0, "b"]])
def threads_stop_on_sigterm(at: Path) -> list[Any]:
    with Script("works_until_stopped", "a") as first, Script("works_until_stopped", "b") as second:
        for script in (first, second):
            assert script.line() == "ready"
            script.signal(signal.SIGTERM)
        return [first.ended(), second.ended()]


@gives(["2", "4", "6", "8"])
def threads_have_a_coprocess_each(at: Path) -> list[str]:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        with Script("adder") as script:
            script.tell(f"{number} {number}")
            answers[number] = script.line()

    threads = [threading.Thread(target=ask, args=[number]) for number in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[number] for number in sorted(answers)]


# --- ends -----------------------------------------------------------------------------------------------


@gives([3, "0", "1", "2"])
def python_waits_for_threads_at_its_end(at: Path) -> list[Any]:
    with Script("leaves_a_thread") as script:
        return script.ended()


@gives([4, 4])
def python_does_all_jobs_of_executors_at_its_end(at: Path) -> list[int]:
    with Script("leaves_a_pool") as script:
        lines = script.rest()
        return [lines.count("done"), sum(line.startswith("submitted") for line in lines)]


@gives([4, "left"])
def python_waits_for_no_daemon(at: Path) -> list[Any]:
    with Script("leaves_a_daemon") as script:
        return script.ended()


@gives([["1", "4", "1"]] * 2)
def a_process_knows_its_own_threads(at: Path) -> list[list[str]]:
    return together(("counts_its_threads",), ("counts_its_threads",))


@gives([8, "before"])
def an_exit_at_once_tidies_nothing_up(at: Path) -> list[Any]:
    with Script("exits_at_once") as script:
        return script.ended()


@gives([[0, "main", "first", "second"]] * 2)
def handlers_of_the_end_are_run(at: Path) -> list[Any]:
    with Script("runs_exit_handlers") as first, Script("runs_exit_handlers") as second:
        return [first.ended(), second.ended()]


@gives(["-9", True])
def who_is_killed_holds_no_lock_any_more(at: Path) -> list[Any]:
    with Script("holds_a_lock_in_a_thread", at / "log") as script:
        assert script.line() == "ready"
        script.popen.kill()
        code = script.popen.wait()
    handler = logging.FileHandler(at / "log")
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.info("free")
    handler.close()
    return [str(code), (at / "log").read_text().endswith("free\n")]


@gives([-9, "orphan"])
def an_orphan_sees_another_parent(at: Path) -> list[Any]:
    with Script("outlives_its_parent") as script:
        assert script.line() == "ready"
        script.popen.kill()
        return script.ended()


@gives(["taken", "free"])
def a_lock_is_held_until_all_its_descriptors_are_closed(at: Path) -> list[str]:
    def state() -> str:
        with open(at / "lock", "w") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return "taken"
            return "free"

    with open(at / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        script = Script("keeps_a_lock", lock.fileno(), pass_fds=[lock.fileno()])
    with script:
        assert script.line() == "ready"
        seen = [state()]
    return [*seen, state()]


@gives(15)
def short_writes_to_one_pipe_are_whole(at: Path) -> int:
    reading, writing = os.pipe()
    scripts = [
        subprocess.Popen(command("says_lines", name, 5), stdin=subprocess.DEVNULL, stdout=writing) for name in "abc"
    ]
    os.close(writing)
    with open(reading, "rb") as stream:
        lines = [line.split() for line in stream]
    assert [script.wait() for script in scripts] == [0, 0, 0]
    assert all(len(line) == 3 and line[2] == b"x" * 200 for line in lines)
    return len({(name, number) for name, number, _ in lines})


@gives([["2"], []])
def a_fifo_is_opened_once_it_is_read(at: Path) -> list[list[str]]:
    os.mkfifo(at / "fifo")
    return together(("fifo_reader", at / "fifo"), ("opens_fifo_when_read", at / "fifo"))


@gives([130, "True", "260"])
def ctrl_c_goes_to_a_whole_group(at: Path) -> list[Any]:
    with Script("interrupted_with_its_group", start_new_session=True) as script:
        assert script.line() == "ready"
        os.killpg(script.pid, signal.SIGINT)
        return script.ended()


@gives([["woken"]])
def a_child_wakes_its_parent(at: Path) -> list[list[str]]:
    return together(("waits_for_its_child",))


@gives([["[True]"], ["ValueError"]])
def handlers_belong_to_the_main_thread(at: Path) -> list[list[str]]:
    return together(("signals_a_thread",), ("handles_in_the_main_thread_alone",))


@gives([["True"], ["True"]])
def children_inherit_masks_and_what_is_ignored(at: Path) -> list[list[str]]:
    return together(("starts_with_a_mask",), ("starts_with_ignored_signals",))


@gives([["hello /0"], ["hello /1"], ["hello /2"]])
def a_web_server_in_another_process(at: Path) -> list[list[str]]:
    with Script("web_server") as server:
        port = server.line()
        return together(*(("web_client", port, f"/{number}") for number in range(3)))


@gives(["a 0", "a 1", "b 0", "b 1", "c 0", "c 1"])
def a_mailbox_is_locked_by_the_library(at: Path) -> list[str]:
    (at / "box").touch()  # which the library would do without a lock, and truncate what others have written
    together(*(("mails", at / "box", name) for name in "abc"))
    box = mailbox.mbox(at / "box")
    subjects = sorted(str(message["subject"]) for message in box)
    box.close()
    return subjects


@gives(["1", "2", "3", 0])
def text_line_by_line(at: Path) -> list[Any]:
    with subprocess.Popen(command("adder"), stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as script:
        assert script.stdin is not None
        assert script.stdout is not None
        seen: list[Any] = []
        for number in range(1, 4):
            print(number, file=script.stdin)
            seen.append(script.stdout.readline().strip())
        script.stdin.close()
        return [*seen, script.wait()]


@gives([5, 5, 5])
def several_threads_wait_for_one_child(at: Path) -> list[int]:
    child = subprocess.Popen(command("exits", 5), stdin=subprocess.DEVNULL)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(child.wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


@gives([0, 1, 2, 3])
def each_thread_runs_a_child(at: Path) -> list[int]:
    def run(code: int) -> int:
        return subprocess.run(command("exits", code), stdin=subprocess.DEVNULL).returncode

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        return list(pool.map(run, range(4)))


async def play_script(proc: simloop.SimProcess) -> int | None:
    name, *arguments = proc.argv[len(RUNNER) :]
    return SCRIPTS[name](*arguments)


@pytest.mark.parametrize(("program", "expected"), corpus.cases, ids=name_of)
def test_every_run_agrees_with_linux(program: Program, expected: Any) -> None:
    def run() -> Any:
        with tempfile.TemporaryDirectory() as directory:
            return program(Path(directory))

    def play() -> None:
        simloop.current().program(*RUNNER)(play_script)

    if sys.version_info >= (3, 13) or sizes.FACTOR >= 1:  # processes are those of Linux, whatever the Python
        check_real(run, expected, times=examples(2))
    check_simulated(run, expected, runs=examples(30), before=play)
