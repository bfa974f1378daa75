"""Networks that a credential may be used from: pure functions on addresses and CIDR networks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from registry.errors import RequestInvalidError
from registry.settings import Network

Networks = tuple[Network, ...]
MAX_NETWORKS = 64


def parse_networks(texts: Sequence[str]) -> Networks:
    """Networks as people write them: ``10.0.0.0/8``, ``2001:db8::/32``, or one address; at least one.

    Raises:
        RequestInvalidError: none, too many, or one that is no network, with its text.
    """
    if not 1 <= len(texts) <= MAX_NETWORKS:
        raise RequestInvalidError(f"networks: {len(texts)} given; 1 to {MAX_NETWORKS} can be")
    found: dict[Network, None] = {}
    for text in texts:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise RequestInvalidError(
                f"networks: {text[:80]!r} is no network such as 10.0.0.0/8 or 2001:db8::/32: {error}"
            ) from None
        if network.version == 6 and network.network_address.ipv4_mapped is not None:
            raise RequestInvalidError(f"networks: {text[:80]!r} is IPv4 in IPv6 form; write it as IPv4")
        found[network] = None
    return tuple(found)


def stored_networks(text: str | None) -> Networks | None:
    """The networks of a row; ``None`` is everywhere."""
    return None if text is None else tuple(ip_network(each) for each in json.loads(text))


def to_store(networks: Networks | None) -> str | None:
    """What a row keeps of them."""
    return None if networks is None else json.dumps([str(network) for network in networks])


def is_in(address: str | None, networks: Iterable[Network]) -> bool:
    """Whether the address lies in one of the networks; an IPv4 address in IPv6 form is the IPv4 address."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def lie_within(inner: Networks | None, outer: Networks | None) -> bool:
    """Whether every address of ``inner`` is one of ``outer``; ``None`` is all addresses."""
    if outer is None:
        return True
    return inner is not None and all(any(_is_part(each, whole) for whole in outer) for each in inner)


def in_both(first: Networks | None, second: Networks | None) -> Networks | None:
    """The networks of all addresses that lie in both; ``None`` is all addresses, an empty one is none."""
    if first is None or second is None:
        return second if first is None else first
    pairs = [(one, other) for one in first for other in second]
    found = [one if _is_part(one, other) else other for one, other in pairs if _overlap(one, other)]
    return tuple(dict.fromkeys(found))


def _is_part(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
