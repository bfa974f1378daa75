"""The images of the services that run specs name: found when the spec is given, and again when it is run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.policy import decide
from registry.content import manifests as manifest_use
from registry.content import repositories as repos
from registry.contract.job import JobService
from registry.contract.services import parted
from registry.contract.specfile import MAX_BYTES
from registry.db.content import manifests
from registry.errors import DeniedError, ManifestUnknownError, RequestInvalidError
from registry.oci.names import parse_reference
from registry.oci.platform import parse_platform
from registry.trials.asking import Reading, ask
from registry.trials.gate import Admit, AdmitEarlier, AdmitWithWarning
from registry.trials.images import images_of_stored
from registry.trials.scheduling import sizes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.contract.runspec import RunSpec
    from registry.contract.services import Service
    from registry.db.engine import Database
    from registry.settings import Settings
    from registry.trials.images import Inventory, RunnableImage


async def with_digests(database: Database, settings: Settings, *, actor: Actor, spec: RunSpec) -> RunSpec:
    """The spec with the image of each service by digest, as it is for good: its own digest says which they
    are. ``actor`` chose them, and may pull each; as any reader, not as one who may push there.

    Raises:
        RequestInvalidError: there is none that the actor may pull, or it cannot be run; the service is named.
        DeniedError: the gate refuses it.
    """
    if not spec.services:
        return spec
    found = []
    for service in spec.services:
        repository, digest = await _found(database, settings, actor, service)
        found.append(service.model_copy(update={"image": f"{repository}@{digest}"}))
    whole = spec.model_copy(update={"services": tuple(found)})
    if len(whole.canonical().encode()) > MAX_BYTES:
        # It is read again when it is run.
        raise RequestInvalidError(
            f"with the digests of its services the run spec has more than {MAX_BYTES} bytes"
        )
    return whole


async def _found(database: Database, settings: Settings, actor: Actor, service: Service) -> tuple[str, str]:
    name, reference = parted(service.image)
    what = f"the service {service.name}"
    return await find_image(database, settings, actor, repository=name, reference=reference, what=what)


async def find_image(
    database: Database, settings: Settings, actor: Actor, *, repository: str, reference: str, what: str
) -> tuple[str, str]:
    """The repository and digest of an image that runs for others, which ``actor`` chose and may pull; as any
    reader, not as one who may push there. ``what`` it is called in errors.

    Raises:
        RequestInvalidError: there is none that the actor may pull, or it cannot be run.
        DeniedError: the gate refuses it.
    """
    name = repository
    found = await repos.find(database, name)
    visibility = found.visibility if found is not None else None
    between = "@" if ":" in reference else ":"
    unknown = RequestInvalidError(
        f"{what}: there is no image {name}{between}{reference} in this registry that {actor.shown} may pull"
    )
    # Whoever may not pull learns nothing of what there is.
    if found is None or not decide(actor, "pull", name, visibility).allowed:
        raise unknown
    try:
        manifest = await manifest_use.get(database, found, parse_reference(reference))
    except ManifestUnknownError:
        raise unknown from None
    tag = None if ":" in reference else reference
    answer = await ask(Reading(database, settings, actor, found, as_reader=True), manifest, manifest, tag=tag)
    digest = str(manifest.digest)
    match answer.decision:
        case AdmitEarlier():
            digest = answer.question.earlier
        case Admit() | AdmitWithWarning():
            pass
        case refusal:
            raise DeniedError(f"{what}: {refusal.sentence}")
    async with database.read_once() as connection:
        inventory = await images_of_stored(connection, found.id, digest)
    if inventory.untriable is not None:
        raise RequestInvalidError(f"{what}: {name}@{digest} cannot be run: {inventory.untriable[1]}")
    return name, digest


async def images_for(database: Database, spec: RunSpec | None, *, platform: str) -> Sequence[JobService]:
    """The images of a stored spec's services for one platform.

    Raises:
        RequestInvalidError: one is gone or blocked by now, or not for the platform; the service is named.
    """
    services = (spec.services if spec else None) or ()
    if not services:
        return ()
    async with database.read_once() as connection:
        return [await _image_for(connection, one, platform) for one in services]


async def sizes_beside(
    connection: AsyncConnection, run_spec: str | None, platforms: Collection[str]
) -> Mapping[str, int]:
    """The bytes of the layers of all services of a stored spec (canonical JSON), for each platform: a worker
    has their images on its disk beside that under test. What is gone by now takes nothing."""
    services = () if run_spec is None else json.loads(run_spec).get("services") or ()
    found: dict[str, int] = {}
    for one in services:
        name, digest = parted(one["image"])
        repository = await repos.find_in(connection, name)
        if repository is None:
            continue
        inventory = await images_of_stored(connection, repository.id, digest)
        fitting = {platform: _fitting(inventory, platform) for platform in platforms}
        digests = {images[0].digest for images in fitting.values() if images}
        sizes = await sizes_of(connection, repository.id, digests)
        for platform, images in fitting.items():
            found[platform] = found.get(platform, 0) + (sizes.get(images[0].digest, 0) if images else 0)
    return found


def _fitting(inventory: Inventory, platform: str) -> Sequence[RunnableImage]:
    """The images that a worker of the platform runs, that of the platform itself first."""
    host = parse_platform(platform)
    fitting = [one for one in inventory.images if host.runs(parse_platform(one.platform))]
    return sorted(fitting, key=lambda one: one.platform != platform)


async def _image_for(connection: AsyncConnection, service: Service, platform: str) -> JobService:
    name, digest = parted(service.image)
    what = f"the service {service.name}: {service.image}"
    image = await image_for(connection, repository=name, digest=digest, what=what, platform=platform)
    return JobService(name=service.name, repository=image[0], digest=image[1])


async def image_for(
    connection: AsyncConnection, *, repository: str, digest: str, what: str, platform: str
) -> tuple[str, str]:
    """The repository and digest of the image, never of an index, that a worker of a platform runs for
    others. ``what`` it is called in errors.

    Raises:
        RequestInvalidError: it is gone or blocked by now, or not for the platform.
    """
    found = await repos.find_in(connection, repository)
    if found is None:
        raise RequestInvalidError(f"{what} is gone")
    inventory = await images_of_stored(connection, found.id, digest)
    if inventory.untriable is not None:
        raise RequestInvalidError(f"{what} cannot be run: {inventory.untriable[1]}")
    fitting = _fitting(inventory, platform)
    if not fitting:
        there = ", ".join(sorted({one.platform for one in inventory.images}))[:300]
        raise RequestInvalidError(f"{what} is not for {platform}; its platforms: {there}")
    image = fitting[0]
    blocked = select(manifests.c.id).where(
        manifests.c.repository_id == found.id,
        manifests.c.digest.in_([digest, image.digest]),
        manifests.c.blocked_reason.is_not(None),
    )
    if (await connection.execute(blocked.limit(1))).first() is not None:
        # Why it is stands where the image is, for those who may read it there.
        raise RequestInvalidError(f"{what} is blocked")
    return repository, image.digest
