"""What the services of a run spec come to: a plan for each, as for the image itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.contract.fields import SpecLimits
from registry.contract.limits import Limits, exceeds, together
from registry.contract.plan import NO_SECRETS, Plan, make_plan
from registry.contract.runspec import RunSpec
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import ImageConfig

_OF_THE_RUN = frozenset({"egress", "bandwidth"})
"""Mechanisms that a service has not: it reaches nothing outside, whatever the run may."""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """How one service is run, under the profile of the spec. ``plan`` expects what tells that it is ready."""

    name: str
    plan: Plan
    ready_seconds: float


def make_service_plans(
    spec: RunSpec | None,
    configs: Mapping[str, ImageConfig],
    *,
    limits: Limits,
    ceiling: Limits,
    secrets: Mapping[str, str] = NO_SECRETS,
) -> Sequence[ServicePlan]:
    """One plan for each service of the spec, in the order in which they are started; ``configs`` are those
    of their images, by name.

    Raises:
        RequestInvalidError: one cannot be run so; it is named.
    """
    made = []
    for service in (spec.services if spec else None) or ():
        assert spec is not None
        demanded = tuple(one for one in spec.require or () if one not in _OF_THE_RUN)
        as_run = RunSpec(
            version=1,
            command=service.command,
            args=service.args,
            env=service.env,
            user=service.user,
            profile=spec.profile,
            writable=service.writable,
            limits=service.limits or SpecLimits(),
            require=demanded or None,
            expect=service.ready.expectations(),
        )
        try:
            plan = make_plan(
                configs[service.name],
                as_run,
                limits=limits,
                ceiling=ceiling,
                image_spec_allowed=False,
                secrets=secrets,
            )
        except RequestInvalidError as error:
            raise RequestInvalidError(f"the service {service.name}: {error.message}") from None
        made.append(ServicePlan(service.name, plan, service.ready.within_seconds))
    return made


def side_by_side(plan: Plan, services: Sequence[ServicePlan]) -> Limits:
    """What a run may use, with those of the services that are started before it."""
    return together([plan.limits, *(one.plan.limits for one in services if plan.services)])


def require_bounded(plans: Sequence[Plan], services: Sequence[ServicePlan], ceiling: Limits) -> None:
    """Let what runs side by side stay below what one run may have, and what is waited for as well.

    Raises:
        RequestInvalidError: it does not.
    """
    with_services = [plan for plan in plans if plan.services]
    if not with_services:
        return
    for plan in with_services:
        asked = side_by_side(plan, services)
        name = exceeds(asked, ceiling)
        if name is not None:
            raise RequestInvalidError(
                f"the image and its services have {getattr(asked, name)} of {name} together, and the "
                f"ceiling is {getattr(ceiling, name)}: give some of them less in their limits"
            )
    waited = sum(one.ready_seconds for one in services)
    seconds = sum(
        plan.asked.attempts * (plan.limits.wall_seconds + (waited if plan.services else 0)) for plan in plans
    )
    if seconds > ceiling.wall_seconds:
        raise RequestInvalidError(
            f"the runs may take {seconds:g} s with what their services may take to be ready, and the ceiling "
            f"of wall_seconds is {ceiling.wall_seconds:g} s: give them less of within_seconds or wall_seconds"
        )
