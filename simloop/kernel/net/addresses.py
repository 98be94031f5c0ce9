"""Literal addresses, as far as a kernel looks into them: any-addresses, and IPv4 inside of IPv6."""

from __future__ import annotations

Address = tuple[str, int]


def any_ip(v6: bool) -> str:
    return "::" if v6 else "0.0.0.0"


def is_any(ip: str) -> bool:
    return ip in ("0.0.0.0", "::", "", "::ffff:0.0.0.0")


def is_mapped(ip: str) -> bool:
    """Whether it is an IPv4 address in the clothes of an IPv6 one."""
    return ip.startswith("::ffff:") and "." in ip


def unmapped(ip: str) -> str:
    """::ffff:1.2.3.4 as the IPv4 address that it stands for."""
    return ip[7:] if is_mapped(ip) else ip


def mapped(ip: str, v6: bool) -> str:
    """An address as a socket of that family shows it."""
    if v6:
        return ip if ":" in ip else f"::ffff:{ip}"
    return unmapped(ip)


def is_loopback(ip: str) -> bool:
    return ip == "::1" or unmapped(ip).startswith("127.")


def reached(ip: str, own: str) -> str:
    """The address that a connection to `ip` leads to from a socket bound to `own`: an any-address leads to
    oneself (ip_route_output_key_hash_rcu(), tcp_v6_connect())."""
    if not is_any(ip):
        return ip
    if ip == "::":
        return "::ffff:127.0.0.1" if is_mapped(own) else "::1"
    return mapped("127.0.0.1", is_mapped(ip)) if is_any(own) else own
