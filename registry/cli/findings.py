"""What ``doctor --server`` finds, and the lines that change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``unknown`` is never a pass: it could not be looked at, and says why."""

    name: str
    status: Literal["ok", "problem", "unknown"]
    detail: str
    fix: tuple[str, ...] = ()


FIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "encryption": ("registry: --tls self-signed, certificate files, or a proxy that ends TLS",),
        "chain": (
            "client: trust the authority; where, 'seatrial serve --tls self-signed' prints for each client",
            "registry: SEATRIAL_TLS_CERTIFICATE_FILE must hold the certificate and those between",
            "nginx: ssl_certificate /…/fullchain.pem;",
        ),
        "name": (
            "get a certificate for this name, or use a name that is in it",
            "self-signed: SEATRIAL_EXTERNAL_URL={server}, and start again",
        ),
        "external": ("registry: SEATRIAL_EXTERNAL_URL={server}",),
        "spoof": (
            "nginx: proxy_set_header X-Forwarded-Host $http_host;",
            "nginx: proxy_set_header X-Forwarded-Proto $scheme;",
            'nginx: proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Forwarded "";',
            "registry: SEATRIAL_EXTERNAL_URL={server}",
        ),
        "raw": (
            "nginx: proxy_pass http://seatrial;   (nothing after the name, not even a slash)",
            "Caddy: no uri, rewrite or handle_path before reverse_proxy",
        ),
        "headers": ("nginx: large_client_header_buffers 8 64k;",),
        "compression": ("nginx: gzip off;", "Caddy: no encode"),
        "body": ("nginx: client_max_body_size 0;", "Caddy: no request_body max_size"),
        "buffering": (
            "nginx: proxy_request_buffering off; proxy_http_version 1.1;",
            "Caddy: no request_buffers in reverse_proxy",
        ),
        "clock": ("both machines: keep the time with NTP",),
        "authorization": ("nginx: no proxy_set_header Authorization and no auth_basic before the registry",),
    }
)


def problem(name: str, detail: str, kind: str, *, server: str) -> Finding:
    """A problem with the lines of its kind."""
    return Finding(name, "problem", detail, tuple(line.replace("{server}", server) for line in FIXES[kind]))
