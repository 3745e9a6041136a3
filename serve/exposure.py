"""Whether others can reach what listens on an address."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address or name is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
