"""Cases: several runs of one spec, each with a name and what it has otherwise than the spec."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from registry.contract.base import Wire, is_none
from registry.contract.expectations import Arguments, Command, Expectations
from registry.contract.fields import (
    Capabilities,
    Environment,
    NetworkSpec,
    Passing,
    PlainPath,
    Profile,
    SpecLimits,
    User,
)
from registry.contract.stubs import Stubs

MAX_CASES = 10
MAX_ATTEMPTS = 5
CASE_NAME = "^[a-z0-9][a-z0-9-]{0,31}$"
"""What the name of a case looks like."""


class Case(Wire):
    """One of several runs, each in a writable layer of its own. What is left out is as the spec says;
    variables and limits are added to the spec's, everything else stands in its place."""

    name: str = Field(pattern=CASE_NAME)
    command: Command | None = Field(default=None, exclude_if=is_none)
    args: Arguments | None = Field(default=None, exclude_if=is_none)
    env: Environment | None = Field(default=None, exclude_if=is_none)
    user: User | None = Field(default=None, exclude_if=is_none)
    profile: Profile | None = Field(default=None, exclude_if=is_none)
    read_only: bool | None = Field(default=None, exclude_if=is_none)
    writable: tuple[PlainPath, ...] | None = Field(default=None, max_length=16, exclude_if=is_none)
    capabilities: Capabilities | None = Field(default=None, exclude_if=is_none)
    init: bool | None = Field(default=None, exclude_if=is_none)
    limits: SpecLimits | None = Field(default=None, exclude_if=is_none)
    expect: Expectations | None = Field(default=None, exclude_if=is_none)
    network: NetworkSpec | None = Field(default=None, exclude_if=is_none)
    stub: Stubs | None = Field(default=None, exclude_if=is_none, description="[]: none of the spec's")
    services: tuple[()] | None = Field(
        default=None, exclude_if=is_none, description="[]: none of the spec's; it has no others"
    )
    attempts: int | None = Field(default=None, ge=1, le=MAX_ATTEMPTS, exclude_if=is_none)
    passing: Passing | None = Field(default=None, alias="pass", exclude_if=is_none)

    def said(self) -> dict[str, Any]:
        """What it has otherwise than its spec, by the name of the field."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "name"}
        return {name: value for name, value in values.items() if value is not None}
