"""TCP keep-alive: aborts a connection whose peer has not answered probes for too long (tcp(7), SO_KEEPALIVE;
tcp_keepalive_timer() in net/ipv4/tcp_timer.c).

Probes that are answered change nothing, so they are not simulated: a healthy connection has no timer. Probing begins
when the peer's machine is down or the network is cut, and ends when the peer answers. Probes are not packets that the
environment can delay or lose; a probe is answered if the links of both directions work.
"""

from __future__ import annotations

import socket as _socket  # constants only
from typing import TYPE_CHECKING

from simloop.kernel.clock import MILLISECOND, SECOND
from simloop.kernel.net.options import IPPROTO_TCP, SOL_SOCKET, TCP_USER_TIMEOUT
from simloop.kernel.net.stream import RST

if TYPE_CHECKING:
    from simloop.kernel.net.endpoint import Endpoint

_IDLE, _INTERVAL, _COUNT = int(_socket.TCP_KEEPIDLE), int(_socket.TCP_KEEPINTVL), int(_socket.TCP_KEEPCNT)
_SO_KEEPALIVE = int(_socket.SO_KEEPALIVE)


def watch(end: Endpoint) -> None:
    """Start to probe the peer of a connection, if SO_KEEPALIVE is set and the peer would not answer now."""
    if not end.probing and end.options.flag(SOL_SOCKET, _SO_KEEPALIVE) and end.connected() and not _answers(end):
        end.probing = True
        scheduler = end.net.scheduler
        idle_ns = _seconds(end, _IDLE)
        # Those until now were answered, one each time that nothing was heard for so long.
        elapsed_ns = scheduler.clock.now - _heard_ns(end)
        scheduler.at(scheduler.clock.now + idle_ns - elapsed_ns % idle_ns, lambda: _probe(end, 0, 0))


def _probe(end: Endpoint, unanswered: int, answered_ns: int) -> None:
    """Probe the peer, or abort the connection after too many probes.

    `unanswered` is the number of probes without an answer so far, and `answered_ns` the time of the last sign of life;
    0 at the first probe.
    """
    tx, rx, scheduler = end.tx, end.rx, end.net.scheduler
    if tx is None or rx is None or not end.connected() or not end.options.flag(SOL_SOCKET, _SO_KEEPALIVE):
        end.probing = False
        return
    now, idle_ns = scheduler.clock.now, _seconds(end, _IDLE)
    answered_ns = answered_ns or now - idle_ns
    heard_ns = _heard_ns(end)
    if tx.unsent or tx.flight or tx.unacknowledged:
        wait_ns = idle_ns  # what is sent again tells as much
    elif heard_ns > answered_ns:
        unanswered, answered_ns = 0, heard_ns
        wait_ns = heard_ns + idle_ns - now
    elif _given_up(end, unanswered, now - answered_ns):
        end.probing = False
        end.timed_out()
        return
    elif _answers(end):
        end.probing = False
        tx.delivered_ns = now
        assert tx.receiver is not None
        if tx.receiver.forgotten:
            end.control_arrived(RST, rx)
        return
    else:
        unanswered += 1
        wait_ns = _seconds(end, _INTERVAL)
    scheduler.at(now + wait_ns, lambda: _probe(end, unanswered, answered_ns))


def _given_up(end: Endpoint, unanswered: int, elapsed_ns: int) -> bool:
    limit_ns = end.options.number(IPPROTO_TCP, TCP_USER_TIMEOUT) * MILLISECOND
    if limit_ns:
        return elapsed_ns >= limit_ns and unanswered > 0
    return unanswered >= end.options.number(IPPROTO_TCP, _COUNT)


def _answers(end: Endpoint) -> bool:
    """Return True if a probe would reach the peer's machine now, and its answer would come back."""
    tx, rx = end.tx, end.rx
    if tx is None or rx is None or tx.receiver is None:
        return True
    return not tx.link.cuts and not rx.link.cuts and tx.receiver.reachable


def _heard_ns(end: Endpoint) -> int:
    """Return the time at which the peer last sent data or an acknowledgement."""
    assert end.tx is not None
    assert end.rx is not None
    return max(end.tx.delivered_ns, end.rx.delivered_ns)


def _seconds(end: Endpoint, option: int) -> int:
    return end.options.number(IPPROTO_TCP, option) * SECOND
