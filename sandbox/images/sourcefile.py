"""Images from files: an OCI layout folder, or an archive of an OCI layout or of what ``docker save`` writes.

An archive is only indexed; layers stay closed until the confined child unpacks them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from registry.layouts.archive import open_path
from registry.layouts.errors import Kind, LayoutError
from registry.layouts.layout import Layout, content_digest, read_layout
from registry.layouts.members import PIECE_BYTES
from registry.oci.descriptor import Descriptor
from sandbox.errors import SandboxError

if TYPE_CHECKING:
    from registry.contract.report import ErrorReason

_REASONS: Mapping[Kind, ErrorReason] = MappingProxyType(
    {"missing": "pull-failed", "invalid": "manifest-invalid", "mismatch": "digest-mismatch"}
)


class LayoutSource:
    """A layout on this host, a folder or a file, open while the context lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._layout: Layout | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._layout is not None:
            self._layout.members.close()

    async def manifest(self, reference: str) -> tuple[bytes, str]:
        """By tag, by digest, or, with an empty reference, the only one. ``docker save`` has none of its own,
        so one is made from what it lists."""
        try:
            layout = self._read()
            if ":" in reference:
                return layout.manifest(content_digest(reference)), ""
            found = layout.find(reference).descriptor
            return layout.manifest(found.digest), found.media_type
        except LayoutError as error:
            raise _told(error) from None

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """The bytes of a blob, as they are."""
        loop = asyncio.get_running_loop()
        try:
            reader = self._read().open(descriptor.digest)
            with closing(reader), ThreadPoolExecutor(1, "layout") as executor:
                while piece := await loop.run_in_executor(executor, reader.read, PIECE_BYTES):
                    yield piece
        except LayoutError as error:
            raise _told(error) from None

    def _read(self) -> Layout:
        if self._layout is None:
            members = open_path(self._path)
            try:
                self._layout = read_layout(members)
            except BaseException:
                members.close()
                raise
        return self._layout


def _told(error: LayoutError) -> SandboxError:
    return SandboxError(_REASONS[error.kind], error.message)
