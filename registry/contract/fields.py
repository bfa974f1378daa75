"""What the fields of a run spec and of its cases are made of."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from registry.contract.base import Wire, is_none
from registry.contract.capabilities import parse_capability
from registry.contract.limits import Limits
from registry.contract.secrets import SecretReference

RANDOM_USER = "random"
"""The user of a spec that stands for a high number which the image has no name for, in group 0."""
KERNEL_FOLDERS = ("/dev", "/proc", "/sys")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9](?:[a-z0-9-]{0,62}))*\.?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")


def _environment(value: dict[str, str | SecretReference]) -> dict[str, str | SecretReference]:
    for name, text in value.items():
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is not the name of an environment variable")
        if isinstance(text, SecretReference):
            continue
        if "\0" in text or len(text) > 32 * 1024:
            raise ValueError(f"the value of {name} has a NUL or more than 32 KiB")
    return value


def _host_name(value: str) -> str:
    if len(value) > 253 or not _HOST.fullmatch(value):
        raise ValueError(f"{value[:80]!r} is not a host name in lower case")
    return value


def _user(value: str) -> str:
    if not _USER.fullmatch(value):
        raise ValueError(f"{value[:80]!r} is not user[:group]")
    return value


def plain_path(value: str) -> str:
    """An absolute path of the run without what is merely another way to write it.

    Raises:
        ValueError: it is none, or leads to what the kernel makes for each run.
    """
    names = [name for name in value.split("/") if name not in ("", ".")]
    if not value.startswith("/") or not names or ".." in names or "\0" in value:
        raise ValueError(f"{value[:80]!r} is not an absolute path without '..'")
    if f"/{names[0]}" in KERNEL_FOLDERS:
        raise ValueError(f"/{names[0]} is made by the kernel for each run, and is not looked at")
    return "/" + "/".join(names)


def _capabilities(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({parse_capability(one) for one in value}))


Capabilities = Annotated[tuple[str, ...], Field(min_length=1, max_length=16), AfterValidator(_capabilities)]
Environment = Annotated[dict[str, str | SecretReference], Field(max_length=256), AfterValidator(_environment)]
HostName = Annotated[str, AfterValidator(_host_name)]
User = Annotated[str, AfterValidator(_user)]
PlainPath = Annotated[str, Field(max_length=4096), AfterValidator(plain_path)]
Profile = Literal["standard", "restricted"]
Passing = Literal["any", "all"]


class SpecLimits(Wire):
    """The limits a spec may set; what is left out keeps the default, and the operator's ceiling holds."""

    memory_bytes: int | None = Field(default=None, ge=4 * 1024 * 1024)
    cpus: float | None = Field(default=None, gt=0, le=1024)
    pids: int | None = Field(default=None, ge=1, le=65536)
    written_bytes: int | None = Field(default=None, ge=1024 * 1024)
    wall_seconds: float | None = Field(default=None, gt=0)
    alive_seconds: float | None = Field(default=None, gt=0)
    log_bytes: int | None = Field(default=None, ge=1024)
    io_bytes_per_second: int | None = Field(default=None, ge=64 * 1024, exclude_if=is_none)

    def over(self, limits: Limits) -> Limits:
        """``limits`` with what is set here in its place."""
        return limits.model_copy(update=self.model_dump(exclude_none=True))


class EgressSpec(Wire):
    """One place outside that the run may reach: a name or an address, or a range, with port and protocol."""

    host: str | None = Field(
        default=None, description="name or IPv4 address; the worker resolves a name, once, before the run"
    )
    cidr: str | None = Field(default=None, description="IPv4 range, as in 93.184.216.0/24")
    port: int = Field(ge=1, le=65535)
    protocol: Literal["tcp", "udp"] = "tcp"

    @field_validator("host")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and (len(value) > 253 or not _HOST.fullmatch(value)):
            raise ValueError(f"{value[:80]!r} is not a host name in lower case or an IPv4 address")
        return value

    @field_validator("cidr")
    @classmethod
    def _network(cls, value: str | None) -> str | None:
        return None if value is None else str(IPv4Network(value))

    @model_validator(mode="after")
    def _one_place(self) -> EgressSpec:
        if (self.host is None) == (self.cidr is None):
            raise ValueError("give either 'host' or 'cidr'")
        return self


class NetworkSpec(Wire):
    """A network for the run, where the worker's operator permits all of it."""

    egress: tuple[EgressSpec, ...] = Field(min_length=1, max_length=32)
    bits_per_second: int | None = Field(
        default=None,
        ge=64_000,
        le=100_000_000_000,
        description="bandwidth each way; left out: as much as the worker's operator permits",
    )
