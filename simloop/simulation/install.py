"""All shims together: putting them in place, and taking them away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType

from simloop.loop.factory import REPLACEMENTS
from simloop.shims import SHIMS, importlib, set_order
from simloop.shims.patch import Patch

_patch: Patch | None = None
_installed = False


def install() -> None:
    """Put the shims in place. They stay: outside of a world each of them goes to the real function, so
    that a run is switched on and off by one assignment (`active.world_entered`)."""
    global _patch, _installed
    if _patch is None:
        for shim in SHIMS:
            prepare = getattr(shim, "install", None)
            if prepare is not None:
                prepare()
        _patch = Patch([*(entry for shim in SHIMS for entry in shim.REPLACEMENTS), *REPLACEMENTS])
        importlib.on_import = _imported
    if not _installed:
        _installed = True
        _patch.apply()
        set_order.refresh()
    elif _patch.refresh():
        set_order.refresh()


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
