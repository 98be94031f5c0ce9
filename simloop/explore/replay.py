"""Functions `replay`, which runs a token once or pins it to a test, and `explore`, which searches for failures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from simloop.choices.choices import check_seed
from simloop.choices.tokens import decode
from simloop.errors import ConfigurationError
from simloop.explore.campaign import DEFAULT_RUNS, Campaign
from simloop.explore.plugins import Hooks, installed_plugins
from simloop.shims.set_order import number_objects
from simloop.simulation.limits import Limits, make_limits
from simloop.simulation.run import Execute, T, execute

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.explore.result import Report
    from simloop.loop.runner import Main
    from simloop.simulation.outcome import Outcome
    from simloop.world.observer import Observer

F = TypeVar("F", bound=Callable[..., Any])
_ATTRIBUTE = "_simloop_pinned"


@overload
def replay(main: Main[T], token: str | int, **options: Any) -> T: ...
@overload
def replay(main: str) -> Callable[[F], F]: ...
def replay(main: Main[Any] | str, token: str | int | None = None, **options: Any) -> Any:
    """Run ``main()`` once under the schedule of a token or a plain seed; or, as a decorator, pin a token to a test.

    ``replay(main, token)`` returns the value of ``main()`` or raises its exception. Raises `TokenError` for a text that
    is not a token and `OtherTestError` for a token of another function. Options: those of `simloop.run`, except that
    the profile and the preemption of lines are given by the token.

    ``@replay(token)`` above an async test makes the token's schedule part of the test, as a regression test: pytest
    runs it first, with or without ``--sim``. It may be repeated. Raises `TokenError` at once for an invalid token.

    >>> import simloop
    >>> @simloop.replay("sl1:AAAAAAcAALcm")
    ... async def test_it(): ...
    """
    if isinstance(main, str):
        if token is not None or options:
            raise ConfigurationError("@simloop.replay takes one token and nothing else")
        return _pinning(main.strip())
    if token is None:
        raise ConfigurationError("simloop.replay(main, token) needs a token, or a plain seed")
    return _run_token(main, token, options)


def _run_token(main: Main[T], token: str | int, options: dict[str, Any]) -> T:
    if isinstance(token, str) and not token.strip().isdigit():
        options.setdefault("profile", decode(token).profile)
    limits = make_limits(options)
    try:
        outcome, _, _ = Campaign(_executor(main, limits), _name_of(main), profile=limits.profile).replay(token)
    finally:
        number_objects(False)
    if outcome.exception is not None:
        raise outcome.exception
    value: T = outcome.value
    return value


def _pinning(token: str) -> Callable[[F], F]:
    decode(token)

    def pin(function: F) -> F:
        if not callable(function) or isinstance(function, type):
            raise ConfigurationError(f"@simloop.replay goes on an async test function, not on {function!r}")
        setattr(function, _ATTRIBUTE, (token, *pinned(function)))
        return function

    return pin


def pinned(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the tokens that `replay` has pinned to a test function, in the order of its decorators from top to
    bottom."""
    tokens: tuple[str, ...] = getattr(function, _ATTRIBUTE, ())
    return tokens


def _name_of(main: Callable[..., Any]) -> str:
    return str(getattr(main, "__qualname__", type(main).__qualname__))


def _executor(main: Main[Any], limits: Limits) -> Execute:
    def execute_main(
        choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
    ) -> Outcome:
        own = limits if profile is None else limits._replace(profile=profile)
        return execute(main, choices, own, observer)

    return execute_main


def explore(
    main: Main[Any],
    *,
    runs: int = DEFAULT_RUNS,
    seed: int = 0,
    seconds: float | None = None,
    jobs: int | Literal["auto"] | None = None,
    strategies: str | Sequence[str] = (),
    corpus: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Report:
    """Run ``main()`` under up to `runs` schedules, beginning with the canonical one, until one fails.

    `runs` is at least 1. `seed`, from 0 to 2**64 - 1, determines which schedules are tried. With `seconds`, more than
    0, exploring lasts for so many real seconds instead of a number of runs. `jobs` is the number of processes that make
    the runs, or ``"auto"``; the result does not depend on it. `strategies` are names of strategies, such as ``["dense
    walk"]``; only these are used, all of them if none is given. `corpus` is a directory that keeps interesting
    schedules, so that the next call continues with other runs instead of repeating these. The failure is shrunk before
    it is reported: its token replays it with `replay`, always. Options: those of `simloop.run`. Raises
    `ConfigurationError` for a bad option, `NondeterminismError` when two runs of one schedule differ, and `PluginError`
    when a plugin fails; an exception of ``main()`` is part of the report.

    >>> import asyncio, simloop
    >>> async def main():
    ...     task = asyncio.create_task(asyncio.sleep(1))
    ...     simloop.current().may_cancel(task)
    ...     await task
    >>> report = simloop.explore(main)
    >>> type(report.failure.exception).__name__
    'CancelledError'
    """
    limits = make_limits(options)
    name = _name_of(main)

    found = None
    if corpus is not None:
        from simloop.explore.corpus import Corpora

        found = Corpora(Path(corpus)).load(f"{getattr(main, '__module__', '')}.{name}", name, limits)
        seed = found.seed(check_seed(seed))
    hooks = Hooks(installed_plugins(), name)
    campaign = Campaign(
        _executor(main, limits),
        name,
        runs=runs,
        seed=seed,
        profile=limits.profile,
        strategies=hooks.strategies(seed, limits.profile),
        chosen=[strategies] if isinstance(strategies, str) else strategies,
        seconds=seconds,
        jobs=jobs,
        observe=hooks.observer(),
        corpus=found,
    )
    try:
        return campaign.explore()
    finally:
        number_objects(False)
