"""Loaders of network addresses (``src/backend/utils/adt/{network,mac,mac8}.c``)."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Interface: TypeAlias = IPv4Interface | IPv6Interface
Network: TypeAlias = IPv4Network | IPv6Network

_IPV4: Final = 2  # PostgreSQL's numbers, whatever the system's are
_IPV6: Final = 3


def inet_text(raw: bytes) -> Address | Interface:
    """``192.168.0.1``, or ``192.168.0.1/24`` for a host in a network."""
    text = raw.decode("ascii")
    return ip_interface(text) if "/" in text else ip_address(text)


def inet_binary(raw: bytes) -> Address | Interface:
    """u8 family (2 or 3), u8 bits of the network, u8 1 for cidr, u8 size, the address."""
    family, bits, packed = _parts(raw)
    if family == _IPV4:
        return IPv4Address(packed) if bits == 32 else IPv4Interface((packed, bits))
    return IPv6Address(packed) if bits == 128 else IPv6Interface((packed, bits))


def cidr_text(raw: bytes) -> Network:
    """``192.168.0.0/24``."""
    return ip_network(raw.decode("ascii"))


def cidr_binary(raw: bytes) -> Network:
    """As inet's."""
    family, bits, packed = _parts(raw)
    return IPv4Network((packed, bits)) if family == _IPV4 else IPv6Network((packed, bits))


def macaddr_binary(raw: bytes) -> str:
    """Six or eight bytes, as ``08:00:2b:01:02:03``."""
    if len(raw) not in (6, 8):
        raise ValueError("neither 6 nor 8 bytes")
    return raw.hex(":")


def _parts(raw: bytes) -> tuple[int, int, bytes]:
    family, bits, _cidr, size = raw[:4]
    if (family, size) not in ((_IPV4, 4), (_IPV6, 16)) or len(raw) != 4 + size:
        raise ValueError("not an address")
    if bits > 8 * size:
        raise ValueError("a network of too many bits")
    return family, bits, raw[4:]
