"""Result of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.world.world import World


class Outcome:
    """Result of one run: its value or exception, and its world."""

    __slots__ = ("exception", "limit", "value", "world")

    #: Always True: the run was made in this process, unlike that of a `ForkedOutcome`.
    is_here = True

    def __init__(self, world: World) -> None:
        self.world = world
        self.value: Any = None
        self.exception: BaseException | None = None
        #: Sentence that a report shows instead of a verdict on the program, for a limit of the simulation; empty if
        #: there is none.
        self.limit = ""

    @property
    def choices(self) -> Choices:
        return self.world.choices

    @property
    def steps(self) -> int:
        """Number of callbacks that the event loops of the run have executed."""
        return self.world.steps

    @property
    def escape(self) -> BaseException | None:
        """`EscapedSimulationError`, or another error that ends a run even if the program catches it; None if there was
        none."""
        return self.world.escape

    @property
    def fingerprint(self) -> int:
        """Hash of everything that happened in the run but for the times: equal for two runs in which the same things
        happened."""
        return self.world.fingerprint()
