"""Access to the private parts of Hypothesis that the plugin depends on, all in one place.

They were read in Hypothesis 6.125 and 6.170 (`hypothesis/core.py`, `control.py`, `reporting.py`).
`tests/plugin/test_internals.py` fails if one of them changes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Hashable, Iterator
from typing import Any

#: First version of Hypothesis that records the choices of an example, by which examples can be distinguished.
HYPOTHESIS_MIN = (6, 125)
# What hypothesis.settings keeps on a test function.
_SETTINGS = "_hypothesis_internal_use_settings"


def hypothesis_settings(test: Any) -> Any:
    """Return the `hypothesis.settings` of a test under `@given`."""
    return getattr(test, _SETTINGS)


@contextlib.contextmanager
def changed_settings(test: Any, **changes: Any) -> Iterator[None]:
    """Context manager in which some of the test's Hypothesis settings are changed."""
    from hypothesis import settings

    before = getattr(test, _SETTINGS)
    setattr(test, _SETTINGS, settings(before, **changes))
    try:
        yield
    finally:
        setattr(test, _SETTINGS, before)


def is_final_example() -> bool:
    """Return True while Hypothesis runs the example whose result it reports."""
    from hypothesis.control import current_build_context

    return bool(current_build_context().is_final)


def example_key() -> Hashable:
    """Return a key that distinguishes the running Hypothesis example from others of its test, or None for an explicit
    example (`@example`), for which nothing was drawn."""
    from hypothesis.control import current_build_context
    from hypothesis.internal.conjecture.choice import choices_key

    choices = current_build_context().data.choices
    return choices_key(choices) if choices else None


def forget_targets() -> None:
    """Allow the test to call `hypothesis.target` again in the current example; Hypothesis allows it once per label."""
    from hypothesis.control import current_build_context

    current_build_context().data.target_observations.clear()


def silent_hypothesis() -> contextlib.AbstractContextManager[None]:
    """Return a context manager in which everything that Hypothesis reports, such as `hypothesis.note`, is discarded."""
    from hypothesis.reporting import with_reporter

    return with_reporter(lambda text: None)


@contextlib.contextmanager
def unexplained(folders: tuple[str, ...]) -> Iterator[None]:
    """Context manager in which Hypothesis ignores files in `folders` when it searches for lines that only failing
    examples execute."""
    from hypothesis.internal import scrutineer

    real = scrutineer.should_trace_file
    theirs = functools.cache(lambda file: not file.startswith(folders) and real(file))
    setattr(scrutineer, "should_trace_file", theirs)  # noqa: B010
    try:
        yield
    finally:
        setattr(scrutineer, "should_trace_file", real)  # noqa: B010
