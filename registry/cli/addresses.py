"""Addresses of registries: which of them stay on this host, and where a token may be sent."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from registry.errors import RequestInvalidError

LOCAL_SERVER = "http://127.0.0.1:8470"


def parse_address(text: str) -> str:
    """The address of a registry; without a scheme https, and http for one on this host.

    Raises:
        RequestInvalidError: it is none.
    """
    has_scheme = "://" in text
    try:
        url = urlsplit(text if has_scheme else f"https://{text}")
        host, has_port = url.hostname, url.port != 0
    except ValueError:
        host, has_port = None, False
    if not (host and has_port) or url.scheme not in ("http", "https") or "@" in url.netloc:
        raise RequestInvalidError(f"{text[:200]!r} is not the address of a registry, such as {LOCAL_SERVER}")
    if url.query or url.fragment:
        raise RequestInvalidError(f"{text[:200]!r}: the address of a registry ends before '?' and '#'")
    scheme = "http" if not has_scheme and is_loopback(host) else url.scheme
    return f"{scheme}://{url.netloc.lower()}{url.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Whether what is sent to ``host`` stays on this host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def require_private(address: str, *, plain_http: bool) -> None:
    """Refuse to send a token or a password where everybody on the way can read it.

    Raises:
        RequestInvalidError: over plain HTTP to another host, and ``plain_http`` does not allow it.
    """
    url = urlsplit(address)
    if url.scheme == "http" and not plain_http and not is_loopback(url.hostname or ""):
        raise RequestInvalidError(
            f"a token sent to {address} can be read by everybody on the way; use https, or allow it with "
            "seatrial --plain-http COMMAND (SEATRIAL_PLAIN_HTTP=1)"
        )
