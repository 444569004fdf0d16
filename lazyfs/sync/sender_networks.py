"""The networks that senders are told apart by."""

import ipaddress


def network_of(address: str) -> str:
    """Returns the part of an address that identifies a sender: the whole IPv4 address, or the /64 network of
    an IPv6 address, because one machine may use all addresses of a /64."""
    found = _parsed(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address if found is None else str(found)


def is_loopback(address: str) -> bool:
    """Returns True for an address of this machine itself."""
    found = _parsed(address)
    return found is not None and found.is_loopback


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Returns an address, one that IPv6 maps from IPv4 as the latter; None if the text is no address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
