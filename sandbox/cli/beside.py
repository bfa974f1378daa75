"""The images of a run spec's services where there is no server: given one by one, or of the registry that the
image under test is of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from registry.errors import RequestInvalidError, SeatrialError
from registry.oci.names import parse_image_name

if TYPE_CHECKING:
    from registry.contract.runspec import RunSpec
    from sandbox.services import ServiceSource


def images_beside(image: str, spec: RunSpec | None, given: Sequence[str]) -> Mapping[str, str]:
    """For each service of the spec which image it is, as ``IMAGE`` on a command line; ``given`` are
    ``NAME=IMAGE``, ``image`` is the one under test.

    Raises:
        RequestInvalidError: one is of no service, or that of a service is not known.
    """
    chosen = dict(one.split("=", 1) for one in given if "=" in one)
    services = {one.name: one.image for one in (spec.services if spec else None) or ()}
    if len(chosen) < len(given) or not all(chosen.values()):
        raise RequestInvalidError("--service is NAME=IMAGE, each name once")
    if more := sorted(chosen.keys() - services):
        raise RequestInvalidError(f"--service {more[0]}: the run spec has no such service")
    host = host_of(image)
    found = {name: f"{host}/{named}" for name, named in services.items()} if host else {}
    if missing := [name for name in services if name not in found | chosen]:
        raise RequestInvalidError(
            f"the run spec has the service {missing[0]}, an image of a registry, and {image} is of none: say "
            f"which it is with --service {missing[0]}=IMAGE"
        )
    return found | chosen


@asynccontextmanager
async def sources_beside(
    images: Mapping[str, str], *, host: str | None, credentials: tuple[str, str] | None, plain_http: bool
) -> AsyncIterator[Sequence[ServiceSource]]:
    """Where they come from. Only ``host`` is told the ``credentials``.

    Raises:
        SandboxError: as :func:`sandbox.images.source.open_source`, naming the service.
    """
    from sandbox.errors import SandboxError  # noqa: PLC0415
    from sandbox.images.source import open_source  # noqa: PLC0415
    from sandbox.services import ServiceSource  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        found = []
        for name, image in images.items():
            told = credentials if host is not None and host_of(image) == host else None
            opening = open_source(image, credentials=told, insecure=plain_http)
            try:
                source, reference = await stack.enter_async_context(opening)
            except SandboxError as error:
                raise SandboxError(error.reason, f"the service {name}: {error.message}") from None
            found.append(ServiceSource(name, image.partition("@")[0], reference, source))
        yield found


def host_of(image: str) -> str | None:
    """The registry that an image is of; ``None``: it is a layout or a file."""
    from sandbox.images.source import is_file  # noqa: PLC0415

    if image.startswith("oci:") or is_file(image):
        return None
    try:
        return parse_image_name(image).host
    except SeatrialError:
        return None
