"""Manifests and indexes, parsed for meaning; the bytes received stay what is stored (image-spec, manifest.md,
image-index.md; distribution-spec, "Pushing Manifests")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from registry.errors import ManifestInvalidError
from registry.oci import mediatypes
from registry.oci.descriptor import (
    Descriptor,
    as_list,
    as_object,
    as_struct,
    optional_string,
    parse_descriptor,
    string_map,
)
from registry.oci.strictjson import JsonInvalidError, parse_json_object

MAX_BYTES = 4 * 1024 * 1024
MAX_REFERENCES = 10_000
ARTIFACT_TYPE_MAX = 255

_NAMES = frozenset(
    {"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"}
)

EdgeKind = Literal["config", "layer", "child"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest (``config``, ``layers``) or an index (``children``)."""

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str | None
    annotations: Mapping[str, str]

    @property
    def is_index(self) -> bool:
        """Whether this lists other manifests."""
        return self.media_type in mediatypes.INDEXES

    @property
    def effective_artifact_type(self) -> str | None:
        """What a referrers list shows: artifactType, else for image manifests the config's media type."""
        if self.artifact_type is not None:
            return self.artifact_type
        return self.config.media_type if self.config else None

    @property
    def runnable(self) -> bool:
        """Whether clients may make a container of this, so that it must be tried.

        Clients do not look at the config's type in Docker's own manifests, so each of those counts. In others
        podman and containerd go by the config's type alone, and Docker by something like it.
        """
        if self.config is None or not self.layers:
            return False
        return (
            self.media_type == mediatypes.DOCKER_MANIFEST
            or self.config.media_type in mediatypes.IMAGE_CONFIGS
            or all(mediatypes.docker_takes(one.media_type) for one in (self.config, *self.layers))
        )

    @property
    def attests(self) -> bool:
        """Whether this says of itself that it is a build attestation: an image config over statements.

        Clients that run it all the same unpack layers whatever their type says: the word is not enough.
        """
        return bool(self.layers) and all(layer.media_type == mediatypes.IN_TOTO for layer in self.layers)

    def edges(self) -> Iterator[tuple[EdgeKind, Descriptor]]:
        """Everything this manifest is made of, in document order; the subject is not part of it."""
        if self.config is not None:
            yield "config", self.config
        for layer in self.layers:
            yield "layer", layer
        for child in self.children:
            yield "child", child


def parse_manifest(
    raw: bytes, content_type: str | None = None, *, references_max: int = MAX_REFERENCES
) -> Manifest:
    """Parse the received bytes of a manifest or index, which refers to so much at most.

    ``content_type`` is the request's Content-Type; its parameters are ignored. Without a ``mediaType`` in
    the body the Content-Type decides (helm leaves it out).

    Raises:
        ManifestInvalidError: not strict JSON, an unknown or withdrawn manifest type, a body that contradicts
            its Content-Type, both ``manifests`` and ``layers`` or ``config`` (CVE-2021-41190), a name that
            some clients take for another, or a descriptor that is malformed.
    """
    try:
        document = as_struct(parse_json_object(raw), "the manifest", _NAMES)
    except JsonInvalidError as error:
        raise ManifestInvalidError(f"the manifest is not valid JSON: {error}") from None
    media_type = _media_type(document, content_type)
    version = document.get("schemaVersion")
    if not isinstance(version, int) or version != 2:
        raise ManifestInvalidError("schemaVersion must be 2")
    is_index = media_type in mediatypes.INDEXES
    if is_index and ("layers" in document or "config" in document):
        raise ManifestInvalidError("an index has no 'layers' and no 'config'")
    if not is_index and "manifests" in document:
        raise ManifestInvalidError("an image manifest has no 'manifests'")
    subject = document.get("subject")
    return Manifest(
        media_type=media_type,
        config=None if is_index else parse_descriptor(document.get("config"), "config"),
        layers=() if is_index else _descriptors(document, "layers", references_max),
        children=_descriptors(document, "manifests", references_max) if is_index else (),
        subject=None if subject is None else parse_descriptor(subject, "subject"),
        artifact_type=_artifact_type(document),
        annotations=string_map(document.get("annotations"), "annotations"),
    )


def _media_type(document: Mapping[str, object], content_type: str | None) -> str:
    stated = optional_string(document, "mediaType", "manifest")
    header = (content_type or "").partition(";")[0].strip().lower() or None
    if stated and header and stated != header:
        raise ManifestInvalidError(f"mediaType {stated[:80]!r} contradicts the Content-Type {header[:80]!r}")
    media_type = stated or header
    if media_type is None:
        media_type = mediatypes.OCI_INDEX if "manifests" in document else mediatypes.OCI_MANIFEST
    if media_type in mediatypes.SCHEMA1 or document.get("schemaVersion") == 1:
        raise ManifestInvalidError("schema 1 manifests are not supported; push schema 2 or OCI")
    if media_type == mediatypes.WITHDRAWN_ARTIFACT:
        raise ManifestInvalidError(
            f"{media_type} was withdrawn; use {mediatypes.OCI_MANIFEST} with artifactType"
        )
    if media_type not in mediatypes.MANIFESTS | mediatypes.INDEXES:
        raise ManifestInvalidError(f"{media_type[:80]!r} is not a manifest or index type")
    return media_type


def _artifact_type(document: Mapping[str, object]) -> str | None:
    text = optional_string(document, "artifactType", "manifest")
    if text is not None and (len(text) > ARTIFACT_TYPE_MAX or not text.isprintable()):
        raise ManifestInvalidError(
            f"artifactType has control characters, or more than {ARTIFACT_TYPE_MAX} characters"
        )
    return text


def _descriptors(document: Mapping[str, object], name: str, most: int) -> tuple[Descriptor, ...]:
    if name in document and document[name] is None:
        return ()  # what Go makes of an empty list
    values = as_list(document.get(name), name)
    if len(values) > most:
        raise ManifestInvalidError(f"{name} has {len(values)} entries; {most} are the limit")
    return tuple(parse_descriptor(as_object(v, f"{name}[{i}]"), f"{name}[{i}]") for i, v in enumerate(values))
