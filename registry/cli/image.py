"""``seatrial image``: what scans found in images, what they were built on, and which hold a package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from registry.advisories.values import Kind as MatchKind
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import Client, ImageArgument, JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_fields, print_json, print_list, print_table
from registry.contract.scan import WORST_FIRST, FoundKind, Severity
from registry.errors import NotFoundError, RequestInvalidError
from registry.formats.difference import difference, difference_document, difference_table
from registry.formats.names import Format
from registry.formats.putting import put_out, require_place
from registry.formats.reading import parse_document
from registry.formats.shown import age_in_days
from registry.oci.names import split_repository_reference

app = typer.Typer(
    no_args_is_help=True,
    help="What images are built on (show, children), and what scans found in them.",
)

Kind = Literal[MatchKind, FoundKind]
Platform = Annotated[
    str | None,
    typer.Option("--platform", metavar="OS/ARCH", help="Of an index only this one, as in linux/arm64."),
]
Own = Annotated[
    bool, typer.Option("--own", help="Without what came with the layers of its base; 'image show' names it.")
]
OfBase = Annotated[bool, typer.Option("--base", help="Only what came with the layers of its base.")]
_SCAN = (
    "platform",
    "system",
    "packages",
    "vulnerabilities",
    "found",
    "incomplete",
    "truncated",
    "advisories_as_of",
    "scanner",
    "worker",
    "taken_at",
)


@app.command("show")
def show_image(
    image: ImageArgument,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what an image was built on, of an index each image that it lists.

    A base is an image of this registry, which you may pull, whose layers are the lowest of this one. What an
    image says of its base by itself is a claim.
    """
    client = connect(server, token_file)
    found = _bases(client, *_named(client, image))
    if as_json:
        print_json(found)
        return
    for number, one in enumerate(found):
        if number:
            typer.echo("")
        print_fields(_shown(one), ("digest", "platform", "base", "base_layers", "base_moved", "claimed_base"))


