"""What an import will do, found before anything is sent, and how it is done."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from registry.cli.progress import progress_bar
from registry.errors import ManifestInvalidError, SeatrialError
from registry.layouts.errors import LayoutError
from registry.layouts.walk import Content, walk
from registry.oci.manifest import Manifest, parse_manifest
from registry.oci.names import parse_tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.cli.artifactclient import ArtifactClient
    from registry.layouts.layout import Layout
    from registry.oci.descriptor import Descriptor
    from registry.oci.digest import Digest
    from registry.oci.layout import Entry

_FALLBACK = re.compile(r"sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{64})")
"""The tag of an index of referrers, for registries without a list of them (distribution-spec, "Referrers Tag
Schema")."""
_MISSING_SHOWN = 5


@dataclass(slots=True)
class Plan:
    """``tags`` of each image, none for one that has none; ``missing`` are blobs that the registry has to send
    for."""

    content: Content = field(default_factory=Content)
    tags: dict[Digest, list[str]] = field(default_factory=dict)
    referrers: list[Digest] = field(default_factory=list)
    wanted: list[Descriptor] = field(default_factory=list)


def plan(layout: Layout, into: ArtifactClient, *, tag: str | None, image: str | None, sparse: bool) -> Plan:
    """Read all manifests, and look whether all content is there, in the layout or in the registry.

    Raises:
        LayoutError: something is missing or damaged, or two images have one name.
        CallError: the registry refuses, fails or cannot be reached.
    """
    planned = Plan()
    named = [one for one in layout.entries if not (one.tag and _FALLBACK.fullmatch(one.tag))]
    candidates = _listed_referrers(layout, [one for one in layout.entries if one not in named])
    chosen = [layout.find(image)] if image else named
    if image:
        chosen = [one for one in named if one.descriptor.digest == chosen[0].descriptor.digest]
    untagged = [one.descriptor for one in named if not one.names]
    candidates += untagged
    roots: list[Entry] = []
    for entry in chosen:
        walk([entry.descriptor], layout.manifest, planned.content, sparse=sparse)
        refers = planned.content.manifests[entry.descriptor.digest].manifest.subject is not None
        if entry.names or not refers:
            roots.append(entry)
        else:
            planned.referrers.append(entry.descriptor.digest)
    _add_referrers(layout, planned, candidates)
    if not roots and not planned.referrers:
        raise LayoutError("missing", f"{layout.members.name} has no images")
    planned.tags = _tags(roots, tag, layout.members.name)
    planned.wanted = list(_require_blobs(layout, planned.content, into))
    return planned


def push(layout: Layout, planned: Plan, into: ArtifactClient) -> dict[str, Any]:
    """Send what the registry does not have: blobs, then what names them, then tags.

    Raises:
        LayoutError: a blob has other bytes than its name says; what was sent before stays.
        CallError: the registry refuses, fails or cannot be reached.
    """
    with progress_bar("Importing", sum(one.size for one in planned.wanted), of_bytes=True) as advance:
        for blob in planned.wanted:
            with closing(layout.open(blob.digest)) as reader:
                into.upload(blob, reader, advance)
    images = []
    for digest, found in planned.content.manifests.items():
        tags, media_type = planned.tags.get(digest, []), found.manifest.media_type
        moved = [tag for tag in tags if into.digest_at(tag) != str(digest)]
        for reference in moved:
            into.put(reference, found.raw, media_type)
        new = not moved and into.digest_at(digest) is None
        if new:
            into.put(digest, found.raw, media_type)
        if digest in planned.tags:
            images.append({"digest": str(digest), "tags": tags, "changed": new or bool(moved)})
    return {
        "images": images,
        "referrers": len(planned.referrers),
        "sent_blobs": len(planned.wanted),
        "sent_bytes": sum(one.size for one in planned.wanted),
        "kept_blobs": len(planned.content.blobs) - len(planned.wanted),
        "absent": [str(one) for one in planned.content.absent],
    }


def _listed_referrers(layout: Layout, indexes: Iterable[Entry]) -> list[Descriptor]:
    found: list[Descriptor] = []
    for one in indexes:
        found += _parsed(layout, one.descriptor.digest).children
    return found


def _add_referrers(layout: Layout, planned: Plan, candidates: Iterable[Descriptor]) -> None:
    """Those that refer to what comes along, and those that refer to them."""
    left = {one.digest: one for one in candidates if one.digest not in planned.content.manifests}
    subjects: dict[Digest, Digest] = {}
    for digest in left:
        subject = _parsed(layout, digest).subject
        if subject is not None:
            subjects[digest] = subject.digest
    while found := [one for one in subjects if subjects[one] in planned.content.manifests]:
        for digest in found:
            walk([left[digest]], layout.manifest, planned.content)
            planned.referrers.append(digest)
            del subjects[digest]


def _parsed(layout: Layout, digest: Digest) -> Manifest:
    try:
        return parse_manifest(layout.manifest(digest))
    except ManifestInvalidError as error:
        raise LayoutError("invalid", f"{digest}: {error.message}") from None


def _tags(roots: Iterable[Entry], tag: str | None, where: str) -> dict[Digest, list[str]]:
    tags: dict[Digest, list[str]] = {one.descriptor.digest: [] for one in roots}
    if tag is not None:
        if len(tags) != 1:
            raise LayoutError(
                "invalid", f"{where} has {len(tags)} images, which one tag cannot name; --image chooses one"
            )
        return {digest: [tag] for digest in tags}
    taken: dict[str, Digest] = {}
    for one in roots:
        digest, own = one.descriptor.digest, _tag_of(one)
        if own is None:
            continue
        if taken.setdefault(own, digest) != digest:
            raise LayoutError(
                "invalid",
                f"{where} has two images for the tag {own}: {taken[own]} and {digest}; --image chooses one",
            )
        if own not in tags[digest]:
            tags[digest].append(own)
    return tags


def _tag_of(entry: Entry) -> str | None:
    if not entry.names:
        return None
    name = entry.names[0]
    if ":" not in name.rpartition("/")[2] and "/" in name:
        return "latest"
    try:
        return parse_tag(entry.tag or "")
    except SeatrialError:
        raise LayoutError("invalid", f"{name[:100]!r} ends with no tag; give NAME:TAG and --image") from None


def _require_blobs(layout: Layout, content: Content, into: ArtifactClient) -> Iterable[Descriptor]:
    """Those that have to be sent.

    Raises:
        LayoutError: some are neither here nor there, or have another size.
    """
    missing: list[str] = []
    for blob in content.blobs.values():
        if into.has(blob.digest):
            continue
        size = layout.size(blob.digest)
        if size is None:
            missing.append(str(blob.digest))
        elif size != blob.size:
            raise LayoutError(
                "mismatch",
                f"{blob.digest} has {size} bytes in {layout.members.name}, not {blob.size} as is stated",
            )
        else:
            yield blob
    if missing:
        more = f" and {len(missing) - _MISSING_SHOWN} more" if len(missing) > _MISSING_SHOWN else ""
        raise LayoutError(
            "missing", f"{layout.members.name} lacks blobs: {', '.join(missing[:_MISSING_SHOWN])}{more}"
        )
