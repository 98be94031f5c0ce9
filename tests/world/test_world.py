"""A world without loops: who runs in it, how it waits, what escapes, and how it ends."""

from __future__ import annotations

import signal
import threading

import pytest
from fakes import FakeLoop

from simloop.choices.choices import Choices
from simloop.errors import ConfigurationError, EscapedSimulationError
from simloop.kernel.clock import SECOND
from simloop.kernel.process.process import ProcessGone, State
from simloop.world import active, lives
from simloop.world.world import World


def test_the_test_itself_is_the_first_process_on_localhost() -> None:
    world = World(Choices())
    assert (world.root.name, world.root.host.name) == ("localhost", "localhost")
    assert world.current is world.root


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", 7])
def test_not_every_name_is_one_of_a_host(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name of a host"):
        World(Choices()).host(name)


def test_a_blocking_call_of_the_test_lets_time_pass_until_it_holds_or_is_over() -> None:
    world = World(Choices())
    start = world.scheduler.clock.now
    assert not world.block(lambda: False, 2.5)
    assert world.scheduler.clock.now - start == 2.5 * SECOND
    done: list[bool] = []
    world.scheduler.at(start + 3 * SECOND, lambda: done.append(True))
    assert world.block(lambda: bool(done), 10)
    assert world.scheduler.clock.now - start == 3 * SECOND


def test_a_signal_ends_a_program_and_its_parent_sees_the_status() -> None:
    world = World(Choices())
    child = world.add_process(world.root.host, "tool")
    child.parent, world.root.children, child.environ = world.root, {child.pid: child}, {}
    lives.kill(world, child, signal.SIGTERM)
    assert child.state is State.ZOMBIE
    world.block(lambda: child.status is not None, 1)
    assert child.status == signal.SIGTERM
    lives.kill(world, child, signal.SIGKILL)  # a zombie takes everything
    assert child.status == signal.SIGTERM


def test_a_power_cut_stops_a_host_and_nobody_else() -> None:
    world = World(Choices())
    db = world.host("db")
    process, other = world.add_process(db), world.add_process(world.host("web"))
    ended = world.add_process(db)
    world.end(ended, 0)
    lives.crash(world, db)
    assert not db.up
    assert [process.state, other.state, ended.state] == [State.POWERED_OFF, State.RUNNING, State.REAPED]
    world.current = process
    with pytest.raises(ProcessGone):
        world.block(lambda: True)


def test_the_first_escape_is_remembered_whoever_swallows_it() -> None:
    world = World(Choices())
    with active.world_entered(world):
        first = active.escape("this", "do that")
        active.escape("something else", "do that")
    assert world.escape is first
    assert isinstance(first, EscapedSimulationError)
    assert "test_world.py" in str(first)


def test_a_world_is_that_of_its_threads_alone() -> None:
    world, seen = World(Choices()), []
    go, gone = threading.Lock(), threading.Lock()
    go.acquire()
    gone.acquire()

    def look() -> None:
        go.acquire()
        seen.append(active.world())
        gone.release()

    thread = threading.Thread(target=look)
    thread.start()
    with active.world_entered(world):
        go.release()
        gone.acquire()
        assert active.world() is world
        with active.world_entered(None):
            assert active.world() is None
        assert active.world() is world
    thread.join()
    assert seen == [None]
    assert active.world() is None


def test_what_happens_in_another_order_makes_another_fingerprint() -> None:
    def fingerprint(*events: str) -> int:
        world = World(Choices())
        for event in events:
            world.choices.fold(event, 1)
        return world.fingerprint()

    assert fingerprint("a", "b") == fingerprint("a", "b")
    assert len({fingerprint("a", "b"), fingerprint("b", "a"), fingerprint("a")}) == 3


def test_a_closed_world_has_let_go_of_its_processes() -> None:
    world = World(Choices())
    loop = FakeLoop(world.scheduler, "x")
    child = world.add_process(world.root.host, "tool")
    child.loop = loop
    world.close()
    assert child.loop is None
    assert not child.files
    assert not child.table
