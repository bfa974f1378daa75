"""Where images come from: a registry, an OCI layout folder, a tar of either layout."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from registry.oci.descriptor import Descriptor


class ImageSource(Protocol):
    """Hands out bytes. It promises nothing about them: ``pull`` verifies."""

    async def manifest(self, reference: str) -> tuple[bytes, str]:
        """Bytes and media type (empty: not said) of the manifest that a tag or digest names."""

    async def blob(self, descriptor: Descriptor, into: Path) -> None:
        """Write the blob to the new file ``into``, no more than ``descriptor.size`` bytes and one."""


def open_source(image: str) -> AbstractAsyncContextManager[tuple[ImageSource, str]]:
    """The source and the reference that ``IMAGE`` on a command line means: ``oci:FOLDER[:TAG]``, the path of
    a tar file, ``HOST/NAME:TAG`` or ``HOST/NAME@DIGEST``.

    Raises:
        SandboxError: ``pull-failed`` with what is wrong about it.
    """
    raise NotImplementedError


def registry_source(
    url: str, repository: str, *, token: str | None = None, credentials: tuple[str, str] | None = None
) -> AbstractAsyncContextManager[ImageSource]:
    """A repository of the registry at ``url`` (``http://`` or ``https://``), over an HTTP session that lives
    as long as the context.

    ``token`` is sent as it is (a worker's pull token); ``credentials`` (user, password) answer a Bearer or
    Basic challenge; without either the challenge is answered anonymously.
    """
    raise NotImplementedError
