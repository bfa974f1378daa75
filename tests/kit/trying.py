"""One image of a layout, tried as a worker does."""

from __future__ import annotations

from registry.contract.limits import Limits, PrepareLimits
from registry.contract.report import Report
from registry.contract.runspec import RunSpec
from registry.oci.platform import Platform
from sandbox.attempt import Task, Workplace, try_image
from sandbox.images.source import open_source


async def try_layout(
    where: str,
    workplace: Workplace,
    *,
    spec: RunSpec | None = None,
    limits: Limits,
    ceiling: Limits | None = None,
    prepare: PrepareLimits | None = None,
) -> Report:
    """Try the image of ``FOLDER[:TAG]``; the limits are the ceiling as well, unless it is given."""
    async with open_source(f"oci:{where}", credentials=None, insecure=False) as (source, reference):
        task = Task(
            reference=reference,
            platform=Platform("linux", "amd64"),
            spec=spec,
            image_spec_allowed=False,
            limits=limits,
            ceiling=ceiling or limits,
            prepare=prepare or PrepareLimits(),
        )
        return await try_image(source, task, workplace=workplace)
