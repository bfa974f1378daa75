"""``s3://BUCKET/PREFIX?…``: everything that the S3 store has to know, except the credentials."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from registry.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(?:/[A-Za-z0-9!_.*'()-]+)*")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")


@dataclass(frozen=True, slots=True)
class S3Location:
    """Where the bucket is and how to talk to it. Each field after ``prefix`` is a key of the query."""

    bucket: str
    prefix: str = ""
    """Ends with a slash, or is empty."""
    endpoint_url: str | None = None
    region: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    storage_class: str | None = None
    ca_file: Path | None = None
    checksums: Literal["when_supported", "when_required"] = "when_supported"
    connections: int = 32
    connect_seconds: float = 5.0
    read_seconds: float = 60.0
    attempts: int = 4
    redirect: tuple[Network, ...] = field(default=())
    """Clients from these networks fetch blobs from the store themselves."""
    redirect_endpoint_url: str | None = None
    redirect_seconds: int = 300


def parse_s3_url(text: str) -> S3Location:
    """Parse the value of the setting ``storage_url``.

    Raises:
        SettingsError: naming the part or the key of the query that is wrong, and why.
    """
    url = urlsplit(text)
    if "@" in url.netloc:
        raise SettingsError(
            "storage_url: credentials do not belong into the address; see storage_credentials_file"
        )
    if not _BUCKET.fullmatch(url.netloc):
        raise SettingsError(f"storage_url: {url.netloc!r} is not the name of a bucket")
    prefix = unquote(url.path).strip("/")
    if prefix and not (_PREFIX.fullmatch(prefix) and not {".", ".."} & set(prefix.split("/"))):
        raise SettingsError(f"storage_url: {prefix!r} cannot be a prefix of keys")
    if url.fragment:
        raise SettingsError("storage_url: nothing may follow '#'")
    given: dict[str, object] = {}
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name not in _KEYS:
            raise SettingsError(f"storage_url: there is no option {name!r}; there are {', '.join(_KEYS)}")
        if name in given:
            raise SettingsError(f"storage_url: {name} is given twice")
        try:
            given[name] = _KEYS[name](value)
        except ValueError as error:
            raise SettingsError(f"storage_url: {name}: {error}") from None
    return S3Location(bucket=url.netloc, prefix=f"{prefix}/" if prefix else "", **given)  # type: ignore[arg-type]


def _endpoint(text: str) -> str:
    if not _ENDPOINT.fullmatch(text.rstrip("/")):
        raise ValueError("must be http(s)://HOST[:PORT] without a path")
    return text.rstrip("/")


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError("must be one word")
    return text


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or not path.is_file():
        raise ValueError(f"{text} is not the absolute path of a file")
    return path


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text

    return parse


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _networks(text: str) -> tuple[Network, ...]:
    if text == "off":
        return ()
    if text == "on":
        return (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"must be off, on or networks as in 10.0.0.0/8,fd00::/8 ({error})") from None


_KEYS: Mapping[str, Callable[[str], object]] = {
    "endpoint_url": _endpoint,
    "region": _word,
    "addressing": _one_of("auto", "path", "virtual"),
    "storage_class": _word,
    "ca_file": _file,
    "checksums": _one_of("when_supported", "when_required"),
    "connections": _whole(2, 256),
    "connect_seconds": _whole(1, 60),
    "read_seconds": _whole(1, 600),
    "attempts": _whole(1, 10),
    "redirect": _networks,
    "redirect_endpoint_url": _endpoint,
    "redirect_seconds": _whole(10, 3600),
}
