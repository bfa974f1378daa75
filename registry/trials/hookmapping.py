"""What a payload of somebody else says about images: JSON pointers (RFC 6901), or Docker's notifications."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from registry.errors import RequestInvalidError, SeatrialError
from registry.oci.names import split_repository_reference

Preset = Literal["docker"]
Member = Literal["image", "repository", "tag", "digest", "spec"]
MEMBERS: tuple[Member, ...] = get_args(Member)
POINTER_MAX = 500
IMAGES_MAX = 20
"""So many images one message may be about."""
_INDEX = re.compile("0|[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class Wished:
    """A trial that a message asks for: ``NAME:TAG`` or ``NAME@DIGEST``, and a run spec (object or YAML)."""

    image: str
    spec: Mapping[str, Any] | str | None = None


def require_mapping(mapping: Mapping[str, str], *, has_repository: bool) -> None:
    """Check a mapping before anything is mapped by it. ``has_repository``: there is one by default.

    Raises:
        RequestInvalidError: a member that there is not, no pointer, or no way to an image.
    """
    for name, pointer in mapping.items():
        if name not in MEMBERS:
            raise RequestInvalidError(f"{name[:80]!r} is not mapped; {', '.join(MEMBERS)} are")
        if not pointer.startswith("/") or len(pointer) > POINTER_MAX or "\0" in pointer:
            raise RequestInvalidError(f"{name}: {pointer[:80]!r} is no JSON pointer, such as /data/tag")
    if "image" in mapping and {"repository", "tag", "digest"} & mapping.keys():
        raise RequestInvalidError("map image, or repository with tag or digest, but not both")
    if "image" not in mapping and "repository" not in mapping and not has_repository:
        raise RequestInvalidError(
            "the mapping says no image and no repository, and the hook is not of one repository"
        )


def wishes(
    payload: object, mapping: Mapping[str, str] | Preset, *, place: str | None, host: str | None = None
) -> list[Wished]:
    """What a message asks for; none where it is about nothing that is tried (a pull, say). ``place`` is what
    the hook is for: where it is one repository, that one is meant if the message says none. ``host`` is the
    other registry that messages must mean, where they say which.

    Raises:
        RequestInvalidError: what the mapping points to is missing, or no reference; and which.
    """
    if mapping == "docker":
        found = _of_docker(payload)
    else:
        assert not isinstance(mapping, str)
        found = [_mapped(payload, mapping, place, host)]
    found = list({wished.image: wished for wished in found}.values())
    if len(found) > IMAGES_MAX:
        raise RequestInvalidError(f"the message is about {len(found)} images; {IMAGES_MAX} are the limit")
    return found


def find(payload: object, pointer: str) -> object:
    """What a JSON pointer points to.

    Raises:
        RequestInvalidError: nothing.
    """
    value = payload
    for escaped in pointer.split("/")[1:]:
        part = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and _INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            raise RequestInvalidError(f"the message has nothing at {pointer[:200]}")
    return value


def _mapped(payload: object, mapping: Mapping[str, str], place: str | None, host: str | None) -> Wished:
    text = {name: _text(payload, mapping[name]) for name in mapping if name != "spec"}
    spec: Any = find(payload, mapping["spec"]) if "spec" in mapping else None
    if spec is not None and not isinstance(spec, dict | str):
        raise RequestInvalidError(f"what {mapping['spec']} points to is no run spec: an object or YAML")
    if "image" in text:
        return Wished(_reference(_without_host(text["image"], place, host)), spec)
    name = text.get("repository") or ("" if place is None or place.endswith("/") else place)
    if "digest" in text:
        return Wished(_reference(f"{name}@{text['digest']}"), spec)
    return Wished(_reference(f"{name}:{text.get('tag', 'latest')}"), spec)


def _of_docker(payload: object) -> list[Wished]:
    events = payload.get("events") if isinstance(payload, dict) else None
    if not isinstance(events, list):
        raise RequestInvalidError("the message has no list of events, as Docker's notifications have")
    found = []
    for event in events:
        target = event.get("target") if isinstance(event, dict) else None
        if not isinstance(event, dict) or not isinstance(target, dict) or event.get("action") != "push":
            continue
        name, tag, digest = (target.get(member) for member in ("repository", "tag", "digest"))
        if "manifest" not in str(target.get("mediaType", "manifest")) and "index" not in str(
            target.get("mediaType")
        ):
            continue  # a blob was pushed
        if isinstance(name, str) and isinstance(digest or tag, str):
            found.append(Wished(_reference(f"{name}@{digest}" if digest else f"{name}:{tag}")))
    return found


def _text(payload: object, pointer: str) -> str:
    value = find(payload, pointer)
    if not isinstance(value, str) or not 0 < len(value) <= POINTER_MAX:
        shown = json.dumps(value)[:80]
        raise RequestInvalidError(f"what {pointer[:200]} points to is no text: {shown}")
    return value


def _without_host(image: str, place: str | None, host: str | None) -> str:
    first, slash, rest = image.partition("/")
    if host is None and place is not None and place.partition("/")[0] == first:
        return image  # a name may begin as a host does
    if not (slash and ("." in first or ":" in first or first == "localhost")):
        return image
    if host is not None and first.lower() != host:
        raise RequestInvalidError(
            f"the message names an image of {first[:80]!r}, and this hook is for {host}"
        )
    return rest


def _reference(text: str) -> str:
    try:
        name, tag, digest = split_repository_reference(text)
    except SeatrialError as error:
        raise RequestInvalidError(f"the message names no image: {error.message}") from None
    return f"{name}@{digest}" if digest is not None else f"{name}:{tag or 'latest'}"
