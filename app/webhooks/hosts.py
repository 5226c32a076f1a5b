"""Which addresses the server itself may call: hosts that the operator lists, on networks of the whole world.

A request names an address freely, and a host's own names may lead anywhere. So a name has to be listed, and each IP
address that it leads to is checked before it is used: one that not everybody can reach has to be in a listed network.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pydantic import AfterValidator

if TYPE_CHECKING:
    import httpx

PLAIN = "http://"  # before an entry: https is not needed there
_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_UNICAST = ipaddress.ip_network("2000::/3")  # of IPv6: the rest is reserved, or leads to IPv4
_OF_THE_CLOUD = ipaddress.ip_address("168.63.129.16")  # Azure's host of each machine, with what is set up there
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _entry(text: str) -> str:
    name = text.removeprefix(PLAIN)
    if _network(name) is None and not _NAME.fullmatch(name):
        wanted = "must be hosts such as hooks.example.com and *.example.com, or networks such as 10.0.0.0/8"
        raise ValueError(f"{wanted}, perhaps with {PLAIN} before them, not {text!r}")
    return text


HOSTS = AfterValidator(_entry)


class WebhookHosts:
    """The hosts and networks of the entries of a setting."""

    def __init__(self, entries: Collection[str]) -> None:
        self._entries = [(entry.removeprefix(PLAIN), entry.startswith(PLAIN)) for entry in entries]
        self._networks = [found for name, _ in self._entries if (found := _network(name)) is not None]

    def lists(self, url: httpx.URL) -> bool:
        """Returns whether the host of an address is listed, for its scheme."""
        host = host_of(url)
        address = _address(host)
        for name, is_plain in self._entries:
            if url.scheme == "https" or is_plain:
                network = _network(name)
                if network is not None and address is not None and address in network:
                    return True
                if network is None and address is None and fnmatchcase(host, name):
                    return True
        return False

    def reaches(self, text: str) -> bool:
        """Returns whether an IP address may be called."""
        address = _address(text)
        if address is None:
            return False
        return any(address in network for network in self._networks) or _is_public(address)


def host_of(url: httpx.URL) -> str:
    """Returns the host of an address in ASCII, and an IPv6 address without brackets."""
    return url.raw_host.decode().lower().strip("[]")


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address not in _UNICAST or address.sixtofour is not None):
        return False
    return address.is_global and not address.is_multicast and address != _OF_THE_CLOUD


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None
