"""All shims together: putting them in place, and taking them away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType

from simloop.loop.factory import REPLACEMENTS
from simloop.shims import SHIMS, clock_tools, importlib, set_order
from simloop.shims.patch import Patch
from simloop.shims.time import UNDER_TIME_MACHINE

_patch: Patch | None = None
_installed = False
#: True once modules were looked through while freezegun hid what they hold.
_hidden = False


def install() -> None:
    """Put the shims in place. They stay: outside of a world each of them goes to the real function, so
    that a run is switched on and off by one assignment (`active.world_entered`)."""
    global _hidden, _installed, _patch
    if _patch is not None and _hidden and not clock_tools.frozen():
        _hidden = False
        _patch.forget()
    if _installed and _patch is not None:
        if not _patch.refresh():
            return
    else:
        with clock_tools.thawed():
            if _patch is None:
                for shim in SHIMS:
                    prepare = getattr(shim, "install", None)
                    if prepare is not None:
                        prepare()
                shims = (entry for shim in SHIMS for entry in shim.REPLACEMENTS)
                importlib.on_import = _imported
                _patch = Patch([*shims, *REPLACEMENTS, *UNDER_TIME_MACHINE])
            _installed = True
            _patch.apply()
    _hidden = _hidden or clock_tools.frozen()
    set_order.refresh()
    clock_tools.refresh()


def _imported(module: ModuleType | None) -> None:
    """Do for what a run has imported what `install` does for what was there before: the next run finds it done."""
    if _patch is not None and _installed:
        _patch.imported(module)
        set_order.refresh()


def uninstall() -> None:
    """Give every attribute that `install` replaced its original back."""
    global _installed
    if _patch is not None and _installed:
        _installed = False
        with clock_tools.thawed():
            _patch.restore()


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """The shims are in place for the length of the block, and after it as they were before."""
    before = _installed
    install()
    try:
        yield
    finally:
        if not before:
            uninstall()
