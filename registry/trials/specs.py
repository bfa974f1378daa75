"""Run specs as they are stored: canonical JSON, known by its digest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry.contract.checks import SCAN_ALONE
from registry.contract.isolation import SECRETS, SERVICES, STUBS
from registry.contract.runspec import SCAN_ALONE_SPEC
from registry.contract.scan import SCANS
from registry.oci.digest import digest_of

if TYPE_CHECKING:
    from registry.settings import Settings

IMAGE_SUGGESTED = "image"
"""What stands for the digest where no run spec was given and the image suggests its own smoke test."""


def spec_digest(run_spec: str | None) -> str:
    """What the canonical JSON of a run spec is known by; ``None`` is what the image suggests."""
    if run_spec is None:
        return IMAGE_SUGGESTED
    return str(digest_of(run_spec.encode()))


SCAN_ALONE_DIGEST = spec_digest(SCAN_ALONE_SPEC)
"""What the spec is known by that asks for the scan alone."""


def limits_digest(settings: Settings) -> str:
    """Of the limits that hold where a run spec says nothing, and of those that bound it: no spec's digest has
    them."""
    each = (settings.limits, settings.ceiling, settings.prepare)
    return str(digest_of("".join(one.model_dump_json() for one in each).encode()))


def required_by(run_spec: str | None) -> Sequence[str]:
    """The mechanisms that the canonical JSON of a run spec demands."""
    return () if run_spec is None else json.loads(run_spec).get("require", ())


def secrets_in(run_spec: str) -> frozenset[str]:
    """The names of the secrets that the environments in the canonical JSON of a run spec refer to."""
    document = json.loads(run_spec)
    with_env = [document, *document.get("cases", ()), *(document.get("services") or ())]
    values = [value for one in with_env for value in one.get("env", {}).values()]
    return frozenset(value["secret"] for value in values if isinstance(value, dict))


def worker_needs(run_spec: str | None) -> Sequence[str]:
    """What a worker must say of itself to be given a job with the canonical JSON of a run spec: that its runs
    can have the mechanisms that are demanded, and that it knows the secrets, stubs or services in it; for a
    scan alone, that it scans."""
    document = {} if run_spec is None else json.loads(run_spec)
    each = [document, *document.get("cases", ())]
    needs = set(document.get("require", ()))
    if SCAN_ALONE in document.get("checks", ()):
        needs.add(SCANS)
    with_env = [*each, *(document.get("services") or ())]
    if any(isinstance(value, dict) for one in with_env for value in one.get("env", {}).values()):
        needs.add(SECRETS)
    if any(one.get("stub") for one in each):
        needs.add(STUBS)
    if any("services" in one for one in each):
        needs.add(SERVICES)
    return sorted(needs)
