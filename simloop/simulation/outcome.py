"""What one run has come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.world.world import World


class Outcome:
    """Result of one run: its value or exception, and its world."""

    __slots__ = ("exception", "limit", "value", "world")

    #: True, since this process has made the run.
    is_here = True

    def __init__(self, world: World) -> None:
        self.world = world
        self.value: Any = None
        self.exception: BaseException | None = None
        #: Sentence that stands in a report for the verdict on the program, where there is none.
        self.limit = ""

    @property
    def choices(self) -> Choices:
        return self.world.choices

    @property
    def steps(self) -> int:
        """Number of callbacks that the run's loops have run."""
        return self.world.steps

    @property
    def escape(self) -> BaseException | None:
        """Error of an escape, which has ended the run at once, whatever the program made of it."""
        return self.world.escape

    @property
    def fingerprint(self) -> int:
        """Hash that is equal for runs in which the same things happened, at whatever times."""
        return self.world.fingerprint()
