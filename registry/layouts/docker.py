"""What ``docker save`` writes: a ``manifest.json`` that names files.

They have no manifests of their own, so each image gets one, and its layers are hashed once to know their
digests.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from typing import TYPE_CHECKING

from registry.errors import SeatrialError
from registry.layouts.errors import LayoutError
from registry.layouts.members import Members, pieces, read_whole, safe_path
from registry.oci import mediatypes
from registry.oci.descriptor import Descriptor, as_object
from registry.oci.digest import Digest, digest_of
from registry.oci.imageconfig import MAX_BYTES as CONFIG_MAX_BYTES
from registry.oci.layout import Entry, blob_path
from registry.oci.manifest import MAX_BYTES
from registry.oci.strictjson import JsonInvalidError, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST_PATH = "manifest.json"
_COMPRESSIONS = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}
"""What a compressed layer begins with; no tar does."""


def saved(members: Members) -> tuple[tuple[Entry, ...], Mapping[Digest, bytes], Mapping[Digest, str]]:
    """The images, the manifests that were made for them, and where their content lies.

    Raises:
        LayoutError: ``manifest.json`` breaks its form, or names what is not there.
    """
    try:
        listed = parse_json(read_whole(members, MANIFEST_PATH, MAX_BYTES))
    except JsonInvalidError as error:
        raise LayoutError("invalid", f"{MANIFEST_PATH} of {members.name}: {error}") from None
    if not isinstance(listed, list):
        raise LayoutError("invalid", f"{MANIFEST_PATH} of {members.name} is no list of images")
    entries: list[Entry] = []
    made: dict[Digest, bytes] = {}
    paths: dict[Digest, str] = {}
    layers: dict[str, dict[str, object]] = {}
    for number, value in enumerate(listed):
        config, layer_names, names = _named(value, f"{MANIFEST_PATH}[{number}] of {members.name}")
        raw_config = read_whole(members, config, CONFIG_MAX_BYTES)
        config_digest = digest_of(raw_config)
        _require_named(members, config, config_digest)
        paths[config_digest] = config
        for name in layer_names:
            if name not in layers:  # once, however often it is listed
                layers[name], digest = _hashed(members, name)
                paths.setdefault(digest, name)
        manifest = _manifest(config_digest, len(raw_config), [layers[name] for name in layer_names])
        descriptor = Descriptor(mediatypes.OCI_MANIFEST, digest_of(manifest), len(manifest))
        made[descriptor.digest] = manifest
        entries += [Entry(descriptor, (name,)) for name in names] or [Entry(descriptor)]
    return tuple(entries), made, paths


def _named(value: object, where: str) -> tuple[str, list[str], list[str]]:
    try:
        members = as_object(value, where)
    except SeatrialError as error:
        raise LayoutError("invalid", error.message) from None
    config, layers, names = members.get("Config"), members.get("Layers"), members.get("RepoTags") or []
    if not isinstance(config, str) or not isinstance(layers, list) or not isinstance(names, list):
        raise LayoutError("invalid", f"{where} has no Config or Layers")
    paths = [safe_path(str(one), where) for one in (config, *layers)]
    return paths[0], paths[1:], [str(one) for one in names]


def _require_named(members: Members, name: str, digest: Digest) -> None:
    if name.startswith("blobs/") and name != blob_path(digest):
        raise LayoutError("mismatch", f"{name[:100]} of {members.name} has the digest {digest}")


def _hashed(members: Members, name: str) -> tuple[dict[str, object], Digest]:
    state, size, media_type = hashlib.sha256(), 0, ""
    with closing(members.open(name)) as reader:
        for piece in pieces(reader):
            media_type = media_type or mediatypes.OCI_LAYER + _COMPRESSIONS.get(piece[:2], "")
            state.update(piece)
            size += len(piece)
    digest = Digest("sha256", state.hexdigest())
    _require_named(members, name, digest)
    return _json(media_type or mediatypes.OCI_LAYER, digest, size), digest


def _manifest(config: Digest, config_size: int, layers: list[dict[str, object]]) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": _json(mediatypes.OCI_CONFIG, config, config_size),
        "layers": layers,
    }
    return json.dumps(document).encode()


def _json(media_type: str, digest: Digest, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(digest), "size": size}
