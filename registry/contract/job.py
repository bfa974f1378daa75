"""Jobs: what the registry hands a worker when it claims one part of a trial."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from registry.contract.base import LEASE, Wire, is_false, is_none
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.runspec import IMAGE_SPECS_MAX, ImageSpec, RunSpec
from registry.contract.scan import MAX_OTHERS, SCANNER_NAME

MECHANISM = "^[A-Za-z0-9][A-Za-z0-9_ -]{0,63}$"
"""What the name of a mechanism looks like."""


class ClaimRequest(Wire):
    """``POST /worker/v1/claim``: what this worker can run, and how long it waits for work."""

    protocol: int
    platforms: tuple[str, ...] = Field(min_length=1, max_length=16, description="os/architecture[/variant]")
    wait_seconds: float = Field(default=20.0, ge=0, le=60)
    slots: int = Field(
        default=1,
        ge=1,
        le=64,
        description="how many leases it has room for, with those that it holds",
    )
    disk_bytes: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        exclude_if=is_none,
        description="how much disk a job may take; null: it does not say",
    )
    disk_most_bytes: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        exclude_if=is_none,
        description="how much disk a job may take with nothing else there; null: it does not say",
    )
    mechanisms: tuple[Annotated[str, Field(pattern=MECHANISM)], ...] | None = Field(
        default=None,
        max_length=64,
        exclude_if=is_none,
        description="isolation that its runs can have, which run specs may demand, and what of run specs it "
        "knows that not every worker does (run-spec secrets, run-spec stubs, run-spec services, run-spec "
        "referrers), and whether it scans (scan, other scanners); null: it does not say",
    )


class JobService(Wire):
    """The image of one of the spec's services, for the job's platform."""

    name: str = Field(max_length=253, description="as the spec has it")
    repository: str
    digest: str = Field(description="digest of the image manifest, never of an index")


class JobScanner(Wire):
    """The image of another scanner that is to look at the image, for the job's platform."""

    name: str = Field(pattern=SCANNER_NAME, description="under which it tells what it finds")
    repository: str
    digest: str = Field(description="digest of the image manifest, never of an index")


class AttachedSpec(Wire):
    """What a referrer of the image, or of an index that lists it, adds to what is expected."""

    digest: str = Field(max_length=200, description="of the referrer's manifest")
    spec: ImageSpec


class Job(Wire):
    """One part: try this image, for this platform, under this spec.

    The pull token opens exactly the manifest, config and layers of the image, of its services and of other
    scanners, and dies with the lease.
    """

    protocol: int
    lease: str = Field(pattern=LEASE, description="opaque; every renewal and the report name it")
    lease_seconds: float = Field(description="renew before half of this has passed")
    trial: str
    part: str
    attempt: int
    repository: str
    digest: str = Field(description="digest of the image manifest, never of an index")
    platform: str
    spec: RunSpec | None = Field(description="null: the smoke test that the image itself suggests")
    image_spec_allowed: bool = Field(description="whether the image's label may add expectations")
    limits: Limits = Field(description="defaults for this run; the spec may set others")
    ceiling: Limits = Field(description="what no spec and no image may exceed")
    prepare: PrepareLimits
    pull_token: str = Field(repr=False)
    secrets: dict[str, str] | None = Field(
        default=None,
        repr=False,
        exclude_if=is_none,
        description="those that the spec names, with their values",
    )
    services: tuple[JobService, ...] | None = Field(
        default=None, exclude_if=is_none, description="one for each service of the spec"
    )
    image_specs: tuple[AttachedSpec, ...] | None = Field(
        default=None,
        max_length=IMAGE_SPECS_MAX,
        exclude_if=is_none,
        description="what is attached to the image as referrers, oldest first",
    )
    scan: bool = Field(
        default=False,
        exclude_if=is_false,
        description="scan the image's layers, and send what was found before the report",
    )
    scanners: tuple[JobScanner, ...] | None = Field(
        default=None,
        max_length=MAX_OTHERS,
        exclude_if=is_none,
        description="what else is to look at it then",
    )


class ClaimResponse(Wire):
    """``job`` is null when nothing came up while the worker waited, or when it is to drain."""

    protocol: int
    job: Job | None
    drain: bool = False


class RenewRequest(Wire):
    """``POST /worker/v1/renew``: the heartbeat of a lease."""

    protocol: int
    lease: str = Field(pattern=LEASE)


class RenewResponse(Wire):
    """How long the lease lives from now."""

    protocol: int
    lease_seconds: float
