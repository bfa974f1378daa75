"""Run specs: what a smoke test does and expects. YAML or JSON, version 1.

A spec comes from the request or from the repository's setting. An image's own label ``io.seatrial.smoke`` is
read only where the repository allows it; it may add expectations and lower limits, nothing else.
"""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Network
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from registry.contract.base import Wire, is_none
from registry.contract.capabilities import parse_capability
from registry.contract.expectations import Command, Expectations
from registry.contract.isolation import DEMANDABLE
from registry.contract.limits import Limits
from registry.errors import RequestInvalidError

MAX_BYTES = 64 * 1024
IMAGE_LABEL = "io.seatrial.smoke"
RESERVED = ("services", "attempts", "pass", "cases", "stub")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
T = TypeVar("T", bound=Wire)
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9](?:[a-z0-9-]{0,62}))*\.?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")


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


class RunSpec(Wire):
    """One smoke test."""

    version: Literal[1]
    command: Command | None = Field(default=None, description="replaces the image's entrypoint and command")
    env: dict[str, str] = Field(default_factory=dict, max_length=256, description="added to the image's own")
    user: str | None = Field(
        default=None, description="user[:group], by name or number, instead of the image's"
    )
    profile: Literal["standard", "restricted"] = Field(
        default="standard", description="restricted: no capability even for an image that starts as root"
    )
    init: bool | None = Field(
        default=None,
        exclude_if=is_none,
        description="true: a small init of the worker's goes before the command, passes signals on and reaps "
        "zombies",
    )
    limits: SpecLimits = SpecLimits()
    expect: Expectations = Expectations()
    network: NetworkSpec | None = Field(
        default=None,
        exclude_if=is_none,
        description="left out: no network but the run's own loopback",
    )
    require: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        exclude_if=is_none,
        description="mechanisms of isolation that the run must have, by the names of its record",
    )

    capabilities: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        exclude_if=is_none,
        description="by the names of capabilities(7) without CAP_; those beyond the seven of 'standard' only "
        "where the worker's operator allows each",
    )

    @field_validator("capabilities")
    @classmethod
    def _capabilities(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else tuple(sorted({parse_capability(one) for one in value}))

    @model_validator(mode="after")
    def _restricted_has_none(self) -> RunSpec:
        if self.capabilities is not None and self.profile == "restricted":
            raise ValueError("the profile 'restricted' has no capabilities: leave 'capabilities' out")
        return self

    @field_validator("require")
    @classmethod
    def _mechanisms(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if name not in DEMANDABLE:
                raise ValueError(
                    f"{name[:64]!r} is no mechanism that can be demanded; known are {', '.join(DEMANDABLE)}"
                )
        # In whatever order, it is the same demand.
        return None if value is None else tuple(sorted(set(value)))

    @field_validator("version", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        # True equals 1.
        if isinstance(value, bool):
            raise ValueError("must be the number 1")
        return value

    @field_validator("env")
    @classmethod
    def _environment(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _ENV_NAME.fullmatch(name):
                raise ValueError(f"{name[:80]!r} is not the name of an environment variable")
            if "\0" in text or len(text) > 32 * 1024:
                raise ValueError(f"the value of {name} has a NUL or more than 32 KiB")
        return value

    @field_validator("user")
    @classmethod
    def _user(cls, value: str | None) -> str | None:
        if value is not None and not _USER.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is not user[:group]")
        return value

    def canonical(self) -> str:
        """JSON with sorted keys and nothing that is merely the default: one for each meaning."""
        document = {"version": self.version, **self.model_dump(mode="json", exclude_defaults=True)}
        return json.dumps(document, sort_keys=True, separators=(",", ":"))


class ImageSpec(Wire):
    """What an image's label may say: expectations to add and limits to lower."""

    version: Literal[1]
    limits: SpecLimits = SpecLimits()
    expect: Expectations = Expectations()

    @field_validator("limits")
    @classmethod
    def _watched_as_long(cls, value: SpecLimits) -> SpecLimits:
        # A command that crashes after a moment is alive before that moment.
        if value.alive_seconds is not None:
            raise ValueError("an image cannot choose how long it is watched (alive_seconds)")
        return value


def parse_run_spec(text: str) -> RunSpec:
    """Read a run spec from YAML (of which JSON is a part).

    Raises:
        RequestInvalidError: too long, not YAML, aliases, or a key or value that is not allowed; each with
            its path.
    """
    return _validated(RunSpec, text)


def parse_image_spec(text: str) -> ImageSpec:
    """Read what an image's label says.

    Raises:
        RequestInvalidError: as :func:`parse_run_spec`; ``command``, ``env``, ``user`` and ``profile`` are not
            allowed in a label.
    """
    return _validated(ImageSpec, text)


class _NoAliases(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def _validated(kind: type[T], text: str) -> T:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise RequestInvalidError(f"a run spec has at most {MAX_BYTES} bytes")
    try:
        document = yaml.load(text, Loader=_NoAliases)  # noqa: S506  (a SafeLoader without aliases)
        _refuse_reserved(document)
        # JSON mode lets YAML's lists become tuples while everything else stays strict.
        return kind.model_validate_json(json.dumps(document))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'spec'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False, include_input=False)[:5]
        )
        raise RequestInvalidError(f"the run spec is not valid: {problems}") from None
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise RequestInvalidError(f"the run spec is not valid YAML: {str(error)[:300]}") from None


def _refuse_reserved(document: object) -> None:
    # Not a validator of the model: one that runs before the others takes JSON mode from them.
    for name in RESERVED:
        if isinstance(document, dict) and name in document:
            raise RequestInvalidError(
                f"the run spec is not valid: {name!r} is reserved for a later version and cannot be used yet"
            )
