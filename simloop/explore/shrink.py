"""Shrinking: turns a failing schedule into a simpler one that fails in the same way.

A schedule is simpler than another when it has fewer deviations; with as many, when its answers are smaller; and with
equal answers, when they come earlier. Every pass only accepts a simpler schedule that fails in the same way, and passes
are repeated until none finds one. So shrinking ends, its result does not shrink again, and no single deviation can be
dropped from the result (unless the budget ran out before).

Schedules of dense walks have hundreds of deviations, and many causes among them. Which one is left depends on the order
in which deviations are dropped; so where more than one deviation is left, they are dropped in other orders too, and
others are tried in their place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, combinations, zip_longest

from simloop.choices.choices import Answer, Choices, Point
from simloop.choices.draws import shuffler
from simloop.choices.lateness import ENDS, LATE
from simloop.choices.schedule import Schedule

#: Function that runs a schedule. Returns True if it failed in the same way, and the choices that the run recorded.
StillFails = Callable[[Schedule], tuple[bool, Choices]]

Deviations = dict[Point, int]
Kept = tuple[tuple[Point, int], ...]

# Number of runs that may be spent on single deviations to replace all others.
_SINGLES_MAX = 60
# Number of runs that may be spent on single deviations to replace two of several.
_PAIRS_MAX = 120
# Of how many connections, those that came last before the failure, one is late when two arrivals replace all others;
# and how many of their first arrivals, besides the last one.
_LAST_SOURCES = 4
_FIRSTS = 4
# Of runs with up to so many deviations it is kept what they have recorded.
_RECORDED_MAX = 3
# Number of other orders in which deviations are dropped.
_ORDERS = 3


class Shrinker:
    """Shrinker of one failing schedule, with a budget of runs. `best` is the simplest failing schedule so far.

    `usual_seed` is the seed that the program's own entropy has in most runs of the campaign: it is preferred if the
    failure does not depend on the seed.
    """

    def __init__(
        self,
        schedule: Schedule,
        still_fails: StillFails,
        budget: int,
        usual_seed: int | None = None,
    ) -> None:
        self.best = schedule
        self.runs = 0
        self._still_fails = still_fails
        self._budget = budget
        self._usual_seed = schedule.seed if usual_seed is None else usual_seed
        #: What came of each schedule that was tried: the deviations that took place if it failed in the same way.
        self._tried: dict[tuple[int, frozenset[tuple[Point, int]]], Deviations | None] = {}
        self._canonical: Choices | None = None
        #: What runs of few deviations have recorded.
        self._recorded: dict[frozenset[tuple[Point, int]], Choices] = {}
        #: Runs that were made to replace all deviations by one, two by one, and all by two.
        self._spent = {1: 0, 2: 0, 3: 0}

    def shrink(self) -> Schedule:
        if self.best.seed != self._usual_seed:
            self._try(self.best.deviations, self._usual_seed)
        self._try({})
        whole = self.best
        self._drop_the_end()
        self._reduce()
        for number in range(_ORDERS):
            # Where two are left, another order hardly ever leaves one: it is tried once.
            enough = 2 if number else 1
            if enough < len(self.best.deviations) < len(whole.deviations):
                self._drop_in_another_order(whole, number)
        return self.best

    def _reduce(self) -> None:
        while True:
            before = self.best
            self._drop_chunks()
            if len(self.best.deviations) > 1:
                self._replace_all()
            if len(self.best.deviations) > 2:
                self._replace_two()
            if len(self.best.deviations) > 2:
                self._replace_by_two()
            self._lower_answers()
            self._move_earlier()
            if self.best == before:
                return

    def _try(self, deviations: Deviations, seed: int | None = None) -> bool:
        """Run a schedule that is simpler than the best one, unless its result is known. If it fails in the same way, it
        is the best one from now on, and the result is True."""
        seed = self.best.seed if seed is None else seed
        key = (seed, frozenset(deviations.items()))
        if key in self._tried:
            taken = self._tried[key]
        elif self.runs >= self._budget:
            return False
        else:
            self.runs += 1
            fails, choices = self._still_fails(replace(self.best, seed=seed, deviations=deviations))
            found = choices.deviations()
            if not found:
                self._canonical = choices
            for recorded in (deviations, found):  # what no longer occurs makes no difference
                if len(recorded) <= _RECORDED_MAX:
                    self._recorded[frozenset(recorded.items())] = choices
            taken = self._tried[key] = found if fails and len(found) <= len(deviations) else None
        if taken is None:
            return False
        self.best = replace(self.best, seed=seed, deviations=taken)
        return True

    def _drop_the_end(self) -> None:
        """Drop all deviations after the first ones that suffice, by bisection."""
        items = list(self.best.deviations.items())
        fails, passes = len(items), 0
        while fails - passes > 1:
            middle = (fails + passes) // 2
            if self._try(dict(items[:middle])):
                fails = middle
            else:
                passes = middle

    def _drop_chunks(self, arrange: Callable[[list[Point]], list[Point]] = list) -> None:
        """Drop deviations, in chunks that are halved down to single ones, as ddmin does (Zeller and Hildebrandt,
        2002). `arrange` puts them in the order in which they are tried."""
        size = max(1, len(self.best.deviations) // 2)
        while True:
            points = arrange(list(self.best.deviations))
            dropped = False
            while points:
                chunk, points = points[:size], points[size:]
                if self._try({point: value for point, value in self.best.deviations.items() if point not in chunk}):
                    dropped = True
                    points = [point for point in points if point in self.best.deviations]
            if size > 1:
                size //= 2
            elif not dropped:
                return

    def _drop_in_another_order(self, whole: Schedule, number: int) -> None:
        """Drop deviations of the whole schedule in another order, and keep what is left if it is fewer."""
        before = self.best
        self.best = whole
        shuffled: Callable[[list[Point]], list[Point]] = shuffler(number)
        self._drop_chunks(shuffled if number else lambda points: points[::-1])
        if len(self.best.deviations) < len(before.deviations):
            self._reduce()
        else:
            self.best = before

    def _replace_all(self) -> None:
        """Look for a single deviation that fails in the same way, to replace all others."""
        for single in self._singles():
            if self._spent[1] >= _SINGLES_MAX:
                return
            if self._try_in_place(1, (), single):
                return

    def _replace_two(self) -> None:
        """Look for a single deviation that fails in the same way in the place of two others."""
        size = len(self.best.deviations)
        kept = list(combinations(self.best.deviations.items(), size - 2))
        everything = ((others, single) for single in self._singles() for others in kept)
        for others, single in chain(self._seconds(kept), everything):
            if self._spent[2] >= _PAIRS_MAX or len(self.best.deviations) < size:
                return
            if self._try_in_place(2, others, single):
                return

    def _replace_by_two(self) -> None:
        """Look for two late arrivals that fail in the same way, to replace all others: the first is of a connection of
        which something came just before the failure, and the second comes while it is late. Each of three connections
        may be late so that they meet in the end, where it suffices that what they then do is."""
        size = len(self.best.deviations)
        self._try(self.best.deviations)  # what it records is not known where it is as it was found
        failing = self._recorded.get(frozenset(self.best.deviations.items()))
        if failing is None or self._canonical is None:
            return
        last = dict.fromkeys(_source(answer.point) for answer in reversed(failing.answers()) if _may_be_late(answer))
        about = list(last)[:_LAST_SOURCES]
        arrivals: dict[str, list[Answer]] = {source: [] for source in about}
        for answer in self._canonical.answers():
            if _may_be_late(answer) and _source(answer.point) in arrivals:
                arrivals[_source(answer.point)].append(answer)
        kept: list[Kept] = [
            ((answer.point, LATE[answer.point.kind]),)
            for found in arrivals.values()
            for answer in [*found[:_FIRSTS], *found[_FIRSTS:][-1:]]
        ]
        for others, single in self._seconds(kept):
            if self._spent[3] >= _PAIRS_MAX or len(self.best.deviations) < size:
                return
            if _source(single[0]) in last and self._try_in_place(3, others, single):
                return

    def _try_in_place(self, size: int, kept: Kept, single: tuple[Point, int]) -> bool:
        """Try a single deviation in the place of others. The runs that takes are counted for `size`."""
        before = self.runs
        found = self._try({**dict(kept), single[0]: single[1]})
        self._spent[size] += self.runs - before
        return found

    def _seconds(self, kept: list[Kept]) -> Iterator[tuple[Kept, tuple[Point, int]]]:
        """Yield pairs of kept deviations and one more to try beside them: another arrival that is late while the kept
        ones are. Of each connection that is the first that comes after them, or one of the last, since after it nothing
        more comes without them. First as late as it may be, then by a turn or two."""
        shown: list[tuple[Kept, list[Answer]]] = []
        for others in kept:
            if self._try(dict(others)):
                return
            choices = self._recorded.get(frozenset(others))
            if choices is None:
                continue
            answers = choices.answers()
            began = next((at for at, answer in enumerate(answers) if answer.value), len(answers))
            sources: dict[str, list[Answer]] = {}
            for answer in answers[began + 1 :]:
                if _may_be_late(answer):
                    sources.setdefault(_source(answer.point), []).append(answer)
            ends = [
                answer for found in sources.values() for answer in [*found[:1], *found[1:][-2:]] if not answer.value
            ]
            shown.append((others, ends))
        for turns in (0, 1, 2):
            for row in zip_longest(*([(others, answer) for answer in ends] for others, ends in shown)):
                for others, answer in filter(None, row):
                    yield others, (answer.point, turns or LATE[answer.point.kind])

    def _singles(self) -> Iterator[tuple[Point, int]]:
        """Yield single deviations of the canonical run: first those of the tasks and connections that the best schedule
        is about, and of kinds with few choice points in a run, since they say more about the cause; the one that
        changes most at each point before the others."""
        if self._canonical is None:
            return
        # A cancellation is another cause than a delay.
        ends = {point.kind for point in self.best.deviations if point.kind in ENDS}
        answers = [
            a for a in self._canonical.answers() if a.n > 1 and (a.point.kind not in ENDS or a.point.kind in ends)
        ]
        common = Counter(answer.point.kind for answer in answers)
        about = {point.who.rstrip("<>") for point in self.best.deviations}

        def importance(answer: Answer) -> tuple[bool, int]:
            return answer.point.who.rstrip("<>") not in about, common[answer.point.kind]

        answers.sort(key=importance)
        most = {answer.point: LATE.get(answer.point.kind, answer.n - 1) for answer in answers}
        yield from ((answer.point, most[answer.point]) for answer in answers)
        for answer in answers:
            yield from ((answer.point, value) for value in range(1, answer.n) if value != most[answer.point])

    def _lower_answers(self) -> None:
        """Lower the answers of deviations: a smaller one means earlier or shorter ("one turn later" rather than "25 ms
        later")."""
        for point in list(self.best.deviations):
            value = self.best.deviations.get(point, 0)
            for lower in range(1, value):
                if self._try({**self.best.deviations, point: lower}):
                    break

    def _move_earlier(self) -> None:
        """Move deviations to earlier choice points of the same name: the first, the one half-way, the one before."""
        for point in list(self.best.deviations):
            value = self.best.deviations.get(point)
            if value is None:
                continue
            for number in sorted({1, point.number // 2, point.number - 1}):
                earlier = point._replace(number=number)
                if not 0 < number < point.number or earlier in self.best.deviations:
                    continue
                moved = {earlier if other == point else other: answer for other, answer in self.best.deviations.items()}
                if self._try(moved):
                    break


def _may_be_late(answer: Answer) -> bool:
    return answer.n > LATE.get(answer.point.kind, answer.n)


def _source(point: Point) -> str:
    """Return the source of an arrival: its connection, job or process."""
    return point.who.rstrip("<>")
