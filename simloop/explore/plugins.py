"""Third-party plugins of campaigns: the manager that finds them, and the calls of their hooks
(`simloop.explore.hookspecs`)."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Collection
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from simloop.errors import PluginError
from simloop.explore import hookspecs

if TYPE_CHECKING:
    from simloop.explore.failure import Failure
    from simloop.explore.strategies.base import Strategy
    from simloop.simulation.outcome import Outcome


class PluginManager(pluggy.PluginManager):
    """Pluggy's plugin manager with simloop's hooks, and with the plugins of the entry-point group ``simloop``."""

    def __init__(self) -> None:
        super().__init__(hookspecs.PROJECT)
        self.add_hookspecs(hookspecs)
        for entry in entry_points(group=hookspecs.PROJECT):
            try:
                plugin = entry.load()
            except Exception as error:
                raise PluginError(f"the simloop plugin {entry.name!r} cannot be loaded: {_told(error)}") from error
            self.add(plugin, entry.name)

    def add(self, plugin: object, name: str) -> None:
        """Register an object as a plugin if it implements hooks and is not registered yet. Raises `PluginError` if a
        function marked as an implementation has the name of no hook."""
        if self.is_registered(plugin):
            return
        try:
            self.register(plugin, name)
            self.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"the simloop plugin {name!r} is wrong: {str(error).splitlines()[-1]}") from None

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        # Whatever else the object has is not looked at: reading an attribute may do anything.
        return super().parse_hookimpl_opts(plugin, name) if name.startswith("simloop_") else None


@functools.cache
def installed_plugins() -> PluginManager:
    """Return the manager of the plugins in installed packages: those of the entry-point group ``simloop``."""
    return PluginManager()


class Hooks:
    """Caller of the hooks of all plugins, except those in `absent`, for one test."""

    def __init__(self, manager: PluginManager, test: str, absent: Collection[object] = ()) -> None:
        self._manager = manager
        self._test = test
        self._absent = absent

    def strategies(self, seed: int, profile: str) -> list[Strategy]:
        """Return the strategies that plugins add to the test's campaign."""
        found: list[Strategy] = []
        for given in self._call("simloop_strategies", seed=seed, profile=profile):
            for strategy in given if isinstance(given, list) else [given]:
                if not all(hasattr(strategy, part) for part in ("name", "plan", "observe")):
                    raise PluginError(
                        f"simloop_strategies of {self._providers('simloop_strategies')} returned {strategy!r}, "
                        "which is no strategy: it takes a name, plan() and observe()"
                    )
                found.append(strategy)
        return found

    def observer(self) -> Callable[[Outcome], None] | None:
        """Return a function to be called with the outcome of every run, or None if no plugin observes runs."""
        if not self._caller("simloop_observe_run").get_hookimpls():
            return None

        def observe(outcome: Outcome) -> None:
            self._call("simloop_observe_run", outcome=outcome)

        return observe

    def sections(self, failure: Failure) -> list[tuple[str, str]]:
        """Return the titles and texts that plugins add to the report of a failure. A plugin's exception is reported as
        a section too, so that it does not hide the failure."""
        try:
            found = self._call("simloop_report_section", failure=failure)
        except PluginError as error:
            return [("simloop plugin", str(error))]
        for section in found:
            if not (isinstance(section, tuple) and [type(part) for part in section] == [str, str]):
                who = self._providers("simloop_report_section")
                return [("simloop plugin", f"simloop_report_section of {who} returned {section!r}: not two strings")]
        return found

    def _caller(self, name: str) -> pluggy.HookCaller:
        return self._manager.subset_hook_caller(name, self._absent)

    def _providers(self, name: str) -> str:
        return " or ".join(repr(implementation.plugin_name) for implementation in self._caller(name).get_hookimpls())

    def _call(self, name: str, **arguments: Any) -> list[Any]:
        caller = self._caller(name)
        try:
            return list(caller(test=self._test, **arguments))
        except Exception as error:
            raised_in = {frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)}
            for implementation in caller.get_hookimpls():
                if getattr(implementation.function, "__code__", None) in raised_in:
                    raise PluginError(
                        f"the simloop plugin {implementation.plugin_name!r} failed in {name}: {_told(error)}"
                    ) from error
            raise


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
