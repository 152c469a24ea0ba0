"""Which network addresses a job never connects to.

Refused is what no service of one's own listens on, but a cloud machine's credentials may be read
from: link-local and metadata addresses, and what is no single host's address. Loopback and private
ranges stay allowed, as people run jobs against their own services.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

REFUSED_NETWORKS: Final = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "unspecified"),  # RFC 1122, 3.2.1.3; Linux connects 0.0.0.0 to itself
        ("::/128", "unspecified"),  # RFC 4291, 2.5.2
        ("169.254.0.0/16", "link-local"),  # RFC 3927; holds 169.254.169.254, most clouds' metadata
        ("fe80::/10", "link-local"),  # RFC 4291, 2.5.6
        ("224.0.0.0/4", "multicast"),  # RFC 5771
        ("ff00::/8", "multicast"),  # RFC 4291, 2.7
        ("255.255.255.255/32", "broadcast"),  # RFC 919
        ("fd00:ec2::254/128", "metadata"),  # Amazon EC2, instance metadata over IPv6
        ("fd20:ce::254/128", "metadata"),  # Google Compute Engine, the same
        ("100.100.100.200/32", "metadata"),  # Alibaba Cloud ECS
        ("168.63.129.16/32", "metadata"),  # Microsoft Azure's platform ("WireServer")
    )
)
# Forms of IPv6 that carry an IPv4 address in their last 32 bits, to which a gateway may send on.
_CARRIERS: Final = (
    ip_network("::ffff:0:0/96"),  # IPv4-mapped, RFC 4291, 2.5.5.2: connects to the IPv4 address
    ip_network("::/96"),  # IPv4-compatible, RFC 4291, 2.5.5.1, deprecated
    ip_network("::ffff:0:0:0/96"),  # IPv4-translated, RFC 2765, 2.1: SIIT, now RFC 7915
    ip_network("64:ff9b::/96"),  # NAT64, RFC 6052
)
# NAT64 of a network's own, RFC 8215: within it, the network chooses how long its prefix is.
_LOCAL_NAT64: Final = ip_network("64:ff9b:1::/48")
# The bytes that hold the IPv4 address, for prefixes of 48, 56, 64 and 96 bits; byte 8 holds none
# of it (RFC 6052, 2.2).
_LOCAL_NAT64_BYTES: Final = (
    (6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15),
)  # fmt: skip
# Of several readings one is meant, and the others are zeros and bits of it: they say no more than
# whether the address could be one of these.
_TELLING: Final = ("link-local", "metadata")


def why_refused(address: Address) -> str | None:
    """Why no job connects to ``address`` ("link-local", "metadata", …), or ``None`` if it may."""
    for form in (address, *_carried(address)):
        if reason := _reason(form):
            return reason
    if address in _LOCAL_NAT64:
        for places in _LOCAL_NAT64_BYTES:
            reason = _reason(IPv4Address(bytes(address.packed[place] for place in places)))
            if reason in _TELLING:
                return reason
    return None


def _reason(address: Address) -> str | None:
    return next((reason for network, reason in REFUSED_NETWORKS if address in network), None)


def _carried(address: Address) -> tuple[IPv4Address, ...]:
    if isinstance(address, IPv4Address):
        return ()
    if address.sixtofour is not None:  # 2002::/16, RFC 3056: the IPv4 address follows the prefix
        return (address.sixtofour,)
    # 2001::/32, RFC 4380, 4: the server's address, and the client's with its bits turned round.
    if address.teredo is not None:
        return address.teredo
    # ::1 is loopback (RFC 4291, 2.5.3), though by its bits an IPv4-compatible form as well.
    if not address.is_loopback and any(address in network for network in _CARRIERS):
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def literal_address(host: str) -> Address | None:
    """The address that ``host`` spells, or ``None`` if it is a name to be resolved.

    Spellings that C libraries take for IPv4 count too: one decimal number, octal or hexadecimal
    parts, fewer than four parts (``inet_aton(3)``).
    """
    host = host.rstrip(".")
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None
