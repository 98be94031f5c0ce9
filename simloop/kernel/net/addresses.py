"""Functions on literal IP addresses: wildcard, loopback, multicast and IPv4-mapped IPv6 addresses."""

from __future__ import annotations

Address = tuple[str, int]


def any_ip(v6: bool) -> str:
    """Return the wildcard address (INADDR_ANY) of IPv6 if `v6` is True, otherwise of IPv4."""
    return "::" if v6 else "0.0.0.0"


def is_any(ip: str) -> bool:
    """Return True if `ip` is a wildcard address (INADDR_ANY)."""
    return ip in ("0.0.0.0", "::", "", "::ffff:0.0.0.0")


def is_mapped(ip: str) -> bool:
    """Return True if `ip` is an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2)."""
    return ip.startswith("::ffff:") and "." in ip


def unmapped(ip: str) -> str:
    """Return the IPv4 address in an IPv4-mapped one (::ffff:1.2.3.4), and any other address unchanged."""
    return ip[7:] if is_mapped(ip) else ip


def mapped(ip: str, v6: bool) -> str:
    """Return an address as a socket shows it: IPv4 addresses are mapped to IPv6 if `v6` is True, and unmapped
    otherwise."""
    if v6:
        return ip if ":" in ip else f"::ffff:{ip}"
    return unmapped(ip)


def is_loopback(ip: str) -> bool:
    """Return True if `ip` is a loopback address."""
    return ip == "::1" or unmapped(ip).startswith("127.")


def is_multicast(ip: str) -> bool:
    """Return True if `ip` is a multicast address (RFC 1112, RFC 4291)."""
    plain = unmapped(ip)
    if ":" in plain:
        return plain[:2].lower() == "ff"
    return 224 <= int(plain.partition(".")[0]) <= 239


def reached(ip: str, own: str) -> str:
    """Return the destination of a connection to `ip` from a socket bound to `own`: `ip` itself, but for a wildcard
    address one of the machine's own addresses (ip_route_output_key_hash_rcu(), tcp_v6_connect())."""
    if not is_any(ip):
        return ip
    if ip == "::":
        return "::ffff:127.0.0.1" if is_mapped(own) else "::1"
    return mapped("127.0.0.1", is_mapped(ip)) if is_any(own) else own
