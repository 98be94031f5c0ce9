"""Probes of what tells one machine, or one moment of it, from another."""
# ruff: noqa: SIM115

from __future__ import annotations

import faulthandler
import os
import platform
import resource
import socket
import ssl
import syslog
import time
from pathlib import Path
from typing import Any

from probes import escapes, simulated

import simloop

_REAL = os.uname(), os.getloadavg(), platform.platform()
_REAL_PID = str(os.getpid())


@simulated("the machine")
async def the_machine_has_the_hosts_name() -> list[Any]:
    async def main() -> list[str]:
        return [os.uname().nodename, platform.node(), platform.uname().node]

    assert await simloop.current().host("db").run(main) == ["db"] * 3
    assert os.uname().release != _REAL[0].release
    assert os.uname().version != _REAL[0].version
    assert platform.platform() != _REAL[2]
    return [os.uname(), platform.uname(), platform.platform(), platform.release(), platform.version()]


@simulated("the machine")
def the_machine_is_not_loaded() -> Any:
    assert os.getloadavg() != _REAL[1]
    return os.getloadavg()


@simulated("the machine")
def the_machine_has_four_processors() -> list[int]:
    found = [os.sysconf(name) for name in ("SC_NPROCESSORS_ONLN", "SC_NPROCESSORS_CONF")]
    assert found == [4, 4]
    return [
        *found,
        os.sysconf("SC_PHYS_PAGES"),
        os.sysconf(os.sysconf_names["SC_AVPHYS_PAGES"]),
        os.sysconf("SC_PAGESIZE"),
    ]


@simulated("names")
def the_machine_has_two_interfaces() -> list[Any]:
    assert socket.if_nameindex() == [(1, "lo"), (2, "eth0")]
    assert socket.if_indextoname(2) == "eth0"
    return [socket.if_nametoindex("lo")]


@simulated("files of /proc")
def proc_tells_of_the_simulated_machine() -> list[Any]:
    before = float(Path("/proc/uptime").read_text().split()[0])
    time.sleep(100)
    assert float(Path("/proc/uptime").read_text().split()[0]) >= before + 100
    assert Path("/proc/self/stat").read_text().split()[0] == str(os.getpid())
    assert f"Pid:\t{os.getpid()}\n" in Path("/proc/self/status").read_text()
    assert _REAL_PID not in Path("/proc/self/status").read_text().split()
    names = ("uptime", "loadavg", "stat", "meminfo", "self/stat", "self/statm", "self/status",
             "sys/kernel/hostname", "sys/kernel/random/uuid", "sys/kernel/random/boot_id")  # fmt: skip
    for name in names:
        assert Path("/proc", name).read_bytes() == open(f"/proc/{name}", "rb").read() or "uuid" in name
    return [before, *(Path("/proc", name).read_text() for name in names)]


@escapes("files of /proc of the moment")
def other_files_of_the_moment() -> Any:
    return Path("/proc/self/io").read_text()


@escapes("files of /proc of the moment")
def counters_of_the_kernel() -> Any:
    return Path("/proc/vmstat").read_text()


@escapes("files of /proc of the moment")
def real_descriptors() -> Any:
    return os.listdir("/proc/self/fd")


@simulated("files of /proc")
def settings_of_the_kernel_are_real() -> Any:
    return Path("/proc/sys/kernel/pid_max").read_text()


@simulated("entropy")
def entropy_of_ssl_is_the_seeds() -> list[bytes]:
    ssl.RAND_add(b"x", 1.0)
    return [ssl.RAND_bytes(8)]


@simulated("limits")
def limits_are_those_of_the_process() -> list[Any]:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft - 1, hard)
    resource.prlimit(0, resource.RLIMIT_NOFILE, (soft - 2, hard))
    return [resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_NOFILE)]


@simulated("dumps of tracebacks")
def no_dump_is_armed() -> None:
    faulthandler.dump_traceback_later(0.01)
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(3600)


@escapes("other changes to the real machine")
def the_end_of_the_test() -> None:
    faulthandler.dump_traceback_later(3600, exit=True)


@escapes("other changes to the real machine")
def the_system_log() -> None:
    syslog.syslog("leak")


# From here on with arguments that the kernel refuses to everybody: should one leak, nothing happens to the machine.


@escapes("other changes to the real machine")
def the_real_clock() -> None:
    time.clock_settime(time.CLOCK_MONOTONIC, 0.0)


@escapes("other changes to the real machine")
def the_real_name() -> None:
    socket.sethostname("x" * 1000)


@escapes("other changes to the real machine")
def the_real_scheduler() -> None:
    os.sched_setscheduler(0, 1000, os.sched_param(0))


@escapes("other changes to the real machine")
def the_real_groups() -> None:
    os.setgroups([0] * 100_000)
