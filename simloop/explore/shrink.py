"""Shrinking: turns a failing schedule into a simpler one that fails in the same way.

A schedule is simpler than another if it has fewer deviations (choices other than the default); with as many, if its
answers are smaller; and with equal answers, if they come earlier. Every pass only accepts a simpler schedule that fails
in the same way, and passes are repeated until none finds one. So shrinking ends, its result does not shrink again, and
no single deviation can be dropped from the result (unless the budget ran out before).

Schedules of dense random walks have hundreds of deviations, many of which alone would cause a failure. Which of them
remains depends on the order in which deviations are dropped; so if more than one remains, they are dropped in other
orders too, and other deviations are tried in their place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, combinations, zip_longest

from simloop.choices.choices import Answer, Choices, Point
from simloop.choices.draws import shuffler
from simloop.choices.lateness import ENDS, LATE
from simloop.choices.schedule import Schedule

#: Function that runs a schedule. It returns True if the run failed in the same way, and the choices that the run
#: recorded.
StillFails = Callable[[Schedule], tuple[bool, Choices]]

Deviations = Mapping[Point, int]
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
    """Shrinker of one failing schedule, which makes at most `budget` runs. `best` is the simplest failing schedule so
    far.

    `usual_seed` is the seed that most runs of the campaign have: it is preferred if the failure does not depend on the
    seed.
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
        #: Results of the schedules tried so far, by seed and deviations: the deviations that took place if the run
        #: failed in the same way, else None.
        self._tried: dict[tuple[int, frozenset[tuple[Point, int]]], Deviations | None] = {}
        self._canonical: Choices | None = None
        #: Recorded choices of runs with few deviations, by these deviations.
        self._recorded: dict[frozenset[tuple[Point, int]], Choices] = {}
        #: Number of runs made to replace all deviations by one (key 1), two by one (2), and all by two (3).
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
        """Run a schedule that is simpler than the best one, unless its result is known or the budget is used up. If it
        fails in the same way, make it the best one and return True."""
        seed = self.best.seed if seed is None else seed
        key = (seed, frozenset(deviations.items()))
        if key in self._tried:
            taken = self._tried[key]
        elif self.runs >= self._budget:
            return False
        else:
            self.runs += 1
            fails, choices = self._still_fails(self.best._replace(seed=seed, deviations=deviations))
            found = choices.deviations()
            if not found:
                self._canonical = choices
            for recorded in (deviations, found):  # what no longer occurs makes no difference
                if len(recorded) <= _RECORDED_MAX:
                    self._recorded[frozenset(recorded.items())] = choices
            taken = self._tried[key] = found if fails and len(found) <= len(deviations) else None
        if taken is None:
            return False
        self.best = self.best._replace(seed=seed, deviations=taken)
        return True

    def _drop_the_end(self) -> None:
        """Find by bisection how many of the first deviations suffice for the failure, and drop all later ones."""
        items = list(self.best.deviations.items())
        fails, passes = len(items), 0
        while fails - passes > 1:
            middle = (fails + passes) // 2
            if self._try(dict(items[:middle])):
                fails = middle
            else:
                passes = middle

    def _drop_chunks(self, arrange: Callable[[list[Point]], list[Point]] = list) -> None:
        """Drop deviations, in chunks whose size is halved down to one, as ddmin does (Zeller and Hildebrandt, 2002).
        ``arrange(points)`` returns the points in the order in which to drop them."""
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
        """Start again from the schedule `whole`, drop its deviations in the order given by `number`, and keep the
        result if it has fewer deviations than the best schedule."""
        before = self.best
        self.best = whole
        shuffled: Callable[[list[Point]], list[Point]] = shuffler(number)
        self._drop_chunks(shuffled if number else lambda points: points[::-1])
        if len(self.best.deviations) < len(before.deviations):
            self._reduce()
        else:
            self.best = before

    def _replace_all(self) -> None:
        """Look for a single deviation that alone fails in the same way, to replace all others."""
        for single in self._singles():
            if self._spent[1] >= _SINGLES_MAX:
                return
            if self._try_in_place(1, (), single):
                return

    def _replace_two(self) -> None:
        """Look for a single deviation that can replace two others: the schedule still fails in the same way."""
        size = len(self.best.deviations)
        kept = list(combinations(self.best.deviations.items(), size - 2))
        everything = ((others, single) for single in self._singles() for others in kept)
        for others, single in chain(self._seconds(kept), everything):
            if self._spent[2] >= _PAIRS_MAX or len(self.best.deviations) < size:
                return
            if self._try_in_place(2, others, single):
                return

    def _replace_by_two(self) -> None:
        """Try to replace all deviations by two delayed events (such as data on a connection, or the end of a job or of
        a process) that cause the same failure. The source of the first event is one that was active just before the
        failure; the second event happens while the first is delayed. Does nothing if there are no such two."""
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
        """Try the deviations `kept` with `single` in place of all others, and return True if that fails in the same
        way. `size` says to which of the limits on such runs it counts."""
        before = self.runs
        found = self._try({**dict(kept), single[0]: single[1]})
        self._spent[size] += self.runs - before
        return found

    def _seconds(self, kept: list[Kept]) -> Iterator[tuple[Kept, tuple[Point, int]]]:
        """Yield deviations from `kept`, each with one more deviation to try beside them: another late arrival, of those
        after the kept deviations the first or one of the last of its connection, job or process. At first it is delayed
        as long as possible, then by one or two iterations of the event loop."""
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
        """Yield single deviations of the canonical run. The order: tasks and connections of the best schedule first;
        kinds with few choice points before others, as they say more about the cause; the largest answer of every point
        before all smaller ones."""
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
        """Replace the answers of deviations by smaller ones, which mean earlier or shorter ("one turn later" rather
        than "25 ms later")."""
        for point in list(self.best.deviations):
            value = self.best.deviations.get(point, 0)
            for lower in range(1, value):
                if self._try({**self.best.deviations, point: lower}):
                    break

    def _move_earlier(self) -> None:
        """Move deviations to earlier choice points of the same name and kind: to the first one, to the one half-way, or
        to the previous one."""
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
    """Return the name of the connection, job or process that a choice point is about."""
    return point.who.rstrip("<>")
