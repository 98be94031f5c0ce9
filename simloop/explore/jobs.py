"""Jobs: worker processes that make runs of a campaign beside the process that has begun it.

Runs are planned in batches, and their results are passed to the strategies in the order of the plans. So a campaign
finds the same failures for any number of processes of any speed. A batch that takes long enough is divided among forks
of this process; each sends back the recorded choices of its runs, and exits. A run that failed, or that a fork did not
get to, is repeated by this process.
"""

from __future__ import annotations

import contextlib
import marshal
import mmap
import posix
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from simloop.choices.choices import Choices
from simloop.errors import ConfigurationError, JobWarning
from simloop.shims.patch import original

if TYPE_CHECKING:
    from simloop.explore.strategies.base import Plan
    from simloop.simulation.outcome import Outcome
    from simloop.world.observer import Observer

_monotonic, _perf_counter = original(time, "monotonic"), original(time, "perf_counter")

# Real seconds that a batch must take for a fork to be worth it.
_WORTH_IT = 0.05
# Exit status of a fork that was interrupted.
_INTERRUPTED = 130


#: Result of a run that has passed: its choices and its fingerprint, a hash of what happened.
Passed = tuple[Choices, int]


class Jobs:
    """Pool of `number` processes, this one included, among which batches of runs are divided. ``execute(choices,
    observer)`` makes a run."""

    def __init__(self, number: int, execute: Callable[[Choices, Observer | None], Outcome]) -> None:
        self._number = number
        self._execute = execute
        self._seconds = 0.0
        self._runs = 0

    def size(self, runs: int) -> int:
        """Return the number of runs in the next batch, after `runs` so far: 1 for the canonical run, from which most
        strategies begin; then an even number, about half of `runs`, so that there are few batches, but strategies still
        learn from earlier ones."""
        return max(2, runs // 4 * 2) if runs else 1

    def note(self, seconds: float) -> None:
        """Record the real seconds that a run took in this process."""
        self._seconds += seconds
        self._runs += 1

    def make(self, plans: Sequence[Plan], numbered: bool, ends: float | None) -> dict[int, Outcome | Passed]:
        """Make the runs of a batch, and return their results by index in `plans`. None begins after the real time
        `ends`, if that is given. Runs that are missing in the result have to be made by the caller. With `numbered`,
        objects hash by number instead of by address."""
        if self._number < 2 or not self._runs or self._seconds / self._runs * len(plans) < _WORTH_IT:
            return {}
        shares = [range(first, len(plans), self._number) for first in range(min(self._number, len(plans)))]
        forks = [_Fork(self, plans, share, numbered, ends) for share in shares[1:]]
        made: dict[int, Outcome | Passed] = {}
        try:
            try:
                for at, outcome in self._share(plans, shares[0], numbered, ends):
                    made[at] = outcome if _is_last(outcome) else (outcome.choices, outcome.fingerprint)
            except KeyboardInterrupt:
                raise
            except BaseException:
                pass  # no failure, but a skip, say: made once more in its turn, since an earlier run may have failed
            for fork in forks:
                made.update(fork.results())
        finally:
            for fork in forks:
                fork.end()
        return made

    def _share(
        self, plans: Sequence[Plan], share: Sequence[int], numbered: bool, ends: float | None
    ) -> Iterator[tuple[int, Outcome]]:
        for at in share:
            if ends is not None and _monotonic() >= ends:
                return
            outcome = self.run(plans[at], numbered)
            yield at, outcome
            if _is_last(outcome):
                return

    def run(self, plan: Plan, numbered: bool) -> Outcome:
        began = _perf_counter()
        outcome = self._execute(Choices(plan.seed, plan.decide, numbered=numbered), plan.observer)
        self.note(_perf_counter() - began)
        return outcome


def _is_last(outcome: Outcome) -> bool:
    """Return True for the outcome of a run that ends the campaign: it failed, or escaped."""
    return outcome.exception is not None or outcome.escape is not None


class _Fork:
    """Fork of this process that makes a share of a batch of runs."""

    def __init__(
        self, jobs: Jobs, plans: Sequence[Plan], share: Sequence[int], numbered: bool, ends: float | None
    ) -> None:
        self._plans = plans
        self._numbered = numbered
        # A file, since a pipe would fill up while this process makes its own share.
        self._file = posix.memfd_create("simloop-job")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads: of them, a fork has none
            self._pid = posix.fork()
        if self._pid == 0:
            self._work(jobs._share(plans, share, numbered, ends))

    def _work(self, share: Iterator[tuple[int, Outcome]]) -> NoReturn:
        status = 0
        try:
            for at, outcome in share:
                if _is_last(outcome):
                    break
                data = marshal.dumps((at, outcome.fingerprint, outcome.choices.state()))
                posix.write(self._file, len(data).to_bytes(8, "little") + data)
        except KeyboardInterrupt:
            status = _INTERRUPTED
        except BaseException:
            pass  # as above
        finally:
            posix._exit(status)

    def results(self) -> dict[int, Passed]:
        """Wait until the fork has ended and return the results of its runs, by their index in the batch."""
        _, status = posix.waitpid(self._pid, 0)
        self._pid = 0
        code = posix.waitstatus_to_exitcode(status)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
            warnings.warn(
                f"a process of --sim-jobs was ended {how}: its runs are made by the others", JobWarning, stacklevel=2
            )
        return dict(self._read())

    def _read(self) -> list[tuple[int, Passed]]:
        size = posix.fstat(self._file).st_size
        if not size:
            return []
        found = []
        with mmap.mmap(self._file, size, access=mmap.ACCESS_READ) as data:
            at = 0
            while at + 8 <= size:
                length = int.from_bytes(data[at : at + 8], "little")
                if at + 8 + length > size:
                    break  # it was ended in the middle
                found.append(self._decoded(data[at + 8 : at + 8 + length]))
                at += 8 + length
        return found

    def _decoded(self, data: bytes) -> tuple[int, Passed]:
        at, fingerprint, state = marshal.loads(data)
        choices = Choices(self._plans[at].seed, numbered=self._numbered)
        choices.restore(state)
        return at, (choices, fingerprint)

    def end(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                posix.kill(self._pid, signal.SIGKILL)
            posix.waitpid(self._pid, 0)
            self._pid = 0
        posix.close(self._file)


def check_jobs(value: Any) -> int:
    """Validate a number of jobs (worker processes), and return it; for ``auto``, return the number of processors that
    this process may use. Raises `ConfigurationError` for less than one."""
    if value == "auto":
        return len(posix.sched_getaffinity(0))
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"jobs must be a whole number of at least 1, or auto, not {value!r}")
    return value
