"""A file of evidence: what a registry has signed about an image, with all that is needed to check it without
the registry. Pure.

It is an OCI image layout (image-spec, image-layout.md) as a tar, without the image's layers: manifests,
configs, the statements' bundles, and the documents that they name. Beside it stand the public keys, the
trials as the registry tells of them, which nobody signed, and what the file is about.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.errors import SeatrialError
from registry.oci.digest import Digest, digest_of, parse_content_digest
from registry.oci.layout import INDEX_PATH, MARKER, MARKER_PATH, blob_path
from registry.oci.manifest import parse_manifest
from registry.oci.mediatypes import OCI_INDEX
from registry.oci.names import parse_repository_name
from registry.oci.strictjson import JsonInvalidError, parse_json_object
from registry.trials.sigstore import BUNDLE, PublicKey
from registry.trials.verifying import Read, read_bundle

FORMAT = 1
FILE_MAX_BYTES = 256 * 1024 * 1024
_MEMBERS_MAX = 20_000
_MEMBER_MAX_BYTES = 16 * 1024 * 1024
_ABOUT = "evidence.json"
_KEY = re.compile(r"keys/([A-Za-z0-9_-]{1,100})\.pem")
_BLOB = re.compile(r"blobs/([a-z0-9]{1,20})/([0-9a-f]{1,200})")


class EvidenceInvalidError(ValueError):
    """These bytes are no file of evidence, or not as they were written; the message says why."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """``name`` and ``digest`` are the image's; ``manifests`` those of the image, of what an index lists and
    of the statements; ``keys`` PEM by key id; ``trials`` as the API has them."""

    name: str
    digest: Digest
    server: str
    exported_at: str
    manifests: Mapping[Digest, bytes]
    blobs: Mapping[Digest, bytes]
    keys: Mapping[str, str] = field(default_factory=dict)
    trials: Sequence[Any] = ()

    def read(self, digest: Digest, keys: Sequence[PublicKey]) -> list[Read]:
        """Each statement about an image in it, checked with these keys, and against the repository's name:
        nobody signed that of the file."""
        found = []
        for source, raw in self.manifests.items():
            manifest = parse_manifest(raw)
            if manifest.artifact_type != BUNDLE or manifest.subject is None or len(manifest.layers) != 1:
                continue
            if manifest.subject.digest == digest:
                bundle = self.blobs.get(manifest.layers[0].digest)
                if bundle is None:
                    found.append(Read(str(source), None, "its bundle is not in the file"))
                else:
                    found.append(read_bundle(str(source), bundle, digest, keys, repository=self.name))
        return found


def pack(evidence: Evidence) -> bytes:
    """The file; of the same evidence the same bytes."""
    about = {
        "seatrial_evidence": FORMAT,
        "image": evidence.name,
        "digest": str(evidence.digest),
        "server": evidence.server,
        "exported_at": evidence.exported_at,
        "trials": list(evidence.trials),
    }
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_descriptor(digest, raw) for digest, raw in evidence.manifests.items()],
    }
    members = {_ABOUT: _json(about), MARKER_PATH: MARKER, INDEX_PATH: _json(index)}
    members |= {f"keys/{kid}.pem": pem.encode("ascii") for kid, pem in evidence.keys.items()}
    for digest, raw in {**evidence.manifests, **evidence.blobs}.items():
        members[blob_path(digest)] = raw
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, raw in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(raw), 0o644
            tar.addfile(member, io.BytesIO(raw))
    return file.getvalue()


def unpack(raw: bytes) -> Evidence:
    """Read a file of evidence; every blob in it has the digest that it is named by.

    Raises:
        EvidenceInvalidError: it is none, or has something in it that does not belong there.
    """
    members = dict(_members(raw))
    about = _object(members, _ABOUT)
    if about.get("seatrial_evidence") != FORMAT:
        raise EvidenceInvalidError("it is no file of evidence, or one of a newer version")
    blobs: dict[Digest, bytes] = {}
    keys: dict[str, str] = {}
    for name, content in members.items():
        if (blob := _BLOB.fullmatch(name)) is not None:
            digest = _digest(f"{blob[1]}:{blob[2]}")
            if digest_of(content, digest.algorithm) != digest:
                raise EvidenceInvalidError(f"what it has as {digest} has another digest")
            blobs[digest] = content
        elif (key := _KEY.fullmatch(name)) is not None:
            keys[key[1]] = content.decode("ascii", "replace")
    listed = _object(members, INDEX_PATH).get("manifests")
    manifests: dict[Digest, bytes] = {}
    for one in listed if isinstance(listed, list) else ():
        digest = _digest(one.get("digest") if isinstance(one, dict) else None)
        if digest not in blobs:
            raise EvidenceInvalidError(f"it lists {digest}, and does not have it")
        manifests[digest] = blobs.pop(digest) if digest not in manifests else manifests[digest]
    try:
        for content in manifests.values():
            parse_manifest(content)
        name = parse_repository_name(str(about.get("image")))
    except SeatrialError as error:
        raise EvidenceInvalidError(error.message) from None
    trials = about.get("trials")
    return Evidence(
        name=name,
        digest=_digest(about.get("digest")),
        server=str(about.get("server")),
        exported_at=str(about.get("exported_at")),
        manifests=manifests,
        blobs=blobs,
        keys=keys,
        trials=trials if isinstance(trials, list) else (),
    )


def _members(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """What :func:`pack` writes, header by header: no member has more bytes than stand in the file. The
    library's own reader fills the holes of sparse files, and follows headers of headers."""
    seen: set[str] = set()
    at = 0
    while (header := raw[at : at + tarfile.BLOCKSIZE]) != bytes(tarfile.BLOCKSIZE):
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "replace")
        except tarfile.TarError as error:
            raise EvidenceInvalidError(f"it is no tar: {error}") from None
        known = member.name in (_ABOUT, MARKER_PATH, INDEX_PATH) or any(
            pattern.fullmatch(member.name) for pattern in (_KEY, _BLOB)
        )
        if not known or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.name in seen:
            raise EvidenceInvalidError(f"{member.name[:100]!r} does not belong into such a file")
        seen.add(member.name)
        if len(seen) > _MEMBERS_MAX or not 0 <= member.size <= _MEMBER_MAX_BYTES:
            raise EvidenceInvalidError("there is more in it than such a file has")
        at += tarfile.BLOCKSIZE
        content = raw[at : at + member.size]
        if len(content) < member.size:
            raise EvidenceInvalidError("it is no tar: it ends within a member")
        yield member.name, content
        at += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _object(members: Mapping[str, bytes], name: str) -> Mapping[str, object]:
    try:
        return parse_json_object(members[name])
    except KeyError:
        raise EvidenceInvalidError(f"it has no {name}") from None
    except JsonInvalidError as error:
        raise EvidenceInvalidError(f"{name}: {error}") from None


def _digest(text: object) -> Digest:
    try:
        return parse_content_digest(str(text))
    except SeatrialError as error:
        raise EvidenceInvalidError(error.message) from None


def _descriptor(digest: Digest, raw: bytes) -> dict[str, object]:
    manifest = parse_manifest(raw)
    found: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": str(digest),
        "size": len(raw),
    }
    if manifest.artifact_type is not None:
        # What tools look for in a layout, as in a list of referrers.
        found |= {"artifactType": manifest.artifact_type, "annotations": dict(manifest.annotations)}
    return found


def _json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode()
