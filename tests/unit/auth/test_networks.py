"""Networks of tokens: what lies in them, within them, and in two of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.networks import (
    Networks,
    in_both,
    is_in,
    lie_within,
    parse_networks,
    stored_networks,
    to_store,
)
from registry.errors import RequestInvalidError

# Few bits, so that networks meet.
HOSTS = st.one_of(
    st.integers(0, 15).map(lambda number: str(IPv4Address(0x0A000000 + number))),
    st.integers(0, 15).map(lambda number: str(IPv6Address((0x20010DB8 << 96) + number))),
)


def _network(version: int, number: int, bits: int) -> object:
    base, width = (0x0A000000, 32) if version == 4 else (0x20010DB8 << 96, 128)
    return ip_network((base + (number >> bits << bits), width - bits))


NETWORK = st.builds(_network, st.sampled_from((4, 6)), st.integers(0, 15), st.integers(0, 4))
NETWORKS = st.lists(NETWORK, min_size=1, max_size=4).map(tuple)
ANY = st.one_of(st.none(), NETWORKS)


def holds(address: str, networks: Networks | None) -> bool:
    return networks is None or is_in(address, networks)


@given(ANY, ANY, HOSTS)
def test_the_networks_of_two_hold_what_both_hold(
    first: Networks | None, second: Networks | None, address: str
) -> None:
    assert holds(address, in_both(first, second)) == (holds(address, first) and holds(address, second))


@given(ANY, ANY, HOSTS)
def test_what_lies_within_holds_nothing_else(
    inner: Networks | None, outer: Networks | None, address: str
) -> None:
    if lie_within(inner, outer) and holds(address, inner):
        assert holds(address, outer)


@given(NETWORKS)
def test_networks_are_kept_as_they_are(networks: Networks) -> None:
    assert stored_networks(to_store(networks)) == networks
    assert lie_within(networks, networks)
    assert lie_within(networks, None)
    assert not lie_within(None, networks)


@pytest.mark.parametrize(
    ("address", "networks", "expected"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8", "11.1.2.3"], True),
        ("11.1.2.4", ["10.0.0.0/8", "11.1.2.3"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("2001:db9::1", ["2001:db8::/32", "0.0.0.0/0"], False),
        ("", ["0.0.0.0/0", "::/0"], False),
        (None, ["0.0.0.0/0", "::/0"], False),
        ("unix:", ["0.0.0.0/0", "::/0"], False),
    ],
)
def test_where_an_address_lies(address: str | None, networks: list[str], expected: bool) -> None:
    assert is_in(address, parse_networks(networks)) == expected


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "0 given; 1 to 64"),
        (["10.0.0.0/8"] * 65, "65 given"),
        (["10.0.0.1/8"], "'10.0.0.1/8' is no network such as"),
        (["example.com"], "'example.com' is no network"),
        (["10.0.0.0/33"], "is no network"),
        ([""], "'' is no network"),
        (["::ffff:10.0.0.0/104"], "write it as IPv4"),
    ],
)
def test_what_is_no_network_is_named(texts: list[str], said: str) -> None:
    with pytest.raises(RequestInvalidError, match=said):
        parse_networks(texts)
