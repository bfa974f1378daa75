"""``seatrial export --with-evidence``: what a registry has signed about an image, in a file that is checked
without it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import CallError, Client, JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.keys import verdict_keys
from registry.cli.output import print_json
from registry.cli.verify import checked, digest_of_tag
from registry.errors import NotFoundError, RequestInvalidError
from registry.oci.digest import Digest, digest_of, parse_content_digest
from registry.oci.manifest import MAX_BYTES, Manifest, parse_manifest
from registry.oci.mediatypes import INDEXES, MANIFESTS
from registry.oci.names import split_repository_reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DOCUMENTS = ("run-spec", "policy")


@dataclass(slots=True)
class _Found:
    """What is to be in the file; ``left_out`` says what the registry did not give, and why."""

    name: str
    manifests: dict[Digest, bytes] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    trials: list[Any] = field(default_factory=list)
    statements: int = 0
    left_out: list[str] = field(default_factory=list)


def command(
    *,
    image: Annotated[
        str, typer.Argument(metavar="NAME@DIGEST|NAME:TAG", help="An image or index of the registry.")
    ],
    evidence: Annotated[
        Path,
        typer.Option(
            "--with-evidence",
            metavar="FILE",
            help="Write manifests, signed statements, public keys, run specs and trials to this new file.",
        ),
    ],
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what the registry has signed about an image to a file, which seatrial verify --bundle checks
    without the registry. It is an OCI image layout in a tar, without the image's layers."""
    # Needs what only the server's half installs.
    from registry.cli.options import require_server_libraries  # noqa: PLC0415

    require_server_libraries()
    from registry.trials.evidence import Evidence, pack  # noqa: PLC0415

    client = connect(server, token_file)
    name, tag, given = split_repository_reference(image)
    digest = given or digest_of_tag(client, name, tag or "latest")
    found = _gather(client, name, digest)
    keys = {key["kid"]: key["public_pem"] for key in verdict_keys(client)}
    raw = pack(
        Evidence(
            name=name,
            digest=digest,
            server=client.server,
            exported_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            manifests=found.manifests,
            blobs=found.blobs,
            keys=keys,
            trials=found.trials,
        )
    )
    try:
        with evidence.open("xb") as file:
            file.write(raw)
    except OSError as error:
        raise RequestInvalidError(f"{evidence} cannot be written: {error.strerror}") from None
    told = {
        "file": str(evidence),
        "image": name,
        "digest": str(digest),
        "statements": found.statements,
        "keys": list(keys),
        "trials": len(found.trials),
        "left_out": found.left_out,
    }
    if as_json:
        print_json(told)
        return
    typer.echo(
        f"{evidence}: {found.statements} statements and {len(found.trials)} trials of {name}@{digest}, "
        f"{len(keys)} keys"
    )
    for each in found.left_out:
        typer.echo(f"left out: {each}", err=True)


def _gather(client: Client, name: str, digest: Digest) -> _Found:
    """All that there is about an image, and for an index about what it lists.

    Raises:
        NotFoundError: nothing is signed about it.
    """
    found, images = _Found(name), [digest]
    for image in images:
        manifest = _add_image(client, found, image)
        if manifest is not None:
            listed = (one.digest for one in manifest.children if one.media_type in MANIFESTS | INDEXES)
            images += [one for one in listed if one not in images]
        attested = client.items(f"/repositories/{part(name)}/attestations", {"digest": str(image)})
        for one in attested:
            if one["referrer"] is not None:
                _add_statement(client, found, parse_content_digest(one["referrer"]))
        found.trials += client.get("/trials", {"image": name, "digest": str(image)})
    if not found.statements:
        raise NotFoundError(f"nothing about {name}@{digest} is signed")
    return found


def _add_image(client: Client, found: _Found, digest: Digest) -> Manifest | None:
    try:
        raw = checked(client, found.name, "manifests", digest, MAX_BYTES)
        manifest = parse_manifest(raw)
        if manifest.config is not None and manifest.config.size <= MAX_BYTES:
            config = manifest.config.digest
            found.blobs[config] = checked(client, found.name, "blobs", config, MAX_BYTES)
    except CallError as error:
        # The gate refuses the bytes of what failed, and not what is said about it.
        found.left_out.append(f"the manifest {digest}: {error.message}")
        return None
    found.manifests[digest] = raw
    return manifest


def _add_statement(client: Client, found: _Found, referrer: Digest) -> None:
    from registry.trials.sigstore import OWN_MAX_BYTES, parse_bundle, parse_statement  # noqa: PLC0415

    raw = checked(client, found.name, "manifests", referrer, MAX_BYTES)
    manifest = parse_manifest(raw)
    for _, one in manifest.edges():
        found.blobs[one.digest] = checked(client, found.name, "blobs", one.digest, OWN_MAX_BYTES)
    found.manifests[referrer] = raw
    found.statements += 1
    bundle = found.blobs[manifest.layers[0].digest]
    statement = parse_statement(parse_bundle(bundle, limit_bytes=OWN_MAX_BYTES).payload)
    for document in _documents(statement.predicate):
        if document not in found.blobs:
            _add_document(client, found, document)


def _documents(predicate: Mapping[str, object]) -> Iterator[Digest]:
    """What a statement names by digest, and the registry keeps."""
    configuration = predicate.get("configuration")
    named = configuration if isinstance(configuration, list) else [predicate.get("policy")]
    for one in named:
        if isinstance(one, dict) and one.get("name") in _DOCUMENTS:
            for algorithm, encoded in one["digest"].items():
                yield Digest(algorithm, encoded)


def _add_document(client: Client, found: _Found, digest: Digest) -> None:
    try:
        content = client.get(f"/repositories/{part(found.name)}/documents/{digest}")
    except CallError as error:
        found.left_out.append(f"the document {digest}: {error.message}")
        return
    raw = json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    if digest_of(raw) == digest:
        found.blobs[digest] = raw
    else:
        found.left_out.append(f"the document {digest}: the registry's has another digest")
