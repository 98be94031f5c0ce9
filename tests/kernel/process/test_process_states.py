"""The states of a process's life, and its numbers."""

from __future__ import annotations

from itertools import product

import pytest
from fakes import answering

from simloop.choices.choices import Choices
from simloop.kernel.host import Host
from simloop.kernel.process.pids import PidTable
from simloop.kernel.process.process import Process, ProcessGone, State
from simloop.kernel.process.table import FIRST_PID, PROCESSES_START, ProcessTable
from simloop.kernel.scheduler import Scheduler

LEGAL = {
    (State.RUNNING, State.STOPPED), (State.STOPPED, State.RUNNING),
    (State.RUNNING, State.ZOMBIE), (State.STOPPED, State.ZOMBIE), (State.ZOMBIE, State.REAPED),
    (State.RUNNING, State.POWERED_OFF), (State.STOPPED, State.POWERED_OFF),
}  # fmt: skip


def host() -> Host:
    scheduler = Scheduler(Choices())
    return Host("h", 1, scheduler)


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_no_state_follows_another_that_it_cannot(before: State, after: State) -> None:
    process = Process(host(), PidTable(), 1, "p")
    process.state = before
    if (before, after) in LEGAL:
        process.enter(after)
        assert process.state is after
    else:
        with pytest.raises(AssertionError, match=f"is {before.name}, and cannot become {after.name}"):
            process.enter(after)


def test_what_a_state_means() -> None:
    process = Process(host(), PidTable(), 1, "p")
    meaning = {}
    for state in State:
        process.state = state
        meaning[state.name] = (process.alive, process.stopped, process.exited)
    assert meaning == {
        "RUNNING": (True, False, False),
        "STOPPED": (True, True, False),
        "ZOMBIE": (False, False, True),
        "REAPED": (False, False, True),
        "POWERED_OFF": (False, False, False),
    }


def test_who_lost_power_has_nothing_open_opens_nothing_and_its_runner_hears_of_it_once() -> None:
    process, heard = Process(host(), PidTable(), 1, "p"), []
    process.on_kill = lambda: heard.append(process.state)
    process.lose_power()
    process.killed()
    assert heard == [State.POWERED_OFF]
    with pytest.raises(ProcessGone):
        process.open(None)  # type: ignore[arg-type]


def reap(process: Process) -> None:
    process.enter(State.ZOMBIE)
    process.status = 0
    process.release()
    process.table.reaped.append(process.pid)


def test_names_and_numbers_tell_processes_apart() -> None:
    table, machine = ProcessTable(Choices()), host()
    made = [table.add(machine), table.add(machine, "tool"), table.add(machine, "tool"), table.add(machine)]
    assert [process.name for process in made] == ["h", "h:tool", "h:tool#2", "h#2"]
    assert [process.pid - FIRST_PID for process in made] == [1, 2, 3, 4]


def test_a_number_comes_up_again_by_choice_unless_a_group_has_it() -> None:
    def second(has_group: bool) -> int:
        table, machine = ProcessTable(answering(process_pid=1)), host()
        first, other = table.add(machine, "tool"), table.add(machine, "other")
        if has_group:
            other.group, other.table.has_groups = first.pid, True
        reap(first)
        return table.add(machine, "tool").pid - FIRST_PID

    assert second(has_group=False) == 1
    assert second(has_group=True) == 3


def test_reaped_processes_are_forgotten_and_stay_in_the_fingerprint() -> None:
    table, machine = ProcessTable(Choices()), host()
    kept = table.add(machine)
    for _ in range(PROCESSES_START):
        reap(table.add(machine, "tool"))
    assert list(table) == [kept, table[-1]]
    assert table.forgotten != 0
