"""Other scanners on one's own machine: ``seatrial scan --with``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.contract.scan import MAX_OTHERS, SCANNER_NAME
from registry.errors import RequestInvalidError

if TYPE_CHECKING:
    from registry.contract.scan import Scan
    from sandbox.attempt import Workplace
    from sandbox.images.cache import Use
    from sandbox.images.pull import PulledImage


@dataclass(frozen=True, slots=True)
class Others:
    """Which images look as well, by the names under which they tell, and how they are run."""

    images: Mapping[str, str]
    runtime: str
    allowed_downgrades: frozenset[str]


@dataclass(frozen=True, slots=True)
class Beside:
    """The same, where they are run."""

    images: Mapping[str, str]
    workplace: Workplace


def named_scanners(given: Sequence[str]) -> Mapping[str, str]:
    """What ``--with [NAME=]IMAGE`` says; without a name it is the last part of the image's.

    Raises:
        RequestInvalidError: a name is none, or stands for two.
    """
    found: dict[str, str] = {}
    for one in given:
        name, equals, image = one.partition("=")
        if not equals:
            name, image = _name_of(one), one
        if not image or not re.fullmatch(SCANNER_NAME, name):
            raise RequestInvalidError(
                f"--with {one[:100]}: {name[:40]!r} is no name of a scanner; give it one of lower case "
                "letters, digits, '.', '_' and '-' with --with NAME=IMAGE"
            )
        if name in found:
            raise RequestInvalidError(
                f"--with: two scanners are named {name}; give one another with NAME=IMAGE"
            )
        found[name] = image
    if len(found) > MAX_OTHERS:
        raise RequestInvalidError(f"--with: {len(found)} scanners; {MAX_OTHERS} are the limit")
    return found


def _name_of(image: str) -> str:
    last = image.removeprefix("oci:").partition("@")[0].rstrip("/").rpartition("/")[2].partition(":")[0]
    return last.removesuffix(".tar").lower()


async def look_beside(
    scan: Scan,
    pulled: PulledImage,
    use: Use,
    beside: Beside,
    *,
    host: str | None,
    credentials: tuple[str, str] | None,
    plain_http: bool,
    show: Callable[[str], None],
) -> Scan:
    """The scan of an image whose blobs are held by ``use``, with what others find in it. Only the registry of
    the image, ``host``, is told the ``credentials``.

    Raises:
        SandboxError: the image cannot be unpacked, or one of the others cannot be had.
    """
    from registry.contract.limits import PrepareLimits  # noqa: PLC0415
    from sandbox.cli.beside import host_of  # noqa: PLC0415
    from sandbox.cli.workshop import OWN_CEILING, chosen_platform  # noqa: PLC0415
    from sandbox.images.snapshots import prepare  # noqa: PLC0415
    from sandbox.images.source import open_source  # noqa: PLC0415
    from sandbox.scanners.others.running import Looking, with_others  # noqa: PLC0415
    from sandbox.scanners.others.source import ScannerSource  # noqa: PLC0415
    from sandbox.scanners.scan import raw_config  # noqa: PLC0415

    config = raw_config(pulled, use)
    show("unpack")
    reserve = beside.workplace.cache_limits.reserve_bytes
    prepared = await prepare(pulled, PrepareLimits(), use, reserve_bytes=reserve)
    async with AsyncExitStack() as stack:
        scanners = []
        for name, image in beside.images.items():
            told = credentials if host is not None and host_of(image) == host else None
            opening = open_source(image, credentials=told, insecure=plain_http)
            source, reference = await stack.enter_async_context(opening)
            scanners.append(ScannerSource(name, image.partition("@")[0], reference, source))
        looking = Looking(
            prepared, config, chosen_platform(None), OWN_CEILING, PrepareLimits(), beside.workplace, show
        )
        return await with_others(scan, scanners, looking)
