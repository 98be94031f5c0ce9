"""Installation of all shims (the patches of the standard library) together, and their removal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType

from simloop.loop.factory import REPLACEMENTS
from simloop.shims import SHIMS, clock_tools, importlib, late, libraries, set_order
from simloop.shims.locks import rebind_conditions
from simloop.shims.patch import Patch
from simloop.shims.time import UNDER_TIME_MACHINE

_patch: Patch | None = None
_installed = False
#: True if modules were searched for real functions while freezegun had replaced those: they must be searched again.
_hidden = False


def install() -> None:
    """Install the shims, the patches of the standard library. They stay: outside of a world each calls the real
    function, so entering a world takes one assignment (`active.world_entered`)."""
    global _hidden, _installed, _patch
    if _patch is not None and _hidden and not clock_tools.frozen():
        _hidden = False
        _patch.forget()
    if _installed and _patch is not None:
        if not _patch.refresh():
            return
    else:
        with clock_tools.thawed():
            first = _patch is None
            if _patch is None:
                shims = (entry for shim in SHIMS for entry in shim.REPLACEMENTS)
                importlib.on_import = _imported
                _patch = Patch([*shims, *late.stand_ins(), *REPLACEMENTS, *UNDER_TIME_MACHINE])
            _installed = True
            _patch.apply()
            rebind_conditions()
        if first:
            # Afterwards: the search for references would have the audit hook called with every `id()`.
            for shim in SHIMS:
                prepare = getattr(shim, "install", None)
                if prepare is not None:
                    prepare()
    _hidden = _hidden or clock_tools.frozen()
    set_order.refresh()
    libraries.refresh()
    clock_tools.refresh()


def _imported(module: ModuleType | None) -> None:
    """Patch modules that a run has just imported, as `install` patches earlier ones. `module` is one that may be
    missing in `sys.modules`."""
    if _patch is not None and _installed:
        _patch.imported(module)
        set_order.refresh()
        libraries.refresh(imported=True)


def uninstall() -> None:
    """Restore the original of every attribute that `install` replaced."""
    global _installed
    if _patch is not None and _installed:
        _installed = False
        importlib.loaded.clear()
        with clock_tools.thawed():
            _patch.restore()


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Context manager that installs the shims for the length of the block, and afterwards restores the previous
    state."""
    before = _installed
    install()
    try:
        yield
    finally:
        if not before:
            uninstall()
