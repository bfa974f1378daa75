"""What a spec asks of the network against what the operator permits. Pure: names are resolved elsewhere.

Addresses that are not public (private, link-local, a cloud's metadata, ...) are reached only where the
operator permits exactly this one address; a range never opens one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Literal

from registry.contract.fields import EgressSpec, NetworkSpec
from registry.errors import RequestInvalidError
from sandbox.errors import SandboxError

PROTOCOLS: Mapping[Literal["tcp", "udp"], int] = {"tcp": 6, "udp": 17}
DEFAULT_BITS_PER_SECOND = 100_000_000
MAX_DESTINATIONS = 64
"""Of one run; a name may have several addresses."""
RUN_ADDRESS, GATEWAY_ADDRESS = IPv4Address("192.0.0.2"), IPv4Address("192.0.0.3")
"""The two ends of the link in every run; they are never seen outside (RFC 7335 keeps the range for this)."""
UPLINKS = IPv4Network("198.18.0.0/15")
"""Two addresses for each range of ids, from the gateway to the host (RFC 2544 keeps the range for tests)."""
_NEVER = tuple(
    IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "192.0.0.0/24", "224.0.0.0/3", str(UPLINKS))
)
_NOT_PUBLIC = tuple(
    IPv4Network(text)
    for text in (
        *("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "198.51.100.0/24", "203.0.113.0/24"),
        # Of Azure and of Alibaba Cloud: public by number, but the host's own services answer there.
        *("168.63.129.16/32", "100.100.100.200/32"),
    )
)
_ALL_BITS = 32
_PERMIT = re.compile(r"([0-9.]{7,15}(?:/[0-9]{1,2})?):([0-9]{1,5})(?:/(tcp|udp))?")


@dataclass(frozen=True, slots=True)
class Destination:
    """Addresses, one port and one protocol that may be reached."""

    network: IPv4Network
    port: int
    protocol: Literal["tcp", "udp"] = "tcp"

    def covers(self, address: IPv4Address | IPv6Address, port: int, protocol: int) -> bool:
        """Whether this is one of them; ``protocol`` as the kernel numbers it."""
        return (
            isinstance(address, IPv4Address)
            and address in self.network
            and (port, protocol) == (self.port, PROTOCOLS[self.protocol])
        )

    def __str__(self) -> str:
        return f"{self.network}:{self.port}{'' if self.protocol == 'tcp' else '/udp'}"


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """What the operator permits runs to reach, and how fast. Without any ``permits``: nothing."""

    permits: tuple[Destination, ...] = ()
    bits_per_second: int = DEFAULT_BITS_PER_SECOND
    """Each way: the most that a spec may ask for, and what it gets where it asks for nothing."""


@dataclass(frozen=True, slots=True)
class PinnedNetwork:
    """The network of one run, with every name replaced by addresses."""

    destinations: tuple[Destination, ...]
    hosts: tuple[tuple[IPv4Address, str], ...]
    """Lines of /etc/hosts."""
    bits_per_second: int
    by_itself: tuple[Destination, ...] = ()
    """Those that the operator permitted as one address. Only they may be the host's own: a range that happens
    to hold an address of the host opens nothing there."""


def parse_permit(text: str) -> Destination:
    """What ``--allow-egress CIDR:PORT[/tcp|udp]`` says.

    Raises:
        RequestInvalidError: it is none, or names what can never be reached.
    """
    match = _PERMIT.fullmatch(text)
    try:
        if match is None or not 1 <= int(match[2]) <= 65535:
            raise ValueError("not CIDR:PORT with an IPv4 address")
        network = IPv4Network(match[1])
    except ValueError as error:
        raise RequestInvalidError(
            f"--allow-egress {text[:80]!r} is not CIDR:PORT or CIDR:PORT/udp, as in "
            f"93.184.216.0/24:443: {error}"
        ) from None
    if any(network.subnet_of(one) for one in _NEVER):
        raise RequestInvalidError(f"--allow-egress {text}: no run can reach this address")
    if network.prefixlen < _ALL_BITS and any(network.subnet_of(one) for one in _NOT_PUBLIC):
        raise RequestInvalidError(
            f"--allow-egress {text}: addresses that are not public are permitted one by one, not as a range"
        )
    return Destination(network, int(match[2]), "udp" if match[3] == "udp" else "tcp")


def pinned(
    spec: NetworkSpec, addresses: Mapping[str, Sequence[IPv4Address]], policy: NetworkPolicy
) -> PinnedNetwork:
    """The network that ``spec`` asks for; ``addresses`` has what each of its names resolved to.

    Of a name with several addresses those count that are permitted.

    Raises:
        SandboxError: ``egress-refused``: with what is not permitted, and the option that would.
    """
    destinations: dict[Destination, None] = {}
    hosts: dict[tuple[IPv4Address, str], None] = {}
    for wish in spec.egress:
        found = [
            one
            for one in _destinations(wish, addresses)
            if any(_permits(permit, one) for permit in policy.permits)
        ]
        if not found:
            raise refusal(wish, _destinations(wish, addresses))
        destinations.update(dict.fromkeys(found))
        if wish.host is not None and wish.host in addresses:
            hosts.update(dict.fromkeys((one.network.network_address, wish.host) for one in found))
    if len(destinations) > MAX_DESTINATIONS:
        raise SandboxError(
            "egress-refused",
            f"the names of the run spec have {len(destinations)} addresses; {MAX_DESTINATIONS} are the limit",
        )
    asked = spec.bits_per_second or policy.bits_per_second
    if asked > policy.bits_per_second:
        raise SandboxError(
            "egress-refused",
            f"the run spec asks for {asked} bits per second, and this worker permits "
            f"{policy.bits_per_second}; its operator may permit it with --egress-bits-per-second {asked}",
        )
    by_itself = tuple(
        one for one in destinations if one in policy.permits and one.network.prefixlen == _ALL_BITS
    )
    return PinnedNetwork(tuple(destinations), tuple(hosts), asked, by_itself)


def names_of(spec: NetworkSpec) -> tuple[str, ...]:
    """The names in a spec that have to be resolved, each once."""
    hosts = (wish.host for wish in spec.egress if wish.host is not None)
    return tuple(dict.fromkeys(host for host in hosts if not _is_address(host)))


def refusal(wish: EgressSpec, found: Sequence[Destination]) -> SandboxError:
    """Why a wish is refused, with the option that would permit it. ``found`` is where it leads.

    What a name resolves to is said only if it is public: a spec is no way to look into the worker's network.
    """
    asked = f"the run spec asks for {wish.protocol.upper()} {wish.host or wish.cidr}:{wish.port}"
    special = [one for one in found if any(one.network.overlaps(other) for other in (*_NEVER, *_NOT_PUBLIC))]
    named = wish.host is not None and not _is_address(wish.host)
    if not named and any(one.network.overlaps(never) for one in special for never in _NEVER):
        return SandboxError("egress-refused", f"{asked}; no run can reach this address")
    if any(one.network.prefixlen < _ALL_BITS for one in special):
        return SandboxError(
            "egress-refused",
            f"{asked}, a range with addresses that are not public; those are asked for and permitted one "
            "by one",
        )
    shown = found if not (named and special) else ()
    options = " ".join(f"--allow-egress {one}" for one in shown[:4])
    if not options:
        suffix = "" if wish.protocol == "tcp" else "/udp"
        options = f"--allow-egress ADDRESS:{wish.port}{suffix}, where ADDRESS is what the name stands for"
    return SandboxError(
        "egress-refused",
        f"{asked}, which this worker does not permit; its operator may permit it with {options}",
    )


def _destinations(
    wish: EgressSpec, addresses: Mapping[str, Sequence[IPv4Address]]
) -> tuple[Destination, ...]:
    networks: Iterable[IPv4Network]
    if wish.cidr is not None:
        networks = (IPv4Network(wish.cidr),)
    elif wish.host is not None and _is_address(wish.host):
        networks = (IPv4Network(wish.host),)
    else:
        networks = map(IPv4Network, addresses[wish.host or ""])
    return tuple(Destination(network, wish.port, wish.protocol) for network in networks)


def _permits(permit: Destination, wish: Destination) -> bool:
    if (permit.port, permit.protocol) != (wish.port, wish.protocol):
        return False
    if any(wish.network.overlaps(one) for one in _NEVER):
        return False
    if any(wish.network.overlaps(one) for one in _NOT_PUBLIC):
        return wish.network.prefixlen == _ALL_BITS and permit.network == wish.network
    return wish.network.subnet_of(permit.network)


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
