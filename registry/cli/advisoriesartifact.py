"""The file of advisories as an OCI artifact: one layer of zstd, the same bytes for the same file."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from registry.advisories.building import replace
from registry.advisories.file import Status, open_advisories
from registry.errors import ManifestInvalidError, UnavailableError
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest, digest_of
from registry.oci.manifest import parse_manifest
from registry.oci.mediatypes import OCI_MANIFEST

if TYPE_CHECKING:
    from registry.cli.artifactclient import Advance, ArtifactClient

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ARTIFACT_TYPE = "application/vnd.seatrial.advisories.v1"
LAYER_TYPE = "application/vnd.seatrial.advisories.v1.sqlite+zstd"
MAX_BYTES = 8 * 1024**3
"""Of the file, when it is unpacked."""
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY = b"{}"
_GENERATION = "io.seatrial.advisories.generation"
_SOURCES = "io.seatrial.advisories.sources"
_FILE_DIGEST = "io.seatrial.advisories.file"
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Moved:
    """What was pushed or pulled; ``changed`` is false where a pull found what is there already."""

    digest: Digest
    changed: bool


def push(path: Path, client: ArtifactClient, advance: Advance) -> Moved:
    """Push the file under the name of ``client``.

    Raises:
        NotFoundError, UnavailableError: there is no such file, or it cannot be read.
        CallError: the registry refuses it, fails or cannot be reached.
    """
    with closing(open_advisories(path)) as advisories, path.open("rb") as file:
        status = advisories.status()
        with tempfile.TemporaryFile() as packed:
            whole = hashlib.sha256()
            with zstd.ZstdFile(packed, "wb", level=10) as stream:
                while piece := file.read(_PIECE_BYTES):
                    whole.update(piece)
                    stream.write(piece)
                    advance(len(piece))
            layer = _descriptor(LAYER_TYPE, packed)
            packed.seek(0)
            client.store(layer, packed)
    config = Descriptor(_EMPTY_TYPE, digest_of(_EMPTY), len(_EMPTY))
    client.store(config, io.BytesIO(_EMPTY))
    raw = _manifest(config, layer, status, f"sha256:{whole.hexdigest()}")
    client.put(client.name.reference, raw, OCI_MANIFEST)
    return Moved(digest_of(raw), changed=True)


def pull(path: Path, client: ArtifactClient, advance: Advance) -> Moved:
    """Put what the name of ``client`` means in the place of the file, once it is verified.

    Raises:
        ManifestInvalidError: it is no artifact of advisories.
        UnavailableError: it is damaged, or not what its digest says; the file is as it was.
        CallError: the registry refuses it, fails or cannot be reached.
    """
    raw = client.manifest()
    manifest = parse_manifest(raw)
    if manifest.artifact_type != ARTIFACT_TYPE or [one.media_type for one in manifest.layers] != [LAYER_TYPE]:
        raise ManifestInvalidError(f"{client.name} is no artifact of advisories ({ARTIFACT_TYPE})")
    digest, (layer,) = digest_of(raw), manifest.layers
    if path.exists() and manifest.annotations.get(_FILE_DIGEST) == _digest_of_file(path):
        return Moved(digest, changed=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as packed:
        client.fetch(layer, packed, advance)
        packed.seek(0)
        replace(path, lambda target: _unpack(packed, target))
    return Moved(digest, changed=True)


def _unpack(packed: IO[bytes], target: Path) -> None:
    total = 0
    try:
        with zstd.ZstdFile(packed, "rb") as stream, target.open("wb") as file:
            while piece := stream.read(_PIECE_BYTES):
                total += len(piece)
                if total > MAX_BYTES:
                    raise UnavailableError(f"the advisories unpack to more than {MAX_BYTES} bytes")
                file.write(piece)
    except (zstd.ZstdError, EOFError) as error:
        raise UnavailableError(f"the advisories cannot be unpacked: {error}") from None


def _manifest(config: Descriptor, layer: Descriptor, status: Status, whole: str) -> bytes:
    sources = {one.name: one.as_of.isoformat(timespec="seconds") for one in status.sources}
    annotations = {
        _GENERATION: status.generation,
        _SOURCES: json.dumps(sources, sort_keys=True),
        _FILE_DIGEST: whole,
    }
    if sources:
        annotations["org.opencontainers.image.created"] = max(sources.values())
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": _json(config),
        "layers": [
            _json(layer) | {"annotations": {"org.opencontainers.image.title": "advisories.sqlite.zst"}}
        ],
        "annotations": annotations,
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _json(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}


def _descriptor(media_type: str, file: IO[bytes]) -> Descriptor:
    state, size = hashlib.sha256(), 0
    file.seek(0)
    while piece := file.read(_PIECE_BYTES):
        state.update(piece)
        size += len(piece)
    return Descriptor(media_type, Digest("sha256", state.hexdigest()), size)


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return str(_descriptor(LAYER_TYPE, file).digest)
