"""What an export is made of, and how it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from registry.cli.progress import progress_bar
from registry.cli.repositoryclient import repository_client
from registry.errors import NotFoundError, RequestInvalidError, SeatrialError
from registry.layouts.docker import MANIFEST_PATH
from registry.layouts.walk import Content, walk
from registry.layouts.writing import index_of, merged
from registry.oci.descriptor import Descriptor, parse_descriptor
from registry.oci.digest import Digest, parse_content_digest
from registry.oci.layout import FULL_NAME, REF_NAME, blob_path
from registry.oci.manifest import parse_manifest
from registry.oci.mediatypes import IMAGE_CONFIGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.cli.artifactclient import ArtifactClient
    from registry.cli.client import Client
    from registry.layouts.writing import JsonEntry, Target

Asked = tuple[str, str | None, Digest | None]


@dataclass(frozen=True, slots=True)
class Exported:
    """An image: how it was asked for, what it is, and its name in the layout (empty: by its digest)."""

    image: str
    digest: Digest
    name: str


@dataclass(slots=True)
class Export:
    """All that is to be written: ``blobs`` with the repository that has them."""

    images: list[Exported] = field(default_factory=list)
    index: bytes = b""
    beside: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[Digest, bytes] = field(default_factory=dict)
    blobs: dict[Digest, tuple[ArtifactClient, Descriptor]] = field(default_factory=dict)
    referrers: int = 0


def gather(client: Client, asked: Sequence[Asked], before: Sequence[JsonEntry], *, referrers: bool) -> Export:
    """Read the manifests of the images asked for; ``before`` is what the target's index has.

    Raises:
        NotFoundError: there is no such image.
        LayoutError: two images would have one name, or one is that of another repository's image there.
        CallError: refused, failed or not reached.
    """
    export = Export()
    entries: list[JsonEntry] = []
    saved: list[dict[str, object]] = []
    several = len({name for name, _, _ in asked}) > 1
    for name in dict.fromkeys(name for name, _, _ in asked):
        repository, content = repository_client(client, name), Content()
        roots = []
        for tag, digest in _wanted(repository, [one for one in asked if one[0] == name]):
            root, raw = _root(repository, digest)
            roots.append(root)
            entries.append(_entry(root, repository, tag, f"{name}:{tag}" if several else tag))
            shown = f"{name}:{tag}" if tag else name
            export.images.append(Exported(shown, digest, str(_named(entries[-1]))))
            saved += _saved(raw, f"{repository.name.host}/{name}:{tag}" if tag else None)
        walk(roots, repository.manifest_of, content)
        if referrers:
            found = _referrers(repository, content)
            entries += found
            export.referrers += len(found)
        export.manifests |= {digest: one.raw for digest, one in content.manifests.items()}
        for digest, blob in content.blobs.items():
            export.blobs.setdefault(digest, (repository, blob))
    export.index = index_of(merged(before, entries))
    if saved:
        export.beside[MANIFEST_PATH] = json.dumps(saved).encode()
    return export


def write(export: Export, target: Target) -> dict[str, int]:
    """Write it, and count what was new."""
    told = {"new_blobs": 0, "new_bytes": 0, "kept_blobs": 0}
    sizes = {digest: len(raw) for digest, raw in export.manifests.items()}
    sizes |= {digest: blob.size for digest, (_, blob) in export.blobs.items()}
    target.begin(export.index, export.beside)
    wanted = {digest: size for digest, size in sizes.items() if not target.holds(digest, size)}
    told["kept_blobs"] = len(sizes) - len(wanted)
    with progress_bar("Exporting", sum(wanted.values()), of_bytes=True) as advance:
        for digest, size in wanted.items():
            if digest in export.manifests:
                target.add(digest, size, partial(_rest, export.manifests[digest]), advance)
            else:
                repository, blob = export.blobs[digest]
                target.add(digest, size, partial(repository.pieces, blob), advance)
            told["new_blobs"] += 1
            told["new_bytes"] += size
    target.finish()
    return told


def _wanted(repository: ArtifactClient, asked: Sequence[Asked]) -> Iterator[tuple[str | None, Digest]]:
    """Tags and what is under them; ``None`` for what is asked for by its digest."""
    found: dict[str | None, Digest] = {}
    for name, tag, digest in asked:
        if digest is not None:
            yield tag, digest
            continue
        tags = [tag] if tag else list(repository.listed("tags/list", "tags"))
        if not tags:
            raise NotFoundError(f"{name} has no tags")
        for one in tags:
            if one in found:
                continue
            at = repository.digest_at(one)
            if at is None:
                raise NotFoundError(f"there is no {name}:{one}")
            found[one] = parse_content_digest(at)
            yield one, found[one]


def _root(repository: ArtifactClient, digest: Digest) -> tuple[Descriptor, bytes]:
    raw = repository.manifest_of(digest)
    manifest = parse_manifest(raw)
    return Descriptor(manifest.media_type, digest, len(raw), artifact_type=manifest.artifact_type), raw


def _entry(root: Descriptor, repository: ArtifactClient, tag: str | None, name: str | None) -> JsonEntry:
    entry: JsonEntry = {"mediaType": root.media_type, "digest": str(root.digest), "size": root.size}
    if root.artifact_type:
        entry["artifactType"] = root.artifact_type
    if tag and name:
        full = f"{repository.name.host}/{repository.name.repository}:{tag}"
        entry["annotations"] = {FULL_NAME: full, REF_NAME: name}
    return entry


def _named(entry: JsonEntry) -> object:
    annotations = entry.get("annotations")
    return annotations.get(REF_NAME, "") if isinstance(annotations, dict) else ""


def _referrers(repository: ArtifactClient, content: Content) -> list[JsonEntry]:
    """What refers to these manifests, and to that, which is added to them."""
    found: dict[Digest, JsonEntry] = {}
    subjects = list(content.manifests)
    for subject in subjects:
        for listed in list(repository.listed(f"referrers/{subject}", "manifests")):
            try:
                one = parse_descriptor(listed, "a referrer")
            except SeatrialError as error:
                raise RequestInvalidError(f"the referrers of {subject}: {error.message}") from None
            if one.digest not in found:
                found[one.digest] = listed
                before = len(content.manifests)
                walk([one], repository.manifest_of, content)
                subjects += list(content.manifests)[before:]
    return list(found.values())


def _saved(raw: bytes, name: str | None) -> list[dict[str, object]]:
    """How ``docker save`` lists an image, for what loads it; nothing for an index."""
    manifest = parse_manifest(raw)
    if manifest.config is None or manifest.config.media_type not in IMAGE_CONFIGS:
        return []
    return [
        {
            "Config": blob_path(manifest.config.digest),
            "RepoTags": [name] if name else None,
            "Layers": [blob_path(layer.digest) for layer in manifest.layers],
        }
    ]


def _rest(raw: bytes, offset: int) -> Iterator[bytes]:
    yield raw[offset:]
