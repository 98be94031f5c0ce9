"""Trial of a simulated test by pytest: its campaign, with the settings, saved failures and plugins that it uses."""

from __future__ import annotations

import functools
import os
import posix
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.machinery import PathFinder
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_simloop.environment import confirming
from pytest_simloop.options import for_session
from pytest_simloop.progress import shown
from pytest_simloop.settings import Settings, test_name
from simloop.choices.choices import Choices
from simloop.choices.schedule import Schedule
from simloop.explore import DIRECTORY
from simloop.explore.campaign import Campaign

if TYPE_CHECKING:
    from pytest_simloop.simulated import Simulated
    from simloop.explore.corpus import Corpora, Corpus
    from simloop.explore.forks import Zygote
    from simloop.explore.plugins import Hooks, PluginManager
    from simloop.explore.progress import Progress
    from simloop.explore.result import Report
    from simloop.explore.store import Saved, Store

# Most sessions have no saved failure, and no plugin that takes part in exploring: what is for these is imported late.
_STORE: pytest.StashKey[Store] = pytest.StashKey()
_CORPORA: pytest.StashKey[Corpora] = pytest.StashKey()
_PLUGINS: pytest.StashKey[PluginManager] = pytest.StashKey()
#: Plugins without hooks of simloop; and the answer of `_is_installed`.
_WITHOUT = pytest.StashKey[set[object]]()
_INSTALLED = pytest.StashKey[bool]()


class Trial:
    """Trial of one simulated test: its campaign, and everything that the campaign is started with."""

    def __init__(self, item: Simulated, settings: Settings) -> None:
        self.item = item
        self.settings = settings
        self.name = test_name(item)
        self.hooks = _hooks(item, self.name)

    @property
    def store(self) -> Store:
        """Store of the failures that this project has saved."""
        from simloop.explore.store import Store

        return self.item.config.stash.setdefault(_STORE, Store(self.item.config.rootpath / DIRECTORY))

    @functools.cached_property
    def saved(self) -> list[Saved]:
        """Saved failures of this test, with which its campaigns begin."""
        if not os.path.lexists(self.item.config.rootpath / DIRECTORY):
            return []
        limits = self.settings.limits
        return [
            saved
            for saved in self.store.load(self.item.nodeid)
            if not saved.newer
            and saved.cancel == limits.cancel
            and saved.schedule.profile == limits.profile
            and (limits.preempt == "lines" or not saved.schedule.preempts_lines)
        ]

    def campaign(
        self,
        saved: Sequence[Schedule],
        *,
        numbered: bool = False,
        progress: Progress | None = None,
        corpus: Corpus | None = None,
        fresh: Callable[[], Zygote] | None = None,
        explain: bool = True,
    ) -> Campaign:
        settings = self.settings
        profile = settings.limits.profile
        seed = settings.seed if corpus is None else corpus.seed(settings.seed)
        return Campaign(
            self.item.execute,
            self.name,
            runs=settings.runs,
            seed=seed,
            profile=profile,
            saved=saved,
            strategies=[] if self.hooks is None else self.hooks.strategies(seed, profile),
            chosen=settings.strategies,
            seconds=settings.seconds,
            jobs=settings.jobs,
            shrink_runs=settings.shrink_runs,
            observe=None if self.hooks is None else self.hooks.observer(),
            numbered=numbered,
            progress=progress,
            corpus=corpus,
            fresh=fresh,
            explain=explain,
            dismiss=self.dismiss,
        )

    def _corpus(self) -> Corpus:
        """Return the corpus (schedules to continue from) that campaigns of this test have left in earlier sessions."""
        from simloop.explore.corpus import CORPUS, Corpora

        config = self.item.config
        corpora = config.stash.setdefault(_CORPORA, Corpora(config.rootpath / DIRECTORY / CORPUS))
        return corpora.load(self.item.nodeid, self.name, self.settings.limits)

    def scheduled(self, token: str) -> tuple[Schedule, Choices]:
        """Return the schedule of a token or a plain seed, and the choices for a run that follows it."""
        if token.isdigit():
            from simloop.choices.draws import seeded

            seed = int(token)
            return Schedule(self.settings.limits.profile, seed), Choices(seed, seeded(seed))
        from simloop.choices.tokens import decode

        schedule = decode(token, self.name)
        return schedule, schedule.choices()

    def explore(self) -> Report:
        """Run the campaign of the test and return its report."""
        with shown(self.item) as progress:
            corpus = self._corpus() if self.settings.corpus else None
            fresh = self._fresh_zygote if self.confirms else None
            saved = [saved.schedule for saved in self.saved]
            campaign = self.campaign(saved, progress=progress, corpus=corpus, fresh=fresh)
            with _ending(self.item, campaign):
                begun, report = self.settings.limits, campaign.explore()
        if self.settings.limits is not begun:
            return self.explore()
        if report.failure is None:
            self.passed()
        return report

    def dismiss(self, error: BaseException) -> bool:
        """Return True if the failure of a run is due to the date on which runs have begun. Later ones begin now."""
        from pytest_simloop.real_date import limits_from_now

        limits = limits_from_now(self.item, self.settings.limits, self.settings.seed, error)
        if limits is not None:
            self.settings = self.settings._replace(limits=limits)
        return limits is not None

    @property
    def confirms(self) -> bool:
        """True if failures are to be confirmed, for which a fresh process may be started."""
        config = self.item.config
        return bool(for_session(config, "confirm")) and not config.option.usepdb and not confirming()

    def _fresh_zygote(self) -> Zygote:
        from pytest_simloop.confirm import node_of, replayer_of
        from simloop.simulation.limits import NOW

        return replayer_of(self.item.config).zygote(node_of(self.item), NOW if self.item.from_now else None)

    def passed(self) -> None:
        """To be called when the test has passed: delete its saved failures, which count as fixed."""
        if self.saved:
            self.store.drop(self.item.nodeid, [saved.token for saved in self.saved])


