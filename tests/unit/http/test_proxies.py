"""Whose word about the client counts."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from multidict import CIMultiDict

from registry.http.proxies import Told, client_address, told
from registry.http.services import SERVICES

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("::1/128"))
EVIL = "198.51.100.66"


@dataclass(frozen=True)
class _Request:
    """As much of a request as is looked at."""

    remote: str | None
    headers: CIMultiDict[str]
    app: dict[Any, Any]


def asked(
    peer: str | None, *headers: tuple[str, str], kind: str = "x-forwarded", trusted: Any = TRUSTED
) -> web.Request:
    settings = SimpleNamespace(trusted_proxies=trusted, forwarded_headers=kind)
    app = {SERVICES: SimpleNamespace(settings=settings)}
    return cast("web.Request", _Request(peer, CIMultiDict(headers), app))


@pytest.mark.parametrize(
    ("peer", "given", "expected"),
    [
        ("203.0.113.9", [EVIL], "203.0.113.9"),  # a stranger says what he likes
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [f"{EVIL}, 203.0.113.9"], "203.0.113.9"),  # the far end is the client's own word
        ("10.0.0.1", [EVIL, "203.0.113.9, 10.9.9.9"], "203.0.113.9"),  # through two of ours, two lines
        ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),  # a client inside
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::9]:4711"], "2001:db8::9"),
        ("::ffff:10.0.0.1", ["2001:db8::9"], "2001:db8::9"),
        ("::1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [f"{EVIL}, unknown"], "10.0.0.1"),
        ("10.0.0.1", [f"{EVIL}, <script>, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [",".join([EVIL] * 5000)], EVIL),
        ("10.0.0.1", ["," * 5000], "10.0.0.1"),
        (None, [EVIL], None),
    ],
)
def test_x_forwarded_for(peer: str | None, given: list[str], expected: str | None) -> None:
    request = asked(peer, *(("X-Forwarded-For", line) for line in given), ("Forwarded", f"for={EVIL}"))
    assert client_address(request, request.app[SERVICES].settings) == expected


@pytest.mark.parametrize(
    ("given", "address", "scheme", "host"),
    [
        ("for=203.0.113.9;proto=https;host=r.example", "203.0.113.9", "https", "r.example"),
        (f'for={EVIL};host=evil, For="[2001:db8::9]:47";Proto=HTTPS', "2001:db8::9", "https", None),
        (f'for="{EVIL}, for=203.0.113.9;proto=https', "10.0.0.1", None, None),  # a quote without an end
        ("for=203.0.113.9;for=10.0.0.2", "10.0.0.1", None, None),
        ("for=_hidden;proto=https", "10.0.0.1", "https", None),
        (r'for="203.0.113.\9";host="a\"b"', "203.0.113.9", None, None),
        ("", "10.0.0.1", None, None),
        ("=;;,,=", "10.0.0.1", None, None),
        ('"' * 5000, "10.0.0.1", None, None),
    ],
)
def test_forwarded(given: str, address: str, scheme: str | None, host: str | None) -> None:
    other = [("X-Forwarded-For", EVIL), ("X-Forwarded-Host", "evil"), ("X-Forwarded-Proto", "ftp")]
    request = asked("10.0.0.1", ("Forwarded", given), *other, kind="forwarded")
    assert client_address(request, request.app[SERVICES].settings) == address
    assert told(request) == Told(scheme, host)


@pytest.mark.parametrize(
    ("proto", "host", "expected"),
    [
        ("https", "r.example", Told("https", "r.example")),
        ("http, https", "evil.example, r.example:8443", Told("https", "r.example:8443")),
        ("javascript", "r.example/evil", Told(None, None)),
        ("https", 'r.example",scope="x', Told("https", None)),
        ("https", "[::1]:8470", Told("https", "[::1]:8470")),
        ("", "", Told(None, None)),
    ],
)
def test_scheme_and_host(proto: str, host: str, expected: Told) -> None:
    headers = [("X-Forwarded-Proto", proto), ("X-Forwarded-Host", host)]
    assert told(asked("10.0.0.1", *headers)) == expected
    assert told(asked("203.0.113.9", *headers)) == Told()
    assert told(asked("10.0.0.1", *headers, trusted=())) == Told()
