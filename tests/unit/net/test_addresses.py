"""Which addresses the guard takes for public ones, in every notation that a resolver or a URL may bring."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from registry.net.addresses import is_listed, is_public, parse_address

PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.7 203.0.113.9
224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::7f00:1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:169.254.169.254 ::ffff:a9fe:a9fe
64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1:: 2001:db8::1 2001:10::1
2002:7f00:1:: 2002:a00:1:: 3fff::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 5f00::1
"""
PUBLIC = """
1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.255.255
223.255.255.254 ::ffff:8.8.8.8 64:ff9b::808:808 2606:4700:4700::1111 2a00:1450:4001:81b::200e
"""


@pytest.mark.parametrize("text", PRIVATE.split())
def test_what_is_not_public(text: str) -> None:
    assert not is_public(parse_address(text))


@pytest.mark.parametrize("text", PUBLIC.split())
def test_what_is_public(text: str) -> None:
    assert is_public(parse_address(text))


def test_a_listed_network_holds_an_address_in_either_form() -> None:
    networks = [ip_network("10.0.0.0/8")]
    assert is_listed(parse_address("10.1.2.3"), networks)
    assert is_listed(parse_address("::ffff:10.1.2.3"), networks)
    assert not is_listed(parse_address("11.1.2.3"), networks)
    assert not is_listed(parse_address("fd00::1"), networks)
