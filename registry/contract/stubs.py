"""Stubs: listeners with a fixed answer that a run finds on its loopback, for what it needs to start."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from registry.contract.base import Wire, is_none
from registry.contract.expectations import StubExpectation
from registry.contract.fields import HostName

MAX_STUBS = 8
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE = re.compile(r"[\t -~]{0,1000}")
_OURS = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})
Text = Annotated[str, Field(max_length=16 * 1024)]


def _name(value: str) -> str:
    if value in ("localhost", "trial"):
        raise ValueError(f"{value!r} is the run itself; give what stands beside it another name")
    return value


LoopbackName = Annotated[HostName, AfterValidator(_name)]
"""What stands in the run's /etc/hosts."""


class HttpStub(Wire):
    """Every request is answered like this, and its connection closed."""

    status: int = Field(default=200, ge=200, le=599)
    headers: dict[str, str] | None = Field(default=None, min_length=1, max_length=16, exclude_if=is_none)
    body: Text = ""

    @field_validator("headers")
    @classmethod
    def _plain(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, text in (value or {}).items():
            if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(text):
                raise ValueError(f"{name[:80]!r} and what it says are no header of printable ASCII")
            if name.lower() in _OURS:
                raise ValueError(f"the header {name} is the stub's own: leave it out")
        return value


class TcpStub(Wire):
    """Connections are taken and what comes is thrown away; they stay open until the other side ends them."""

    send: Text | None = Field(default=None, exclude_if=is_none, description="said to each that connects")
    answer: Text | None = Field(
        default=None, exclude_if=is_none, description="said whenever something has come"
    )


class Stub(Wire):
    """One listener, of the worker's, on the run's own loopback."""

    name: LoopbackName = Field(description="in the run's /etc/hosts it stands for 127.0.0.1")
    port: int = Field(ge=1, le=65535, description="one that the image itself does not listen on")
    http: HttpStub | None = Field(default=None, exclude_if=is_none)
    tcp: TcpStub | None = Field(default=None, exclude_if=is_none)

    @model_validator(mode="after")
    def _one_kind(self) -> Stub:
        if (self.http is None) == (self.tcp is None):
            raise ValueError("give either 'http' or 'tcp'; {} is one that answers 200, or takes what comes")
        return self


def _ports(value: tuple[Stub, ...]) -> tuple[Stub, ...]:
    ports = [one.port for one in value]
    twice = sorted({port for port in ports if ports.count(port) > 1})
    if twice:
        raise ValueError(f"there are two stubs on port {twice[0]}: a run has one loopback, with one of each")
    return value


Stubs = Annotated[tuple[Stub, ...], Field(max_length=MAX_STUBS), AfterValidator(_ports)]


def why_not_together(
    stubs: Sequence[Stub], asked: Sequence[StubExpectation], *, of_the_image: Collection[int]
) -> str | None:
    """Why there cannot be these stubs with these expectations, beside an image with these TCP ports.

    Each port is a stub's or the image's: else a stub would be tested in the place of the image.
    """
    for stub in stubs:
        if stub.port in of_the_image:
            return (
                f"the stub {stub.name} cannot have port {stub.port}: it is the image's, on the same loopback"
            )
    for one in asked:
        meant = [stub for stub in stubs if stub.name == one.name and one.port in (None, stub.port)]
        where = (one.name if one.port is None else f"{one.name}:{one.port}")[:100]
        if not meant:
            return f"there is no stub {where!r} that could be asked"
        if (one.method or one.path) and not any(stub.http for stub in meant):
            return f"the stub {where} is for TCP, and sees neither method nor path"
    return None
