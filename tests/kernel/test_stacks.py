"""Call stacks: which runs when, by greenlets and by threads."""

from __future__ import annotations

import sys
import threading
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
