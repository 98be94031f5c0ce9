"""Trial of a simulated test by pytest: its pinned schedules, then its campaign, and the handling of a failure."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_simloop import timeouts
from pytest_simloop.options import for_session
from pytest_simloop.progress import shown
from pytest_simloop.settings import Settings, test_name
from simloop.choices.choices import Choices
from simloop.choices.schedule import Schedule
from simloop.errors import StoreWarning, limit_met
from simloop.explore import DIRECTORY
from simloop.explore.campaign import Campaign

if TYPE_CHECKING:
    from pytest_simloop.confirm import Confirmation
    from pytest_simloop.simulated import Simulated
    from simloop.explore.corpus import Corpora, Corpus
    from simloop.explore.failure import Failure
    from simloop.explore.plugins import Hooks, PluginManager
    from simloop.explore.progress import Progress
    from simloop.explore.result import Report
    from simloop.explore.store import Saved, Store
    from simloop.simulation.run import Execute, Outcome
    from simloop.world.observer import Observer

# Most sessions have no saved failure, and no plugin that takes part in exploring: what is for these is imported late.
_STORE: pytest.StashKey[Store] = pytest.StashKey()
_CORPORA: pytest.StashKey[Corpora] = pytest.StashKey()
_PLUGINS: pytest.StashKey[PluginManager] = pytest.StashKey()
#: Plugins that implement no hook of simloop, and whether an installed package does.
_WITHOUT = pytest.StashKey[set[object]]()
_INSTALLED = pytest.StashKey[bool]()


class Trial:
    """Everything that pytest does with one simulated test: replays, the campaign, and the handling of a failure."""

    def __init__(self, item: Simulated, settings: Settings) -> None:
        self.item = item
        self.settings = settings
        self.name = test_name(item)
        self.hooks = _hooks(item, self.name)

    @property
    def _store(self) -> Store:
        from simloop.explore.store import Store

        return self.item.config.stash.setdefault(_STORE, Store(self.item.config.rootpath / DIRECTORY))

    @functools.cached_property
    def saved(self) -> list[Saved]:
        """List of the saved failures of this test, with which its campaigns begin."""
        if not os.path.lexists(self.item.config.rootpath / DIRECTORY):
            return []
        limits = self.settings.limits
        return [
            saved
            for saved in self._store.load(self.item.nodeid)
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
        )

    def _corpus(self) -> Corpus:
        """Return what campaigns of this test have reached in sessions before."""
        from simloop.explore.corpus import CORPUS, Corpora

        config = self.item.config
        corpora = config.stash.setdefault(_CORPORA, Corpora(config.rootpath / DIRECTORY / CORPUS))
        return corpora.load(self.item.nodeid, self.name, self.settings.limits)

    def scheduled(self, token: str) -> tuple[Schedule, Choices]:
        """Return the schedule for a token or a plain seed, and the choices that a run of it makes."""
        if token.isdigit():
            from simloop.choices.draws import seeded

            seed = int(token)
            return Schedule(self.settings.limits.profile, seed), Choices(seed, seeded(seed))
        from simloop.choices.tokens import decode

        schedule = decode(token, self.name)
        return schedule, schedule.choices()

    def explore(self) -> Report:
        """Run the whole campaign of the test. Raises what the test raises."""
        with shown(self.item) as progress:
            corpus = self._corpus() if self.settings.corpus else None
            campaign = self.campaign([saved.schedule for saved in self.saved], progress=progress, corpus=corpus)
            with timeouts.ending(self.item, campaign):
                report = campaign.explore()
        if report.failure is None:
            self.passed()
            return report
        failure = report.failure
        saved_at = self.keep(failure)
        self.item.section = self.described(report, failure, self.confirmation(failure), saved_at)
        self.item.extra_sections = self.extra_sections(failure)
        raise failure.exception

    def replay(self, token: str, title: str = "") -> None:
        """Run the test under one schedule, given by a token or a plain seed. Raises what the test raises."""
        own = self.scheduled(token)[0].profile

        def execute(
            choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
        ) -> Outcome:
            return self.item.execute(choices, observer, profile=profile or own, final=final)

        campaign = Campaign(execute, self.name, profile=own)
        with timeouts.ending(self.item, campaign):
            outcome, explanation, schedule = campaign.replay(token)
        if outcome.exception is not None:
            from pytest_simloop.confirm import note_signature
            from pytest_simloop.sections import describe_replay

            note_signature(outcome.exception)

            tail = []
            if self.settings.prove:
                from simloop.explore.proof import prove

                tail.append(prove(execute, schedule, outcome.exception))
            if self.item.config.option.sim_export is not None:
                tail.append(self._exported(execute, schedule, outcome.exception, token))
            self.item.section = title + describe_replay(self.item, explanation, schedule, tail)
            raise outcome.exception

    def _exported(self, execute: Execute, schedule: Schedule, error: BaseException, token: str) -> str:
        """Write the script that the command line asks for. Returns the sentence that says so, or why there is none."""
        from simloop.explore.export import ExportError, export

        file = Path(self.item.config.option.sim_export)
        try:
            file.write_text(export(execute, schedule, error, getattr(self.item, "function", None), token))
        except (ExportError, OSError) as reason:
            return f"not exported: {reason}"
        return f"exported: python {file} fails in the same way, without simloop"

    def look(self, *, numbered: bool = False) -> None:
        """Run a test that has passed once more, with live breakpoints: the schedule of the given token, or else the
        canonical run."""
        settings = self.settings
        profile, choices = settings.limits.profile, Choices(settings.seed, numbered=numbered)
        if settings.replay is not None:
            schedule, choices = self.scheduled(settings.replay)
            profile = schedule.profile
        exception = self.item.execute(choices, profile=profile, final=True).exception
        if exception is not None:
            raise exception

    def extra_sections(self, failure: Failure) -> list[tuple[str, str]]:
        """Return the titles and texts that plugins add to the report of a failure."""
        return [] if self.hooks is None else self.hooks.sections(failure)

    def passed(self) -> None:
        """Drop the saved failures of a test that has passed in full: they are considered fixed."""
        if self.saved:
            self._store.drop(self.item.nodeid, [saved.token for saved in self.saved])

    def keep(self, failure: Failure) -> str | None:
        """Save a failure in the store. Returns the path of its file for the report, or None if it could not be
        written."""
        from simloop.explore.store import Saved

        error = type(failure.exception).__name__
        entry = Saved(failure.token, error, failure.strategy, self.settings.limits.cancel)
        try:
            path = self._store.add(self.item.nodeid, entry)
        except StoreWarning as warning:  # under -W error, which must not hide the failure
            failure.exception.add_note(str(warning))
            return None
        return None if path is None else _printable(path, self.item.config)

    def confirmation(self, failure: Failure) -> Confirmation:
        """Return the verdict of a fresh process on a failure. None is started with ``--pdb``, nor where confirming is
        switched off, nor for a limit of the simulation, which is no failure of the program."""
        from pytest_simloop.confirm import UNKNOWN, confirm

        config = self.item.config
        asked = for_session(config, "confirm") and not config.option.usepdb and not limit_met(failure.exception)
        return confirm(self.item, failure) if asked else UNKNOWN

    def described(self, report: Report, failure: Failure, confirmation: Confirmation, saved_at: str | None) -> str:
        from pytest_simloop.sections import describe_failure

        return describe_failure(self.item, report, failure, self.settings, confirmation, saved_at=saved_at)


def _printable(path: Path, config: pytest.Config) -> str:
    try:
        return str(path.relative_to(config.invocation_params.dir))
    except ValueError:
        return str(path)


def _hooks(item: Simulated, name: str) -> Hooks | None:
    """Return simloop's hooks as implemented by installed plugins, by pytest's plugins, and by each `conftest.py` above
    the test. None if nobody implements any."""
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
    """Return True if an installed package has an entry point of the group ``simloop``."""
    if _INSTALLED not in stash:
        # `entry_points` would take apart the entry points of all groups.
        declared = (package.read_text("entry_points.txt") for package in distributions())
        stash[_INSTALLED] = any(groups is not None and "[simloop]" in groups for groups in declared)
    return stash[_INSTALLED]
