"""Services: other images of the registry that are started before the one under test, in its network."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from registry.contract.base import Wire, is_none
from registry.contract.expectations import (
    Arguments,
    Command,
    ExecExpectation,
    Expectations,
    HttpExpectation,
    LogExpectation,
    Pattern,
    TcpExpectation,
)
from registry.contract.fields import Environment, PlainPath, SpecLimits, User
from registry.contract.stubs import LoopbackName
from registry.errors import SeatrialError
from registry.oci.names import split_repository_reference

MAX_SERVICES = 4
MAX_READY_SECONDS = 600.0


def _image(value: str) -> str:
    try:
        split_repository_reference(value)
    except SeatrialError as error:
        raise ValueError(
            f"{error.message}; an image of this registry is NAME:TAG or NAME@DIGEST, without a host"
        ) from None
    return value


def parted(image: str) -> tuple[str, str]:
    """The repository of a service's image, and its digest or tag; without either it is ``latest``."""
    repository, tag, digest = split_repository_reference(image)
    return repository, str(digest or tag or "latest")


ServiceImage = Annotated[str, Field(max_length=512), AfterValidator(_image)]


class Ready(Wire):
    """What tells that a service can be used; the next is started then, and in the end the image itself."""

    tcp: int | None = Field(default=None, ge=1, le=65535, exclude_if=is_none, description="a port accepts")
    http: HttpExpectation | None = Field(default=None, exclude_if=is_none, description="a GET answers so")
    exec: Command | None = Field(
        default=None, exclude_if=is_none, description="a command that is run inside exits 0"
    )
    log: Pattern | None = Field(
        default=None, min_length=1, exclude_if=is_none, description="a line of its output matches"
    )
    within_seconds: float = Field(
        default=60.0, gt=0, le=MAX_READY_SECONDS, description="since it was started"
    )

    @property
    def port(self) -> int | None:
        """The port that it is asked on."""
        return self.http.port if self.http is not None else self.tcp

    def in_words(self) -> str:
        """For people."""
        within = f"within {self.within_seconds:g} s"
        if self.tcp is not None:
            return f"ready when TCP port {self.tcp} accepts, {within}"
        if self.http is not None:
            return f"ready at {self.http.in_words()}, {within}"
        if self.exec is not None:
            return f"ready when {shlex.join(self.exec)[:200]!r} exits 0, {within}"
        return f"ready when its log matches {self.log!r}, {within}"

    def expectations(self) -> Expectations:
        """The same, as a run expects it."""
        within = self.within_seconds
        if self.tcp is not None:
            return Expectations(tcp=(TcpExpectation(port=self.tcp, within_seconds=within),))
        if self.http is not None:
            return Expectations(http=(self.http.model_copy(update={"within_seconds": within}),))
        if self.exec is not None:
            return Expectations(exec=(ExecExpectation(command=self.exec, within_seconds=within),))
        assert self.log is not None
        return Expectations(log=(LogExpectation(match=self.log),))

    @model_validator(mode="after")
    def _one_kind(self) -> Ready:
        kinds = [one for one in (self.tcp, self.http, self.exec, self.log) if one is not None]
        if len(kinds) != 1:
            raise ValueError("give one of 'tcp', 'http', 'exec' and 'log'")
        if self.http is not None and self.http.within_seconds is not None:
            raise ValueError("give 'within_seconds' beside 'http', not in it")
        return self


class Service(Wire):
    """One image that runs beside the one under test, in its network and else apart from it."""

    name: LoopbackName = Field(description="in the /etc/hosts of all it stands for 127.0.0.1")
    image: ServiceImage = Field(
        description="NAME:TAG or NAME@DIGEST, of this registry; a tag is resolved when the spec is given"
    )
    command: Command | None = Field(default=None, exclude_if=is_none)
    args: Arguments | None = Field(default=None, exclude_if=is_none)
    env: Environment = Field(default_factory=dict)
    user: User | None = Field(default=None, exclude_if=is_none)
    writable: tuple[PlainPath, ...] | None = Field(default=None, max_length=16, exclude_if=is_none)
    limits: SpecLimits | None = Field(
        default=None, exclude_if=is_none, description="its own, counted with those of the run"
    )
    ready: Ready

    @field_validator("limits")
    @classmethod
    def _as_long_as_the_run(cls, value: SpecLimits | None) -> SpecLimits | None:
        if value is not None and (value.wall_seconds is not None or value.alive_seconds is not None):
            raise ValueError(
                "a service lasts as long as the run: it has no wall_seconds or alive_seconds of its own"
            )
        return value


def _apart(value: tuple[Service, ...]) -> tuple[Service, ...]:
    taken: set[tuple[str, str | int | None]] = set()
    for one in value:
        for what, which in (("the name", one.name), ("port", one.ready.port)):
            if (what, which) in taken and which is not None:
                raise ValueError(f"there are two services with {what} {which!r}")
            taken.add((what, which))
    return value


Services = Annotated[tuple[Service, ...], Field(max_length=MAX_SERVICES), AfterValidator(_apart)]


def why_not_beside(
    services: Sequence[Service], *, ports: Collection[int], names: Collection[str]
) -> str | None:
    """Why there cannot be these services where others have these ``ports`` of the same loopback, or stand
    under these ``names``."""
    for service in services:
        if service.name in names:
            return f"{service.name} is a service, and the name of something else"
        if service.ready.port in ports:
            return (
                f"the service {service.name} cannot have port {service.ready.port}: on the same loopback it "
                "is the image's, or a stub's"
            )
    return None
