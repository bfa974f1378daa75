"""Descriptors: how one piece of content points at another (image-spec, descriptor.md)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from registry.errors import DigestInvalidError, ManifestInvalidError
from registry.oci.digest import Digest, parse_digest
from registry.oci.platform import Platform
from registry.oci.strictjson import json_type

_MEDIA_TYPE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}")
_PLATFORM_PART = re.compile(r"[a-zA-Z0-9._-]{0,64}")

_NAMES = frozenset({"mediaType", "digest", "size", "platform", "artifactType", "annotations", "urls", "data"})
_PLATFORM_NAMES = frozenset({"os", "architecture", "variant"})
ATTESTATION_ANNOTATION = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size in bytes of the content pointed at."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def parse_descriptor(value: object, where: str) -> Descriptor:
    """Read a descriptor found at ``where`` (a path for the message, such as ``layers[2]``).

    Raises:
        ManifestInvalidError: a required field is missing, of the wrong type or out of range.
    """
    members = as_struct(value, where, _NAMES)
    media_type = required_string(members, "mediaType", where)
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise ManifestInvalidError(f"{where}.mediaType {media_type[:80]!r} is not a media type")
    try:
        digest = parse_digest(required_string(members, "digest", where))
    except DigestInvalidError as error:
        raise ManifestInvalidError(f"{where}.digest: {error.message}") from None
    size = members.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ManifestInvalidError(f"{where}.size must be a number of bytes, 0 or more")
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size=size,
        platform=_platform(members.get("platform"), f"{where}.platform"),
        artifact_type=optional_string(members, "artifactType", where),
        annotations=string_map(members.get("annotations"), f"{where}.annotations"),
    )


def as_object(value: object, where: str) -> dict[str, object]:
    """The value as a JSON object.

    Raises:
        ManifestInvalidError: it is something else.
    """
    if not isinstance(value, dict):
        raise ManifestInvalidError(f"{where} must be an object, not {json_type(value)}")
    return value


def as_struct(value: object, where: str, names: Collection[str]) -> dict[str, object]:
    """The value as a JSON object in which ``names`` mean something.

    Go's JSON reader, which most clients use, takes a name in other letters (``Layers``, or with U+017F for an
    ``s``) for the same, and the last one wins: such a client would run something else than what was tried.

    Raises:
        ManifestInvalidError: it is something else, or has a name that differs from one of these only so.
    """
    members = as_object(value, where)
    meant = {name.casefold(): name for name in names}
    for name in members:
        known = meant.get(name.casefold(), name)
        if known != name:
            raise ManifestInvalidError(f"{where} has {name[:80]!r}, which some clients take for {known!r}")
    return members


def as_list(value: object, where: str) -> list[object]:
    """The value as a JSON array.

    Raises:
        ManifestInvalidError: it is something else.
    """
    if not isinstance(value, list):
        raise ManifestInvalidError(f"{where} must be an array, not {json_type(value)}")
    return value


def required_string(members: Mapping[str, object], name: str, where: str) -> str:
    """A member that must be there, as a string.

    Raises:
        ManifestInvalidError: missing, empty or another type.
    """
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise ManifestInvalidError(f"{where}.{name} must be a string that is not empty")
    return value


def optional_string(members: Mapping[str, object], name: str, where: str) -> str | None:
    """A member that may be absent, null or empty (all the same), as a string.

    Raises:
        ManifestInvalidError: another type.
    """
    value = members.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ManifestInvalidError(f"{where}.{name} must be a string, not {json_type(value)}")
    return value


def string_map(value: object, where: str) -> dict[str, str]:
    """An object of strings; absent and null are the empty one.

    Raises:
        ManifestInvalidError: another type anywhere in it.
    """
    if value is None:
        return {}
    members = as_object(value, where)
    for name, member in members.items():
        if not isinstance(member, str):
            raise ManifestInvalidError(f"{where}[{name[:80]!r}] must be a string, not {json_type(member)}")
    return {name: str(member) for name, member in members.items()}


def _platform(value: object, where: str) -> Platform | None:
    if value is None:
        return None
    members = as_struct(value, where, _PLATFORM_NAMES)
    os = optional_string(members, "os", where) or ""
    architecture = optional_string(members, "architecture", where) or ""
    variant = optional_string(members, "variant", where) or ""
    for name, text in (("os", os), ("architecture", architecture), ("variant", variant)):
        if not _PLATFORM_PART.fullmatch(text):
            raise ManifestInvalidError(f"{where}.{name} {text[:80]!r} is not a plain word")
    return Platform(os, architecture, variant)
