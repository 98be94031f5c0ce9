"""All shims together: putting them in place, and taking them away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from simloop.loop.factory import REPLACEMENTS
from simloop.shims import SHIMS, clock_tools, set_order
from simloop.shims.patch import Patch
from simloop.shims.time import UNDER_TIME_MACHINE

_patch: Patch | None = None
_installed = False


def install() -> None:
    """Put the shims in place. They stay: outside of a world each of them goes to the real function, so
    that a run is switched on and off by one assignment (`active.world_entered`)."""
    global _patch, _installed
    if _patch is None or not _installed:
        with clock_tools.thawed():
            if _patch is None:
                for shim in SHIMS:
                    prepare = getattr(shim, "install", None)
                    if prepare is not None:
                        prepare()
                shims = (entry for shim in SHIMS for entry in shim.REPLACEMENTS)
                _patch = Patch([*shims, *REPLACEMENTS, *UNDER_TIME_MACHINE])
            _installed = True
            _patch.apply()
            _refresh_others()
    elif _patch.refresh():
        _refresh_others()


def _refresh_others() -> None:
    set_order.refresh()
    clock_tools.refresh()


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
