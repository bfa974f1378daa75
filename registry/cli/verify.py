"""``seatrial verify``: what the registry has signed about an image, checked here."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import CallError, Client, JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.keys import read_key_file, verdict_keys
from registry.cli.output import cell, print_json, print_table
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.oci.digest import Digest, digest_of, parse_content_digest
from registry.oci.manifest import MAX_BYTES, parse_manifest
from registry.oci.mediatypes import INDEXES, MANIFESTS
from registry.oci.names import split_repository_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.trials.sigstore import PublicKey
    from registry.trials.verifying import Read, Word

EXIT_CODES = {"pass": 0, "warn": 0, "fail": 1, "blocked": 1}
EXIT_ERROR = 2
_ANY_MANIFEST = ", ".join(sorted(MANIFESTS | INDEXES))
_LOOKS = 5
_GONE = "the registry names it, and does not have it"


def command(
    *,
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME@DIGEST|NAME:TAG",
            help="An image of the registry; with --all a repository; with --bundle what the file is about.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="Trust these public keys (PEM) and no other; else those that the registry publishes now.",
        ),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option("--all", help="Verify each image of a repository that has a verdict, and compare both."),
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE",
            help="Verify a file of seatrial export --with-evidence, with --key and without the registry.",
        ),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify what the registry has signed about an image: digest, signature, and that it is about this image
    in this repository.

    Exit code 0 where it says pass or warn, 1 for fail or blocked, 2 for error, or where nothing is signed or
    something is wrong. With --all, 0 where all that is attested is what the database says, else 2.
    """
    if bundle is not None:
        if whole:
            raise RequestInvalidError("--bundle is about one image, and --all about a repository")
        raise typer.Exit(_verify_bundle(bundle, image, key, as_json=as_json))
    if image is None:
        raise RequestInvalidError("name an image, or give a file with --bundle")
    client = connect(server, token_file)
    keys = _keys(client, key)
    if whole:
        raise typer.Exit(_verify_all(client, image, keys, as_json=as_json))
    name, tag, given = split_repository_reference(image)
    digest = given or digest_of_tag(client, name, tag or "latest")
    read = [one for _, one in _read(client, name, digest, keys)]
    from registry.trials.verifying import word_of  # noqa: PLC0415

    word = word_of(read)
    state = _state(word)
    if as_json:
        print_json(_shown(name, digest, word, read, state))
    else:
        _print(name, digest, word, read, state)
    raise typer.Exit(EXIT_CODES.get(state, EXIT_ERROR))


def _keys(client: Client | None, file: Path | None) -> list[PublicKey]:
    # Needs what only the server's half installs.
    from registry.cli.options import require_server_libraries  # noqa: PLC0415

    require_server_libraries()
    from registry.trials.verifying import parse_keys  # noqa: PLC0415

    if file is None:
        assert client is not None
        found = [key["public_pem"] for key in verdict_keys(client)]
        return parse_keys("".join(found)) if found else []
    try:
        return parse_keys(read_key_file(file))
    except ValueError as error:
        raise RequestInvalidError(f"the key file {file} cannot be used: {error}") from None


def digest_of_tag(client: Client, name: str, tag: str) -> Digest:
    """What the tag points to; of what the gate refuses, by the gate's own word.

    Raises:
        CallError: refused, failed or not reached.
    """
    try:
        raw = client.content(f"/v2/{name}/manifests/{tag}", accept=_ANY_MANIFEST, limit_bytes=MAX_BYTES)
    except CallError as error:
        if error.status != 403:
            raise
        return parse_content_digest(client.get("/gate", {"image": f"{name}:{tag}"})["digest"])
    return digest_of(raw)


def _read(client: Client, name: str, digest: Digest, keys: Sequence[PublicKey]) -> list[tuple[str, Read]]:
    """Each statement that the registry names as its own about the image, with its predicate: others may be
    attached as well, and many.

    A newer verdict takes the place of what was listed: what is gone by then is asked for anew.
    """
    gone: set[str] = set()
    for _ in range(_LOOKS):
        attested = client.items(f"/repositories/{part(name)}/attestations", {"digest": str(digest)})
        named = {one["referrer"]: one["predicate"] for one in attested if one["referrer"] is not None}
        read = [
            (predicate, _read_one(client, name, digest, parse_content_digest(referrer), keys))
            for referrer, predicate in named.items()
        ]
        missing = {one.source for _, one in read if one.refused == _GONE}
        if missing <= gone:
            break
        gone |= missing
    return read


def _read_one(client: Client, name: str, digest: Digest, referrer: Digest, keys: Sequence[PublicKey]) -> Read:
    from registry.trials.sigstore import OWN_MAX_BYTES  # noqa: PLC0415
    from registry.trials.verifying import Read, read_bundle  # noqa: PLC0415

    try:
        manifest = parse_manifest(checked(client, name, "manifests", referrer, MAX_BYTES))
        if manifest.subject is None or manifest.subject.digest != digest or len(manifest.layers) != 1:
            return Read(str(referrer), None, "it is no statement about this image")
        bundle = checked(client, name, "blobs", manifest.layers[0].digest, OWN_MAX_BYTES)
    except CallError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return Read(str(referrer), None, _GONE)
    return read_bundle(str(referrer), bundle, digest, keys, repository=name)