def _ending(item: Simulated, campaign: Campaign) -> AbstractContextManager[None]:
    """Return a context manager around a campaign, which handles a timeout of pytest-timeout, if that is installed."""
    if "pytest_timeout" not in sys.modules:
        return nullcontext()
    from pytest_simloop import timeouts

    return timeouts.ending(item, campaign)


def _hooks(item: Simulated, name: str) -> Hooks | None:
    """Return a caller of simloop's hooks, as implemented by installed plugins, by pytest's plugins, and by each
    `conftest.py` that applies to the test. None if there are no implementations."""
    plugins, stash = item.config.pluginmanager, item.config.stash
    found = plugins.get_plugins()
    if _PLUGINS not in stash and not _is_installed(stash):
        without = stash.setdefault(_WITHOUT, set())
        for plugin in found - without:
            if any(attribute.startswith("simloop_") for attribute in dir(plugin)):
                break
            without.add(plugin)
        else:
            return None
    from simloop.explore import plugins as simloop_plugins

    manager = stash.get(_PLUGINS, None)
    if manager is None:
        manager = stash[_PLUGINS] = simloop_plugins.PluginManager()
    absent = []
    for plugin in found:
        file = getattr(plugin, "__file__", None)
        if file is not None and Path(file).name == "conftest.py" and Path(file).parent not in item.path.parents:
            absent.append(plugin)
        else:
            manager.add(plugin, plugins.get_name(plugin) or repr(plugin))
    return simloop_plugins.Hooks(manager, name, absent)


def _is_installed(stash: pytest.Stash) -> bool:
    """Return True if an installed package has an entry point in the group ``simloop``."""
    if _INSTALLED not in stash:
        stash[_INSTALLED] = any(groups is not None and "[simloop]" in groups for groups in _entry_points())
    return stash[_INSTALLED]


def _entry_points() -> Iterator[str | None]:
    """Yield the text in which installed packages declare their entry points."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    if finders != [PathFinder] or not all(map(os.path.isdir, filter(os.path.exists, sys.path))):
        yield from (package.read_text("entry_points.txt") for package in distributions())
        return
    # As `distributions` does in directories, without an object for each package.
    for place in sys.path:
        with suppress(OSError):
            for name in posix.listdir(place or "."):
                declared = os.path.join(place, name, "entry_points.txt")
                if name.lower().endswith((".dist-info", "egg-info")) and os.path.exists(declared):
                    yield Path(declared).read_text(encoding="utf-8")
