"""The images of a run's services: pulled, unpacked and mounted as the image under test is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from registry.contract.limits import PrepareLimits
from registry.contract.runspec import RunSpec
from registry.contract.serviceplan import ServicePlan
from registry.errors import RequestInvalidError
from registry.oci.platform import Platform
from sandbox.errors import SandboxError
from sandbox.ids import leased_ids
from sandbox.images.cache import Use, remove_path
from sandbox.images.pull import PulledImage, pull
from sandbox.images.rootfs import mounted_rootfs
from sandbox.images.snapshots import PreparedImage
from sandbox.images.source import ImageSource
from sandbox.runtimes.job import ServiceJob


@dataclass(frozen=True, slots=True)
class ServiceSource:
    """Where the image of one service comes from; ``reference`` is a tag or a digest."""

    name: str
    repository: str
    reference: str
    source: ImageSource = field(repr=False)


@dataclass(frozen=True, slots=True)
class PulledService:
    """The image of one service, verified."""

    source: ServiceSource
    image: PulledImage


@dataclass(frozen=True, slots=True)
class ServiceToRun:
    """One service, ready to be mounted and run."""

    plan: ServicePlan
    pulled: PulledService
    prepared: PreparedImage


async def pull_services(
    spec: RunSpec | None,
    sources: Sequence[ServiceSource],
    *,
    platform: Platform,
    left: Callable[[], PrepareLimits],
    use: Use,
    on_size: Callable[[int], None],
) -> Sequence[PulledService]:
    """The images of the spec's services, in its order; ``left`` says for each what preparing may still take.

    Raises:
        RequestInvalidError: nobody said where one comes from.
        SandboxError: as :func:`sandbox.images.pull.pull`, naming the service.
    """
    by_name = {one.name: one for one in sources}
    found = []
    for service in (spec.services if spec else None) or ():
        source = by_name.get(service.name)
        if source is None:
            raise RequestInvalidError(
                f"the run spec has the service {service.name}, an image of a registry: only a trial in that "
                "registry can have it"
            )
        try:
            image = await pull(
                source.source,
                source.reference,
                platform=platform,
                use=use,
                limits=left(),
                on_size=on_size,
            )
        except SandboxError as error:
            message = f"the service {service.name}: {error.message}"
            raise SandboxError(error.reason, message, retryable=error.retryable) from None
        found.append(PulledService(source, image))
    return found


@asynccontextmanager
async def mounted_service(service: ServiceToRun, state: Path, run_id: str) -> AsyncIterator[ServiceJob]:
    """The service in a writable layer and with ids of its own, for one run.

    Raises:
        SandboxError: as :func:`sandbox.images.rootfs.mounted_rootfs`.
    """
    source, plan = service.pulled.source, service.plan.plan
    async with run_folder(state, run_id) as folder:
        with leased_ids() as ids:
            mounting = mounted_rootfs(service.prepared, folder, ids, written_bytes=plan.limits.written_bytes)
            async with mounting as mounted:
                yield ServiceJob(
                    name=source.name,
                    image=f"{source.repository}@{service.pulled.image.digest}",
                    plan=plan,
                    ready_seconds=service.plan.ready_seconds,
                    config=service.pulled.image.config,
                    root=mounted.path,
                    run_dir=folder / "bundle",
                    run_id=run_id,
                    id_base=ids.base,
                    id_size=ids.size,
                )


@asynccontextmanager
async def run_folder(state: Path, run_id: str) -> AsyncIterator[Path]:
    """A folder of one run that mapped users can pass through, removed at the end."""
    folder = state / "runs" / run_id
    folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.mkdir(mode=0o711)
    (folder / "bundle").mkdir(mode=0o711)
    try:
        yield folder
    finally:
        await asyncio.shield(asyncio.to_thread(remove_path, folder))
