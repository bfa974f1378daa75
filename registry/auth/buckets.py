"""How many wrong passwords are borne, and from whom: pure rules.

A bucket holds failures and drains: so many at once, then one more each time that one has drained. It is
written down as one moment, when it will be empty (the "generic cell rate algorithm" of ATM).

Nobody's account can be locked by guessing from elsewhere. Where somebody has signed in to an account before,
only wrong passwords for that account from that place count. Elsewhere the place counts as a whole, and the
account as a whole, but whoever has hardly failed there yet is looked at whatever others do.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["pair", "place", "site", "name", "fresh"]
_NAME_MAX = 64


@dataclass(frozen=True, slots=True)
class Bucket:
    """``burst`` failures fit in; one drains in ``seconds``."""

    key: str
    kind: Kind
    burst: int
    seconds: float

    def wait_seconds(self, full_seconds: float) -> float:
        """How long until one more failure fits in, for a bucket that is empty in ``full_seconds``."""
        return max(0.0, full_seconds - (self.burst - 1) * self.seconds)

    def after_failure(self, full_seconds: float) -> float:
        """In how many seconds it is empty when one more has failed."""
        return min(max(0.0, full_seconds) + self.seconds, self.burst * self.seconds)


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets of a try to sign in with one name from one place."""

    pair: Bucket
    """The name from this place."""
    place: Bucket
    """All names from this place."""
    site: Bucket | None
    """All names from the wider network that an IPv6 place is a part of."""
    name: Bucket
    """The name from all places where nobody has signed in with it."""
    fresh: Bucket
    """The name from this site, over a day: while it has room, ``name`` is not asked."""

    def counted(self, *, known: bool) -> tuple[Bucket, ...]:
        """Those that a failure goes into; ``known``: the name has signed in from this place before."""
        if known:
            return (self.pair,)
        site = () if self.site is None else (self.site,)
        return (self.pair, self.place, *site, self.name, self.fresh)

    def wait_seconds(self, full_seconds: Mapping[str, float], *, known: bool) -> float:
        """How long until another password may be looked at, 0 for now; ``full_seconds`` has by key in how
        many seconds a bucket is empty."""

        def wait(bucket: Bucket) -> float:
            return bucket.wait_seconds(full_seconds.get(bucket.key, 0.0))

        if known:
            return wait(self.pair)
        return max(
            wait(self.pair),
            wait(self.place),
            wait(self.site) if self.site is not None else 0.0,
            wait(self.name) if wait(self.fresh) else 0.0,
        )


def buckets_of(name: str, address: str | None, *, limit: int) -> Buckets:
    """The buckets of a try; ``limit`` failures are borne at once for one name from one place."""
    name, place, site = name[:_NAME_MAX], place_of(address), site_of(address)
    return Buckets(
        pair=Bucket(_key("pair", name, place), "pair", limit, 60),
        place=Bucket(_key("place", place), "place", 2 * limit, 30),
        site=None if site == place else Bucket(_key("site", site), "site", 8 * limit, 8),
        name=Bucket(_key("name", name), "name", 5 * limit, 60),
        fresh=Bucket(_key("fresh", name, site), "fresh", 3, 8 * 3600),
    )


def retry_after(seconds: float) -> str:
    """The header's value for a wait."""
    return str(math.ceil(seconds) + 1)


def place_of(address: str | None) -> str:
    """Where somebody is: an IPv4 address, or an IPv6 network, of which one person has all addresses."""
    return _network(address, 64)


def site_of(address: str | None) -> str:
    """As :func:`place_of`, but the widest IPv6 network that one customer is given."""
    return _network(address, 48)


def _network(address: str | None, prefix: int) -> str:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, prefix), strict=False))
    return str(parsed)


def _key(*parts: str) -> str:
    # Names are invented without end, and as long as anybody likes: a row has room for one of each.
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hashed.update(len(data).to_bytes(4, "big") + data)
    return hashed.hexdigest()