def checked(client: Client, name: str, kind: str, digest: Digest, limit_bytes: int) -> bytes:
    """A manifest or blob, of the digest that it was asked for by.

    Raises:
        CallError: refused, failed, not reached, or more than ``limit_bytes``.
        ConflictError: it has another digest.
    """
    accept = _ANY_MANIFEST if kind == "manifests" else "*/*"
    raw = client.content(f"/v2/{name}/{kind}/{digest}", accept=accept, limit_bytes=limit_bytes)
    if digest_of(raw, digest.algorithm) != digest:
        raise ConflictError(f"what the registry gave as {digest} has another digest")
    return raw


def _state(word: Word) -> str:
    """pass, warn, fail, error, blocked, or empty where nothing is signed."""
    from registry.trials.verifying import own  # noqa: PLC0415

    if word.summary is None:
        return ""
    state = str(own(word.summary).get("state", ""))
    passed = word.summary.get("verificationResult") == "PASSED"
    return state if passed == (EXIT_CODES.get(state) == 0) else "error"


def _shown(name: str, digest: Digest, word: Word, read: Sequence[Read], state: str) -> dict[str, object]:
    return {
        "image": name,
        "digest": str(digest),
        "state": state or None,
        "summary": word.summary,
        "results": word.results,
        "scans": [{"referrer": one.source, "predicate": predicate} for one, predicate in _of_scans(read)],
        "refused": [{"referrer": one.source, "reason": one.refused} for one in read if one.statement is None],
    }


def _of_scans(read: Sequence[Read]) -> list[tuple[Read, str]]:
    """What is signed of a scan, each with the type of its predicate."""
    from registry.trials.statements import OF_SCANS, PREDICATES  # noqa: PLC0415

    types = [PREDICATES[kind] for kind in OF_SCANS]
    signed = [(one, one.statement.predicate_type) for one in read if one.statement is not None]
    return sorted(
        (one for one in signed if one[1] in types), key=lambda one: (types.index(one[1]), one[0].source)
    )


def _print(name: str, digest: Digest, word: Word, read: Sequence[Read], state: str) -> None:
    from registry.trials.verifying import own  # noqa: PLC0415

    typer.echo(f"{name}@{digest}")
    if word.summary is None:
        typer.echo("nothing about it is signed by a key that is trusted here")
    else:
        typer.echo(f"{state}, as of {cell(word.summary.get('timeVerified'))}")
    for result in word.results:
        said = own(result)
        by = " ".join(cell(said[key]) for key in ("platform", "runtime", "worker") if said.get(key))
        typer.echo(f"  {cell(result.get('result'))} on {cell(said.get('finishedOn'))} {by}".rstrip())
        if said.get("downgrades"):
            typer.echo(f"    without: {cell(said['downgrades'])}")
        if said.get("reason"):
            typer.echo(f"    {cell(said['reason'])}")
    for signed, predicate in _of_scans(read):
        typer.echo(f"  {predicate} in {signed.source}")
    for one in read:
        if one.statement is None:
            typer.echo(f"  {one.source}: {cell(one.refused)}")


def _verify_bundle(file: Path, image: str | None, key: Path | None, *, as_json: bool) -> int:
    from registry.cli.options import require_server_libraries  # noqa: PLC0415

    require_server_libraries()
    from registry.trials.evidence import FILE_MAX_BYTES, EvidenceInvalidError, unpack  # noqa: PLC0415
    from registry.trials.verifying import word_of  # noqa: PLC0415

    try:
        with file.open("rb") as opened:
            raw = opened.read(FILE_MAX_BYTES + 1)
        evidence = unpack(raw)
    except OSError as error:
        raise RequestInvalidError(f"{file} cannot be read: {error.strerror}") from None
    except EvidenceInvalidError as error:
        raise ConflictError(f"{file} cannot be used: {error}") from None
    if key is None:
        raise RequestInvalidError(
            "give the registry's public keys with --key: those in the file, which whoever made it chose, are "
            f"{', '.join(evidence.keys) or 'none'}"
        )
    if image is not None and image not in (evidence.name, f"{evidence.name}@{evidence.digest}"):
        raise ConflictError(f"{file} is about {evidence.name}@{evidence.digest}")
    read = evidence.read(evidence.digest, _keys(None, key))
    word = word_of(read)
    state = _state(word)
    if as_json:
        about = {"server": evidence.server, "exported_at": evidence.exported_at, "trials": evidence.trials}
        print_json({**_shown(evidence.name, evidence.digest, word, read, state), **about})
    else:
        _print(evidence.name, evidence.digest, word, read, state)
        typer.echo(
            f"exported on {cell(evidence.exported_at)} from {cell(evidence.server)}; nobody signed that"
        )
    return EXIT_CODES.get(state, EXIT_ERROR)


def _verify_all(client: Client, name: str, keys: Sequence[PublicKey], *, as_json: bool) -> int:
    listed: list[Any] = list(client.items(f"/repositories/{part(name)}/attestations"))
    wrong = [dict(one) for one in client.items(f"/repositories/{part(name)}/attestations/differences")]
    signed = dict.fromkeys(one["digest"] for one in listed if one["signed_at"] is not None)
    for digest in signed:
        for predicate, one in _read(client, name, parse_content_digest(digest), keys):
            if one.statement is None:
                what = f"it does not verify: {one.refused}"
                wrong.append({"digest": digest, "predicate": predicate, "what": what})
    if as_json:
        print_json({"attested": listed, "differences": wrong})
    elif wrong:
        print_table(wrong, ("digest", "predicate", "what"))
    elif not listed:
        raise NotFoundError(f"nothing in {name} has a verdict")
    else:
        typer.echo(f"{len(listed)} statements about {len(signed)} images of {name}: all as the database says")
    return EXIT_ERROR if wrong else 0
