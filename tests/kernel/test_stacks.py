"""Call stacks: which runs when, by greenlets and by threads."""

from __future__ import annotations

import contextvars
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from simloop.kernel import stacks
from simloop.kernel.stacks import Greenlets, Threads, make_stacks


@pytest.fixture(params=["greenlets", "threads"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> stacks.Stacks:
    if request.param == "threads":
        monkeypatch.setattr(stacks, "_greenlet", lambda: None)
    found = make_stacks({threading.get_ident(): None})
    assert isinstance(found, Threads if request.param == "threads" else Greenlets)
    return found


def test_each_goes_on_where_it_stood_and_the_main_one_at_their_ends(made: stacks.Stacks) -> None:
    seen: list[str] = []
    main = made.current()

    def first() -> None:
        seen.append("first")
        second_stack.switch()
        seen.append("first again")

    def second() -> None:
        seen.append("second")
        main.switch()
        seen.append("second again")
        first_stack.switch()
        seen.append("second's end")

    first_stack, second_stack = made.new(first), made.new(second)
    first_stack.switch()
    seen.append("main")
    second_stack.switch()
    assert seen == ["first", "second", "main", "second again", "first again"]
    second_stack.switch()
    assert seen[-1] == "second's end"


def test_code_on_a_stack_is_in_the_main_thread(made: stacks.Stacks) -> None:
    seen: list[Any] = []
    made.new(lambda: seen.append(threading.current_thread())).switch()
    assert seen == [threading.main_thread()]


def test_a_stack_is_used_again_as_if_it_were_new() -> None:
    pytest.importorskip("greenlet")
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[tuple[Any, str]] = []

    def work() -> None:
        seen.append((worlds[-1].current(), variable.get()))
        variable.set("set")

    worlds = [make_stacks({})]
    worlds[-1].new(work).switch()
    released = weakref.ref(work)
    worlds.append(make_stacks({}))
    worlds[-1].new(work).switch()
    first, second = seen
    assert first == second == (first[0], "unset")
    del work
    assert released() is None, "an idle stack keeps what it has called"


def test_stacks_that_an_exception_left_are_not_used_again() -> None:
    pytest.importorskip("greenlet")

    def fail() -> None:
        failed.append(made.current())
        raise KeyError

    failed: list[Any] = []
    made = make_stacks({})
    for _ in range(2):
        with pytest.raises(KeyError):
            made.new(fail).switch()
    assert failed[0] is not failed[1]


def test_a_tracer_sees_each_stack_as_a_thread() -> None:
    called: list[str] = []

    def tracer(frame: Any, event: str, _: object) -> None:
        called.append(frame.f_code.co_name)

    @contextmanager
    def traced() -> Iterator[None]:
        before = sys.gettrace()
        threading.settrace(tracer)
        sys.settrace(tracer)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(before)

    def on_the_stack() -> None:
        pass

    with traced():
        made = make_stacks({threading.get_ident(): None})
        made.new(on_the_stack).switch()
    assert isinstance(made, Threads)
    assert "on_the_stack" in called
