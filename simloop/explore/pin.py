"""`replay`: a token run once, or pinned to a test so that it is run each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from simloop.choices import decode
from simloop.errors import ConfigurationError
from simloop.explore import campaign
from simloop.hosted import Main
from simloop.simulation import T

F = TypeVar("F", bound=Callable[..., Any])
_ATTRIBUTE = "_simloop_pinned"


@overload
def replay(main: Main[T], token: str | int, **options: Any) -> T: ...
@overload
def replay(main: str) -> Callable[[F], F]: ...
def replay(main: Main[Any] | str, token: str | int | None = None, **options: Any) -> Any:
    """Run ``main()`` once as a token, or a plain seed, says; or, as a decorator, pin a token to a test.

    ``replay(main, token)`` returns what ``main()`` returns or raises what it raises. Raises `TokenError` for what
    is not a token and `OtherTestError` for one of another function. Options: those of `simloop.run`; the profile
    is the token's.

    ``@replay(token)`` above an async test makes the token's schedule part of the test, as a regression test: pytest
    runs it first, with or without ``--sim``. It may be repeated. Raises `TokenError` at once for what is no token.

    >>> @replay("sl1:AAAAAAcAALcm")
    ... async def test_it(): ...
    """
    if isinstance(main, str):
        if token is not None or options:
            raise ConfigurationError("@simloop.replay takes one token and nothing else")
        return _pinning(main.strip())
    if token is None:
        raise ConfigurationError("simloop.replay(main, token) needs a token, or a plain seed")
    return campaign.replay(main, token, **options)


def _pinning(token: str) -> Callable[[F], F]:
    decode(token)

    def pin(function: F) -> F:
        if not callable(function) or isinstance(function, type):
            raise ConfigurationError(f"@simloop.replay goes on an async test function, not on {function!r}")
        setattr(function, _ATTRIBUTE, (token, *pinned(function)))
        return function

    return pin


def pinned(function: Callable[..., Any]) -> tuple[str, ...]:
    """The tokens that are pinned to a test function, in the order in which its decorators are read."""
    tokens: tuple[str, ...] = getattr(function, _ATTRIBUTE, ())
    return tokens
