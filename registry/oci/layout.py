"""The documents of an OCI image layout (image-spec, image-layout.md). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from registry.errors import ManifestInvalidError
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.manifest import MAX_REFERENCES, parse_manifest
from registry.oci.strictjson import JsonInvalidError, parse_json_object

MARKER_PATH, INDEX_PATH = "oci-layout", "index.json"
MARKER = b'{"imageLayoutVersion":"1.0.0"}'
CONTENT_TIME = 315_532_800
"""1980-01-01, in seconds since 1970: when content was last changed, for those who compare times. It never is
under its digest, so that two copies of it shall not differ by that."""
REF_NAME = "org.opencontainers.image.ref.name"
FULL_NAME = "io.containerd.image.name"
"""Under which Docker and containerd take an image in: with host and repository."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What an ``index.json`` lists, with the names that it has there."""

    descriptor: Descriptor
    names: tuple[str, ...] = ()

    @property
    def tag(self) -> str | None:
        """The tag that its first name ends with, as far as a name can tell; not yet checked."""
        return self.names[0].rpartition(":")[2] if self.names else None


def blob_path(digest: Digest) -> str:
    """Where a layout has the content of that digest."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def check_marker(raw: bytes) -> None:
    """Require what an ``oci-layout`` file has to say.

    Raises:
        ManifestInvalidError: it says something else, or a version that is not known.
    """
    try:
        version = parse_json_object(raw).get("imageLayoutVersion")
    except JsonInvalidError as error:
        raise ManifestInvalidError(f"oci-layout is not valid JSON: {error}") from None
    if not isinstance(version, str) or not version.startswith("1."):
        raise ManifestInvalidError(f"oci-layout has the version {str(version)[:40]!r}, and 1.0.0 is known")


def parse_index(raw: bytes, *, entries_max: int = MAX_REFERENCES) -> tuple[Entry, ...]:
    """What an ``index.json`` lists.

    Raises:
        ManifestInvalidError: it breaks the specification.
    """
    index = parse_manifest(raw, references_max=entries_max)
    if not index.is_index:
        raise ManifestInvalidError("index.json is an image manifest and no index")
    return tuple(
        Entry(
            one,
            tuple(name for key in (REF_NAME, FULL_NAME) if (name := one.annotations.get(key))),
        )
        for one in index.children
    )
