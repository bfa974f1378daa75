"""One image of a layout, tried as a worker does, in a place of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry.contract.limits import Limits, PrepareLimits
from registry.contract.report import Report
from registry.contract.runspec import RunSpec
from registry.oci.platform import Platform
from sandbox.attempt import Task, Workplace, try_image
from sandbox.images.source import open_source
from sandbox.runtimes.execute import OnOutput
from sandbox.services import ServiceSource
from sandbox.workplace import opened_workplace
from tests.kit.runs import runtime_name


@contextmanager
def own_workplace() -> Iterator[Workplace]:
    """A workplace with all isolation, in a folder that is gone afterwards."""
    if os.geteuid() != 0:
        pytest.skip("running with all isolation needs root")
    # Not tmp_path: its parents are closed to the run's users.
    folder = Path(tempfile.mkdtemp(prefix="seatrial-trying-"))
    folder.chmod(0o711)
    try:
        with opened_workplace(folder, runtime=runtime_name(), allowed_downgrades=frozenset()) as (opened, _):
            yield opened
    finally:
        shutil.rmtree(folder)


async def try_layout(
    where: str,
    workplace: Workplace,
    *,
    spec: RunSpec | None = None,
    limits: Limits,
    ceiling: Limits | None = None,
    prepare: PrepareLimits | None = None,
    secrets: Mapping[str, str] | None = None,
    on_output: OnOutput | None = None,
    services: Mapping[str, str] | None = None,
) -> Report:
    """Try the image of ``FOLDER[:TAG]``; the limits are the ceiling as well, unless it is given. ``services``
    are tags of images of the same layout, by name."""
    async with open_source(f"oci:{where}", credentials=None, insecure=False) as (source, reference):
        task = Task(
            reference=reference,
            platform=Platform("linux", "amd64"),
            spec=spec,
            image_spec_allowed=False,
            limits=limits,
            ceiling=ceiling or limits,
            prepare=prepare or PrepareLimits(),
            secrets=secrets or {},
            on_output=on_output,
            services=[ServiceSource(name, tag, tag, source) for name, tag in (services or {}).items()],
        )
        return await try_image(source, task, workplace=workplace)
