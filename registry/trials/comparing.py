"""Two images of a repository beside each other: what they are made of, what the gate says of each, and what
was found in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.content import manifests
from registry.content.comparing import ComparedLayer, ConfigChange, compare_configs, compare_layers
from registry.content.inspecting import Contents, inspect
from registry.errors import NotFoundError
from registry.formats.difference import ScanDifference, difference
from registry.oci.digest import Digest, parse_content_digest
from registry.oci.manifest import parse_manifest
from registry.oci.names import parse_tag
from registry.trials.admission import explain_manifest
from registry.trials.asking import may_read_log
from registry.trials.gate import Admit, AdmitWithWarning, EffectiveState
from registry.trials.scanreport import read_report

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.content.manifests import StoredManifest
    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.settings import Settings
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the two: as it was asked for, and the image that is meant, of an index that of the platform.
    ``size_bytes`` is ``None`` where the actor may not pull it: then it is not told what it is made of."""

    reference: str
    digest: str
    platform: str | None
    state: EffectiveState
    reason: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """``config`` and ``layers`` are ``None`` where one of the two may not be pulled; ``found`` where what was
    found is not for the actor, or one of them was not scanned. ``platforms`` are those that both have."""

    before: Compared
    after: Compared
    platforms: Sequence[str]
    config: Sequence[ConfigChange] | None
    layers: Sequence[ComparedLayer] | None
    found: ScanDifference | None
    not_found_because: str


@dataclass(frozen=True, slots=True)
class _Store:
    """What reading takes."""

    database: Database
    blobs: BlobStore
    settings: Settings
    parsers: Threads


async def compare(
    database: Database,
    blobs: BlobStore,
    settings: Settings,
    *,
    actor: Actor,
    repository: Repository,
    before: str,
    after: str,
    platform: str | None,
    parsers: Threads,
) -> Comparison:
    """From one image of a repository that the actor may pull from to another, each by tag or digest. Indexes
    are compared by one of their images: of ``platform``, else of the first that both have.

    Raises:
        ManifestUnknownError: there is no such image.
        NotFoundError: they have no such platform in common.
    """
    store = _Store(database, blobs, settings, parsers)
    named = [await manifests.get(database, repository, _reference(given)) for given in (before, after)]
    old, new = [await _images(store, manifest) for manifest in named]
    common = [one for one in old if one in new]
    chosen = platform or (common[0] if common else None)
    # A chart has no platform, and an image that is no index is meant whatever its platform is.
    picked = [
        next(iter(images.values()))
        if len(images) == 1 and platform is None
        else _pick(images, chosen, common)
        for images in (old, new)
    ]
    sides, contents, leaves = [], [], []
    for given, manifest, digest in zip((before, after), named, picked, strict=True):
        leaf = manifest
        if digest != str(manifest.digest):
            leaf = await manifests.get(database, repository, parse_content_digest(digest))
        side, held = await _side(store, actor, repository, leaf, given)
        sides.append(side)
        contents.append(held)
        leaves.append(leaf)
    config = layers = None
    if contents[0] is not None and contents[1] is not None:
        config = compare_configs(contents[0].config, contents[1].config)
        layers = compare_layers(contents[0], contents[1])
    found, because = await _found(store, actor, repository, leaves, sides)
    return Comparison(
        before=sides[0],
        after=sides[1],
        platforms=[one for one in common if one],
        config=config,
        layers=layers,
        found=found,
        not_found_because=because,
    )


def _reference(given: str) -> str | Digest:
    return parse_content_digest(given) if ":" in given else parse_tag(given)


async def _images(store: _Store, manifest: StoredManifest) -> Mapping[str, str]:
    """The digests of the images that can be meant, by their platforms; of what is no index itself."""
    parsed = await store.parsers.run(parse_manifest, manifest.raw, manifest.media_type)
    if not parsed.is_index:
        return {manifest.platform or "": str(manifest.digest)}
    return {
        str(child.platform): str(child.digest)
        for child in reversed(parsed.children)
        if child.platform is not None and not child.platform.unknown
    }


def _pick(images: Mapping[str, str], platform: str | None, common: Sequence[str]) -> str:
    if platform is None or platform not in images:
        there = ", ".join(common) or "none"
        wanted = f"have no {platform}" if platform else "have no platform"
        raise NotFoundError(f"the two {wanted} in common; there is {there}")
    return images[platform]


async def _side(
    store: _Store, actor: Actor, repository: Repository, leaf: StoredManifest, reference: str
) -> tuple[Compared, Contents | None]:
    question, decision = await explain_manifest(
        store.database, store.settings, actor=actor, repository=repository, manifest=leaf, tag=None
    )
    contents = None
    # What is refused is not shown by another way.
    if isinstance(decision, Admit | AdmitWithWarning):
        contents = await inspect(store.database, store.blobs, leaf, parsers=store.parsers)
    side = Compared(
        reference=reference,
        digest=str(leaf.digest),
        platform=leaf.platform,
        state=question.state,
        reason=question.reason,
        size_bytes=None if contents is None else contents.size,
    )
    return side, contents


async def _found(
    store: _Store,
    actor: Actor,
    repository: Repository,
    leaves: Sequence[StoredManifest],
    sides: Sequence[Compared],
) -> tuple[ScanDifference | None, str]:
    if not may_read_log(actor, repository=repository.name, visibility=repository.visibility):
        return None, "what was found in images is for those who may push to the repository"
    names = [f"{repository.name}@{side.digest}" for side in sides]
    reports = []
    for leaf, name in zip(leaves, names, strict=True):
        try:
            reports.append(
                await read_report(
                    store.database,
                    store.blobs,
                    leaf,
                    name=repository.name,
                    image=name,
                    parsers=store.parsers,
                )
            )
        except NotFoundError:
            return None, f"{name} was not scanned"
    result = await store.parsers.run(lambda: difference(*reports, names=(names[0], names[1])))
    return result, ""
