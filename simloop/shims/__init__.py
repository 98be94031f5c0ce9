"""Shims: replacements of functions of the standard library, which translate calls of unmodified Python into calls of
the kernel.

Each is named after the module that it mirrors, keeps that module's behaviour to the letter, and goes to the real
function outside of a world. What the simulation does not cover escapes loudly. Shims are siblings of the loop: neither
imports the other.

A shim is a module with `REPLACEMENTS`: the owner of an attribute, its name, and what stands there while shims are
installed; and, where that takes more, a function ``install``. A new one is added to `SHIMS`, which is all that
`simloop.simulation.install` and the tests of the documentation know of.
"""

from __future__ import annotations

from simloop.shims import child_watcher, escapes, gc, importlib, io, random, select, signal, subprocess, threading, time
from simloop.shims.os import counters, descriptors, listing, paths, pipes, processes, xattrs
from simloop.shims.socket import names, sockets

SHIMS = (
    time, random, names, select, sockets, processes, subprocess, child_watcher, paths, listing, descriptors, pipes,
    counters, xattrs, io, threading, signal, escapes, importlib, gc,
)  # fmt: skip
