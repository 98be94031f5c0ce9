"""Shims of the functions of `os` that describe the machine: its name, kernel, size and load, which vary between real
machines."""

from __future__ import annotations

import os
from typing import Any

from simloop.kernel.files.proc import RELEASE, VERSION
from simloop.shims.late import real
from simloop.shims.patch import builtin
from simloop.world import active
from simloop.world.world import CPU_COUNT

_real = real(__name__)
# In pages: 8 GiB, of which 4 are free. As /proc/meminfo has it, in simloop/kernel/files/proc.py.
_SYSCONF = {
    "SC_NPROCESSORS_CONF": CPU_COUNT, "SC_NPROCESSORS_ONLN": CPU_COUNT,
    "SC_PHYS_PAGES": 1 << 21, "SC_AVPHYS_PAGES": 1 << 20,
}  # fmt: skip
_SIZE_OF = {os.sysconf_names[name]: size for name, size in _SYSCONF.items() if name in os.sysconf_names}


def uname() -> os.uname_result:
    world = active.world()
    if world is None:
        return _real["uname"]()  # type: ignore[no-any-return]
    machine = _real["uname"]().machine
    return os.uname_result(("Linux", world.current.host.name, RELEASE, VERSION, machine))


def getloadavg() -> tuple[float, float, float]:
    if active.world() is None:
        return _real["getloadavg"]()  # type: ignore[no-any-return]
    return 0.0, 0.0, 0.0


def sysconf(name: Any, /) -> int:
    number = os.sysconf_names.get(name) if isinstance(name, str) else name
    if active.world() is None or number not in _SIZE_OF:
        return _real["sysconf"](name)  # type: ignore[no-any-return]
    return _SIZE_OF[number]


REPLACEMENTS: list[tuple[object, str, object]] = [(os, name, builtin(globals()[name])) for name in _real]
