"""Where images come from: one Protocol, and what ``IMAGE`` on a command line means."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from registry.errors import SeatrialError
from registry.oci.descriptor import Descriptor
from registry.oci.names import parse_image_name
from sandbox.errors import SandboxError
from sandbox.images.sourcefile import LayoutSource


class ImageSource(Protocol):
    """Hands out bytes. It promises nothing about them: ``pull`` verifies.

    Both raise ``SandboxError`` (``pull-failed``, ``manifest-invalid``) where there is nothing to hand out.
    """

    async def manifest(self, reference: str) -> tuple[bytes, str]:
        """Bytes and media type (empty: not said) of the manifest that a tag or digest names."""

    def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """The bytes of a blob, in pieces of at most 1 MiB."""


@asynccontextmanager
async def open_source(
    image: str, *, credentials: tuple[str, str] | None = None, insecure: bool = False
) -> AsyncIterator[tuple[ImageSource, str]]:
    """The source and the reference that ``IMAGE`` means: ``oci:FOLDER[:TAG]``, the path of a tar or zip,
    ``HOST/NAME:TAG`` or ``HOST/NAME@DIGEST``.

    ``credentials`` are user and password; ``insecure`` lets a host that is not this machine speak http.

    Raises:
        SandboxError: ``pull-failed`` with what is wrong about it.
    """
    if image.startswith("oci:"):
        folder, tag = _layout_and_tag(image.removeprefix("oci:"))
        with LayoutSource(folder) as layout:
            yield layout, tag
        return
    if is_file(image):
        with LayoutSource(Path(image)) as archive:
            yield archive, ""
        return
    try:
        name = parse_image_name(image)
    except SeatrialError as error:
        raise SandboxError("pull-failed", f"{error.message}; {_what_else(image)}") from None
    # Most that is run by hand lies on the disk, and needs no client for HTTP.
    from sandbox.images.sourcehttp import registry_source  # noqa: PLC0415

    scheme = "http" if insecure or is_loopback(name.host) else "https"
    async with registry_source(f"{scheme}://{name.host}", name.repository, credentials=credentials) as source:
        yield source, name.reference


def is_file(path: str) -> bool:
    """Whether a file of this name is there. No file has a name that is too long for one."""
    return os.path.isfile(path)


def _what_else(image: str) -> str:
    """What ``IMAGE`` may have been meant as, where it is no name of an image and no file."""
    folder, _ = _layout_and_tag(image)
    if is_file(str(folder / "oci-layout")):
        return f"but there is a layout in that folder: oci:{image}"
    if os.path.isdir(folder):
        return "and the folder of that name has no layout in it (no file oci-layout)"
    return "and it is no file either"


def is_loopback(host: str) -> bool:
    """Whether ``host[:port]`` is this machine by its name or address."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _layout_and_tag(text: str) -> tuple[Path, str]:
    folder, colon, tag = text.rpartition(":")
    if colon and not os.path.isdir(text):
        return Path(folder), tag
    return Path(text), ""
