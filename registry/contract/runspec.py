"""Run specs: what a smoke test does and expects. YAML or JSON, version 1 (``registry.contract.specfile``).

A spec comes from the request or from the repository's setting. An image's own label ``io.seatrial.smoke``,
and what is attached to it as a referrer, are read only where the repository allows it; they may add
expectations and lower limits, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from registry.contract.base import Wire, canonical_json, is_empty, is_none
from registry.contract.cases import MAX_ATTEMPTS, MAX_CASES, Case
from registry.contract.checks import CHECKS, SCAN_ALONE
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
from registry.contract.isolation import DEMANDABLE
from registry.contract.secrets import MAX_SECRETS, SecretReference
from registry.contract.services import Services, why_not_beside
from registry.contract.stubs import Stubs, why_not_together
from registry.oci.digest import Digest, digest_of

IMAGE_LABEL = "io.seatrial.smoke"
IMAGE_SPEC_TYPE = "application/vnd.seatrial.smoke.v1"
"""The artifact type of referrers that say what the label may say; their only layer is the spec."""
IMAGE_SPECS_MAX = 4
"""So many are attached to an image, those of the indexes that list it included."""


class RunSpec(Wire):
    """One smoke test."""

    version: Literal[1]
    command: Command | None = Field(default=None, description="replaces the image's entrypoint and command")
    args: Arguments | None = Field(
        default=None,
        exclude_if=is_none,
        description="replaces what follows the entrypoint or, where there is none, the command's first word",
    )
    env: Environment = Field(
        default_factory=dict, description="added to the image's own; {secret: NAME} is the value of a secret"
    )
    user: User | None = Field(
        default=None,
        description="user[:group], by name or number, instead of the image's; random: a high number that the "
        "image does not know, in group 0",
    )
    profile: Profile = Field(
        default="standard", description="restricted: no capability even for an image that starts as root"
    )
    read_only: bool | None = Field(
        default=None,
        exclude_if=is_none,
        description="the image's own files are read-only, as they always are under restricted",
    )
    writable: tuple[PlainPath, ...] | None = Field(
        default=None,
        max_length=16,
        exclude_if=is_none,
        description="folders in memory, empty at the start, that the run may write to all the same",
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
    stub: Stubs | None = Field(
        default=None,
        min_length=1,
        exclude_if=is_none,
        description="listeners with a fixed answer on the run's loopback, for what it needs to start",
    )
    services: Services | None = Field(
        default=None,
        min_length=1,
        exclude_if=is_none,
        description="images of this registry that are started first, in this order, on the run's loopback",
    )
    require: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        exclude_if=is_none,
        description="mechanisms of isolation that the run must have, by the names of its record",
    )

    capabilities: Capabilities | None = Field(
        default=None,
        exclude_if=is_none,
        description="by the names of capabilities(7) without CAP_; those beyond the seven of 'standard' only "
        "where the worker's operator allows each",
    )
    attempts: int | None = Field(
        default=None, ge=1, le=MAX_ATTEMPTS, exclude_if=is_none, description="how often it is run at most"
    )
    passing: Passing | None = Field(
        default=None,
        alias="pass",
        exclude_if=is_none,
        description="any, the default: one attempt that passes is enough; all: every one must",
    )
    checks: tuple[str, ...] = Field(
        default=(),
        max_length=MAX_CASES,
        exclude_if=is_empty,
        description=f"cases by name, ready made: {', '.join(CHECKS)}; or {SCAN_ALONE}, with nothing beside "
        "it: the image is scanned, and nothing of it run",
    )
    cases: tuple[Case, ...] = Field(
        default=(),
        max_length=MAX_CASES,
        exclude_if=is_empty,
        description="several runs; all else in the spec is what each has unless it says otherwise",
    )

    @field_validator("checks")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in (*CHECKS, SCAN_ALONE):
                raise ValueError(f"{name[:64]!r} is no check; known are {', '.join(CHECKS)}, {SCAN_ALONE}")
        return value

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

    @model_validator(mode="after")
    def _each_fits(self) -> RunSpec:
        if self.is_scan_alone and (beside := self._beside_the_scan()):
            raise ValueError(
                f"the check '{SCAN_ALONE}' runs nothing of the image, so nothing can stand beside it: leave "
                f"out {', '.join(beside)}, or that check"
            )
        names = [*self.checks, *(case.name for case in self.cases)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"there are two cases with the name {twice[0]!r}")
        if len(names) > MAX_CASES:
            raise ValueError(f"there are {len(names)} cases; {MAX_CASES} are the limit")
        if len(self.secrets()) > MAX_SECRETS:
            raise ValueError(f"it names {len(self.secrets())} secrets; {MAX_SECRETS} are the limit")
        for name, spec in self.by_case().items():
            case = f"case {name}: " if name else ""
            if spec.profile == "restricted" and spec.read_only is False:
                raise ValueError(f"{case}restricted keeps the image's files read-only; leave read_only out")
            if spec.profile == "restricted" and spec.capabilities is not None:
                raise ValueError(
                    f"{case}the profile 'restricted' has no capabilities: leave 'capabilities' out"
                )
            tested = {one.port for one in spec.expect.http} | {one.port for one in spec.expect.tcp}
            why = why_not_together(spec.stub or (), spec.expect.stub, of_the_image=tested)
            if why is not None:
                raise ValueError(f"{case}{why}")
            names_of_stubs = {one.name for one in spec.stub or ()}
            outside = {one.host for one in spec.network.egress if one.host} if spec.network else set()
            why = why_not_beside(
                spec.services or (),
                ports=tested | {one.port for one in spec.stub or ()},
                names=names_of_stubs | outside,
            )
            if why is not None:
                raise ValueError(f"{case}{why}")
            for one in spec.network.egress if spec.network else ():
                if one.host in names_of_stubs:
                    raise ValueError(
                        f"{case}{one.host} is a stub, and a place outside: it can be one of them"
                    )
        return self

    @property
    def is_scan_alone(self) -> bool:
        """Whether the image is only scanned, and nothing of it run."""
        return SCAN_ALONE in self.checks

    def _beside_the_scan(self) -> list[str]:
        said = self.model_dump(exclude_defaults=True, by_alias=True)
        others = sorted(said.keys() - {"version", "checks"})
        return [*others, *(f"the check '{name}'" for name in self.checks if name != SCAN_ALONE)]

    def by_case(self) -> Mapping[str, RunSpec]:
        """Each run by the name of its case, as a spec of its own; without cases the spec itself, nameless.
        There is none where the image is only scanned."""
        if self.is_scan_alone:
            return {}
        cases = (*(CHECKS[name] for name in self.checks), *self.cases)
        return {case.name: self._with(case) for case in cases} or {"": self}

    def secrets(self) -> frozenset[str]:
        """The names of all secrets that its environments refer to."""
        environments = [spec.env for spec in self.by_case().values()]
        environments += [service.env for service in self.services or ()]
        values = [one for env in environments for one in env.values()]
        return frozenset(one.secret for one in values if isinstance(one, SecretReference))

    def _with(self, case: Case) -> RunSpec:
        said = case.said()
        if case.command is not None and case.args is None:
            # They were for another command.
            said["args"] = None
        if case.profile == "restricted" and case.capabilities is None:
            said["capabilities"] = None
        if case.env is not None:
            said["env"] = {**self.env, **case.env}
        if case.limits is not None:
            said["limits"] = self.limits.model_copy(update=case.limits.model_dump(exclude_none=True))
        return self.model_copy(update={**said, "checks": (), "cases": ()})

    def canonical(self) -> str:
        """JSON with sorted keys and nothing that is merely the default: one for each meaning."""
        return canonical_json(self, version=self.version)

    @property
    def digest(self) -> Digest:
        """That of its canonical JSON, which it is known by."""
        return digest_of(self.canonical().encode())


SCAN_ALONE_SPEC = RunSpec(version=1, checks=(SCAN_ALONE,)).canonical()
"""The canonical JSON of the only spec that asks for the scan alone."""


class ImageSpec(Wire):
    """What an image's label or a referrer may say: expectations to add and limits to lower."""

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
