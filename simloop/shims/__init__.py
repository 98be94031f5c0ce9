"""Shims: replacements of functions of the standard library, which translate calls of unmodified Python into calls of
the kernel.

Each shim is named after the module that it mirrors, keeps that module's behaviour to the letter, and calls the real
function outside of a world. What the simulation does not cover escapes with an error. Shims and the loop do not import
each other.

A shim is a module with `REPLACEMENTS`: entries of the owner of an attribute, its name, and the replacement that stands
there while shims are installed. If that is not enough, it also has a function ``install``. A new shim is added to
`SHIMS`, which is all that `simloop.simulation.install` and the tests of the documentation know of.
"""

from __future__ import annotations

from simloop.shims import child_watcher, escapes, gc, importlib, io, random, select, signal, subprocess, threading, time
from simloop.shims.os import counters, descriptors, listing, paths, pipes, processes, xattrs
from simloop.shims.socket import names, sockets

SHIMS = (
    time, random, names, select, sockets, processes, subprocess, child_watcher, paths, listing, descriptors, pipes,
    counters, xattrs, io, threading, signal, escapes, importlib, gc,
)  # fmt: skip
