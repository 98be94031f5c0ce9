"""All shims together: putting them in place, and taking them away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from simloop.loop.factory import _loop_replacements
from simloop.shims import (
    child_watcher,
    clocks,
    counters,
    descriptors,
    entropy,
    escapes,
    files,
    identity,
    listing,
    names,
    paths,
    pipes,
    polling,
    processes,
    signals,
    sockets,
    spawning,
    threads,
    xattrs,
)
from simloop.shims.patch import Patch

_patch: Patch | None = None
_installed = False


def install() -> None:
    """Put the shims in place. They stay: outside of a world each of them goes to the real function, so
    that a run is switched on and off by one assignment (`active.world_entered`)."""
    global _patch, _installed
    if _patch is None:
        escapes.install_audit_hook()
        paths.install()
        listing.install()
        descriptors.install()
        xattrs.install()
        _patch = Patch(
            [
                *clocks.REPLACEMENTS,
                *entropy.REPLACEMENTS,
                *names.REPLACEMENTS,
                *polling.REPLACEMENTS,
                *sockets.REPLACEMENTS,
                *processes.REPLACEMENTS,
                *spawning.REPLACEMENTS,
                *child_watcher.REPLACEMENTS,
                *paths.REPLACEMENTS,
                *listing.REPLACEMENTS,
                *descriptors.REPLACEMENTS,
                *pipes.REPLACEMENTS,
                *counters.REPLACEMENTS,
                *xattrs.REPLACEMENTS,
                *files.REPLACEMENTS,
                *threads.REPLACEMENTS,
                *signals.REPLACEMENTS,
                *escapes.REPLACEMENTS,
                *_loop_replacements(),
            ]
        )
    if not _installed:
        _installed = True
        _patch.apply()
        identity.refresh()
    elif _patch.refresh():
        identity.refresh()


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
