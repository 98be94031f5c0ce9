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


def reached(ip: str, v6: bool) -> str:
    """The address that a connection to `ip` leads to: the any-address reaches oneself."""
    if not is_any(ip):
        return ip
    if is_mapped(ip):
        return "::ffff:127.0.0.1"
    return "::1" if v6 else "127.0.0.1"