@app.command("children")
def list_children(
    image: ImageArgument,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many rows at most.")] = 1000,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the images that are built on an image, the last pushed first, of those that you may pull."""
    client = connect(server, token_file)
    name, digest = _named(client, image)
    found = client.items(f"/repositories/{part(name)}/children/{part(digest)}", {"limit": min(limit, 1000)})
    rows = list(islice(found, limit))
    print_list(rows, ("repository", "digest", "platform", "layers"), as_json=as_json)


@app.command("referrers")
def list_referrers(
    image: ImageArgument,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what refers to an image and what refers to that: signatures, attestations, SBOMs.

    A signature is verified when it is pushed, by the rules for signatures of its place, or a certificate.
    """
    client = connect(server, token_file)
    name, digest = _named(client, image)
    found = list(client.items(f"/repositories/{part(name)}/referrers/{part(digest)}"))
    if as_json:
        print_json(found)
        return
    rows = [(one, "") for one in found] + [(one, of["digest"]) for of in found for one in of["referrers"]]
    columns = ("artifact_type", "digest", "of", "signed_by", "pushed_at")
    print_list(
        [{**one, "signed_by": _signed_by(one["signer"]), "of": of} for one, of in rows],
        columns,
        as_json=False,
    )


def _signed_by(signer: Any) -> str:
    if signer is None:
        return ""
    by = [f"the registry's key {signer['kid']}"] if signer["kid"] else []
    by += signer["rules"]
    by += [f"{signer['subject']} of {signer['issuer']}"] if signer["issuer"] else []
    return "; ".join(by) or "not verified: by a key that no rule has"


@app.command("scans")
def list_scans(
    image: ImageArgument,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the newest scan of an image, of an index those of its platforms."""
    client = connect(server, token_file)
    print_list(_scans(client, *_named(client, image)), _SCAN, as_json=as_json)


@app.command("packages")
def list_packages(
    image: ImageArgument,
    *,
    platform: Platform = None,
    own: Own = False,
    base: OfBase = False,
    words: Annotated[
        str | None,
        typer.Option(
            "--find", metavar="TEXT", help="Only with this in name, source, version or licence, in any case."
        ),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the packages in an image, as its newest scan found them."""
    asked = {"from_base": _from_base(own=own, base=base), "find": words}
    found = _found(connect(server, token_file), image, "packages", platform, asked)
    columns = ("platform", "ecosystem", "name", "version", "source", "owned_by", "layer", "path")
    print_list(found, _with_base(columns, found), as_json=as_json)


@app.command("findings")
def list_findings(
    image: ImageArgument,
    *,
    platform: Platform = None,
    own: Own = False,
    base: OfBase = False,
    severity: Annotated[
        Severity | None,
        typer.Option("--severity", help="This one or worse; those of an unknown one are always there."),
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="One kind only.")] = None,
    fixable: Annotated[
        bool, typer.Option("--fixable", help="Only vulnerabilities that another version mends.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what is wrong in an image by its newest scan: vulnerabilities, secrets, malware and the like.

    Vulnerabilities are as advisories have them now; those that another scanner reported, with its name, as
    they were told then. What nobody has looked up is said. What came with the layers of the image's base is
    told apart where one is known: mend that by building on another base.
    """
    client = connect(server, token_file)
    layered = {"from_base": _from_base(own=own, base=base)}
    scanned = _scanned(client, image, platform)
    as_of = {scan["platform"]: scan["advisories_as_of"] for scan in scanned.scans}
    rows: list[Any] = []
    if kind is None or kind in get_args(MatchKind):
        asked = {"severity": severity, "kind": kind, "fixable": "true" if fixable else None, **layered}
        rows += [
            {**one, **_of_match(one), "advisories_as_of": as_of[one["platform"]]}
            for one in scanned.items("vulnerabilities", asked)
        ]
    if kind in (None, "vulnerability"):
        rows += [
            {**one, "kind": "vulnerability", "where": one["package"], "title": one["summary"]}
            for one in scanned.items("reported", layered)
            if _is_at_least(one["severity"], severity) and (one["fixed_version"] or not fixable)
        ]
    if not fixable and (kind is None or kind in get_args(FoundKind)):
        rows += [
            {**one, "id": one["rule"]}
            for one in scanned.items("found", layered)
            if kind in (None, one["kind"]) and _is_at_least(one["severity"], severity)
        ]
    rows.sort(key=lambda one: (one["platform"], WORST_FIRST.index(one["severity"])))
    columns: tuple[str, ...] = (
        *("platform", "severity", "kind", "id", "where"),
        *("version", "fixed_version", "layer", "title"),
    )
    if any(one.get("scanner") for one in rows):
        columns = (*columns, "scanner")
    print_list(rows, _with_base(columns, rows), as_json=as_json)
    for scan in () if as_json else scanned.scans:
        if scan["advisories_as_of"] is not None:
            at = datetime.fromisoformat(scan["advisories_as_of"])
            age = f"{at:%Y-%m-%d}, {age_in_days(at, datetime.now(UTC))}"
            typer.echo(f"{scan['platform']}: the oldest advisories are of {age}", err=True)
        if scan["not_looked_up"]:
            of = ", ".join(f"{count} {name or 'others'}" for name, count in scan["not_looked_up"].items())
            typer.echo(f"{scan['platform']}: advisories were not asked, or say nothing, of {of}", err=True)


@app.command("licences")
def list_licences(
    image: ImageArgument,
    *,
    platform: Platform = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the licences of the packages in an image as SPDX expressions, the most frequent first.

    What no expression can be made of is shown as the metadata has it, and is not known.
    """
    found = _found(connect(server, token_file), image, "licences", platform)
    print_list(found, ("platform", "packages", "is_known", "licence", "names"), as_json=as_json)


@app.command("incomplete")
def list_incomplete(
    image: ImageArgument,
    *,
    platform: Platform = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what the newest scan of an image could not look at, or not to its end."""
    found = _found(connect(server, token_file), image, "incomplete", platform)
    print_list(found, ("platform", "scanner", "where", "layer", "reason"), as_json=as_json)


@app.command("report")
def show_report(
    image: ImageArgument,
    *,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write it to this file, not to the terminal."),
    ] = None,
    platform: Platform = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print all that is known of an image: as a table, JSON, SARIF, or an SBOM of CycloneDX or SPDX.

    Its newest scan, and the vulnerabilities that the registry's advisories know of its packages now. Of an
    index that was scanned for several platforms, name one.
    """
    if as_json and form not in ("table", "json"):
        raise RequestInvalidError("give --json or --format, not both")
    require_place(output)
    client = connect(server, token_file)
    put_out(_report(client, image, platform, form="json" if as_json else form), output)


@app.command("diff")
def show_difference(
    before: Annotated[str, typer.Argument(metavar="IMAGE", help="The first: NAME:TAG or NAME@DIGEST.")],
    after: Annotated[str, typer.Argument(metavar="OTHER", help="The second, which may be of another name.")],
    *,
    platform: Platform = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is different from one image to another by their newest scans: packages and findings."""
    client = connect(server, token_file)
    found = [
        parse_document(_report(client, image, platform, form="json"), what=f"the report of {image}")
        for image in (before, after)
    ]
    (old_name, old), (new_name, new) = found
    result = difference(old, new, names=(old_name, new_name))
    put_out(difference_document(result) if as_json else difference_table(result), None)


@app.command("compare")
def compare_images(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The repository, as in team/app.")],
    before: Annotated[str, typer.Argument(metavar="TAG|DIGEST", help="The first image.")],
    after: Annotated[str, typer.Argument(metavar="OTHER", help="The second one.")],
    *,
    platform: Platform = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show two images of a repository beside each other: verdicts, configuration, layers, packages, findings.

    'image diff' compares what was found in images of different repositories as well.
    """
    asked = {"before": before, "after": after, "platform": platform}
    found = connect(server, token_file).get(f"/repositories/{part(name)}/comparison", asked)
    if as_json:
        print_json(found)
        return
    sides = [{"image": which, **found[which]} for which in ("before", "after")]
    print_table(sides, ("image", "reference", "platform", "state", "size_bytes", "digest", "reason"))
    packages = [] if found["found"] is None else found["found"]["packages"]
    findings = (
        []
        if found["found"] is None
        else [{**one, "in": which} for which in ("new", "gone") for one in found["found"][which]]
    )
    for rows, columns in (
        (found["config"], ("part", "before", "after")),
        (found["layers"], ("standing", "size", "digest", "created_by")),
        (packages, ("kind", "name", "before", "after")),
        (findings, ("in", "severity", "id", "of", "fixed_version")),
    ):
        if rows:
            typer.echo("")
            print_table(rows, columns)
    if found["not_found_because"]:
        typer.echo(f"not compared: {found['not_found_because']}", err=True)


@app.command("find")
def find_image(
    digest: Annotated[
        str, typer.Argument(metavar="DIGEST", help="Or its beginning: sha256: and eight digits at least.")
    ],
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many rows at most.")] = 25,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the repositories that an image is in, of those that you may pull from, and its tags there."""
    found = connect(server, token_file).get("/images", {"digest": digest, "limit": limit})
    print_list(found, ("repository", "digest", "platform", "tags", "pushed_at"), as_json=as_json)


@app.command("holding")
def list_holders(
    package: Annotated[
        str | None, typer.Argument(metavar="[PACKAGE]", help="Its name, or that of its source.")
    ] = None,
    *,
    advisory: Annotated[
        str | None,
        typer.Option(
            "--advisory", metavar="NAME", help="Of which it tells, by any of its names: a CVE, a GHSA."
        ),
    ] = None,
    ecosystem: Annotated[
        str | None,
        typer.Option("--ecosystem", metavar="NAME", help="As OSV names it: Debian:12, PyPI, npm."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", metavar="VERSION|RANGE", help="Exactly this one, or a range: '<1.2.3', '>=1,<2'."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many rows at most.")] = 1000,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the images that hold a package, or one that an advisory tells of, the last pushed first, of
    repositories that you may push to."""
    asked = {"name": package, "advisory": advisory, "ecosystem": ecosystem, "version": version}
    found = list(islice(connect(server, token_file).items("/packages", asked), limit))
    columns = ("repository", "digest", "platform", "ecosystem", "name", "version", "version_known", "source")
    print_list(found, columns, as_json=as_json)


def _named(client: Client, image: str) -> tuple[str, str]:
    name, tag, digest = split_repository_reference(image)
    if digest is not None:
        return name, str(digest)
    return name, client.get(f"/repositories/{part(name)}/tags/{part(tag or 'latest')}")["digest"]


def _scans(client: Client, name: str, digest: str) -> list[Any]:
    found: list[Any] = client.get(f"/repositories/{part(name)}/scans/{part(digest)}")
    if not found:
        raise NotFoundError(f"{name}@{digest} was not scanned; 'seatrial trial show' says why")
    return found


def _bases(client: Client, name: str, digest: str) -> list[Any]:
    found: list[Any] = client.get(f"/repositories/{part(name)}/bases/{part(digest)}")
    if not found:
        raise NotFoundError(f"{name}@{digest} has no image that can be run in it")
    return found


def _shown(one: Any) -> dict[str, Any]:
    """An image and its base, as lines for people."""
    base = one["base"]
    claimed = "@".join(text for text in (one["claimed_name"], one["claimed_digest"]) if text)
    fields = {"digest": one["digest"], "platform": one["platform"], "claimed_base": claimed or None}
    if base is None:
        return fields | {"base": "none that is here" if one["is_known"] else "its layers are not known"}
    tags = f":{','.join(base['tags'])}" if base["tags"] else ""
    return fields | {
        "base": f"{base['repository']}{tags}@{base['digest']}",
        "base_layers": base["layers"],
        "base_moved": [f"{base['repository']}:{tag['name']} is {tag['digest']} now" for tag in base["moved"]],
    }


def _from_base(*, own: bool, base: bool) -> str | None:
    """What is asked for of an image and its base, as the API takes it."""
    if own and base:
        raise RequestInvalidError("give --own or --base, not both")
    return "false" if own else "true" if base else None


def _with_base(columns: tuple[str, ...], rows: Sequence[Any]) -> tuple[str, ...]:
    """The columns, and whether it came with the base where one is known."""
    return (*columns, "from_base") if any(one.get("from_base") is not None for one in rows) else columns


def _report(client: Client, image: str, platform: str | None, *, form: Format) -> bytes:
    name, digest = _named(client, image)
    scans = _wanted(_scans(client, name, digest), image, platform)
    if len(scans) > 1:
        there = ", ".join(scan["platform"] for scan in scans)
        raise RequestInvalidError(f"{image} was scanned for {there}: say which with --platform, or by digest")
    asked = f"{part(name)}/scans/{part(scans[0]['digest'])}/report?format={form}"
    return client.text(f"/repositories/{asked}").encode()


@dataclass(frozen=True, slots=True)
class _Scanned:
    """Scans of one image, of an index those of its platforms."""

    client: Client
    name: str
    scans: Sequence[Any]

    def items(self, what: str, query: Mapping[str, object] | None = None) -> Iterator[Any]:
        """What of them is at ``what``, with its platform."""
        for scan in self.scans:
            path = f"/repositories/{part(self.name)}/scans/{part(scan['digest'])}/{what}"
            for one in self.client.items(path, {"limit": 1000, **(query or {})}):
                yield {"platform": scan["platform"], **one}


def _wanted(scans: list[Any], image: str, platform: str | None) -> list[Any]:
    wanted = [scan for scan in scans if platform in (None, scan["platform"])]
    if not wanted:
        there = ", ".join(scan["platform"] for scan in scans)
        raise RequestInvalidError(f"{image} was not scanned for {platform}, but for {there}")
    return wanted


def _scanned(client: Client, image: str, platform: str | None) -> _Scanned:
    name, digest = _named(client, image)
    return _Scanned(client, name, _wanted(_scans(client, name, digest), image, platform))


def _found(
    client: Client, image: str, what: str, platform: str | None, query: Mapping[str, object] | None = None
) -> list[Any]:
    return list(_scanned(client, image, platform).items(what, query))


def _of_match(one: Any) -> dict[str, Any]:
    exploited = "exploited; " if one["kev"] else ""
    unknown = "perhaps; " if one["state"] == "unknown" else ""
    return {"where": one["package"], "title": f"{exploited}{unknown}{one['summary']}"}


def _is_at_least(severity: str, wanted: str | None) -> bool:
    order = [str(one) for one in WORST_FIRST]
    return wanted is None or severity == "unknown" or order.index(severity) <= order.index(wanted)
