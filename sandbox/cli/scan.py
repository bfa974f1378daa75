"""``seatrial scan``: say what an image holds, without a server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from registry.oci.printable import printable
from sandbox.cli.workshop import (
    ImageArgument,
    JsonOption,
    PasswordFileOption,
    PlainHttpOption,
    PlatformOption,
    RulesOption,
    UsernameOption,
    chosen_platform,
    configure_logs,
    own_folder,
    read_credentials,
    scanner_with,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.advisories.matching import Match
    from registry.advisories.report import Report
    from registry.contract.scan import Scan
    from registry.oci.platform import Platform
    from sandbox.scanners.layers import Scanner

Threshold = Literal["info", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Threshold, ...] = get_args(Threshold)
NO_ADVISORIES = (
    "no advisories were given (--advisories FILE): which vulnerabilities its packages have was not looked up"
)
_GAPS_SHOWN = 20


def command(
    *,
    image: ImageArgument,
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="How to print what was found.")
    ] = "table",
    fail_on: Annotated[
        Threshold | None,
        typer.Option(
            "--fail-on",
            metavar="|".join(SEVERITIES),
            help="Exit with 1 where something of this severity or above was found. What has an unknown one "
            "counts.",
        ),
    ] = None,
    advisories: Annotated[
        Path | None,
        typer.Option(
            "--advisories", metavar="FILE", help="File of advisories, to look up vulnerabilities in."
        ),
    ] = None,
    rules: RulesOption = None,
    platform: PlatformOption = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            help="Folder whose cache holds layers, and what was found in them. [default: that of run]",
        ),
    ] = None,
    username: UsernameOption = None,
    password_file: PasswordFileOption = None,
    plain_http: PlainHttpOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what an image holds: packages, secrets, malware, misconfiguration, vulnerabilities.

    Nothing of the image is run or unpacked, and no container runtime is needed. Exit code 0; with --fail-on 1
    where something of that severity or above was found, and 2 where nothing was but not all of the image
    could be looked at; 2 for an error, 64 for wrong usage.
    """
    from registry.advisories.file import open_advisories  # noqa: PLC0415
    from registry.advisories.report import report  # noqa: PLC0415
    from sandbox.rootless import enter_user_namespace  # noqa: PLC0415

    enter_user_namespace()
    configure_logs("text", quiet=True)
    # Opened before there is anything to wait for.
    opened = None if advisories is None else open_advisories(advisories)
    scanner = scanner_with(rules)
    base = Path(os.path.abspath(state or own_folder()))
    base.mkdir(mode=0o711, parents=True, exist_ok=True)
    scan = asyncio.run(
        _scan(
            image,
            base,
            chosen_platform(platform),
            credentials=read_credentials(username, password_file),
            plain_http=plain_http,
            scanner=scanner,
        )
    )
    known = report(scan, opened, scanned_at=datetime.now(UTC))
    if opened is not None:
        opened.close()
    if as_json or output == "json":
        typer.echo(json.dumps(_document(image, known), indent=2))
    else:
        _print(known)
    raise typer.Exit(_code(known, fail_on))


async def _scan(
    image: str,
    base: Path,
    platform: Platform,
    *,
    credentials: tuple[str, str] | None,
    plain_http: bool,
    scanner: Scanner,
) -> Scan:
    from functools import partial  # noqa: PLC0415

    from registry.contract.limits import PrepareLimits  # noqa: PLC0415
    from sandbox.images.cache import Cache  # noqa: PLC0415
    from sandbox.images.collect import collect, default_limits, make_room  # noqa: PLC0415
    from sandbox.images.pull import pull  # noqa: PLC0415
    from sandbox.images.source import open_source  # noqa: PLC0415
    from sandbox.scanners.scan import scan_image  # noqa: PLC0415

    show = _progress if sys.stderr.isatty() else lambda _: None
    cache = Cache(base / "cache")
    async with open_source(image, credentials=credentials, insecure=plain_http) as (source, reference):
        with cache.used() as use:
            limits = default_limits(cache)
            show("pull")
            pulled = await pull(
                source,
                reference,
                platform=platform,
                use=use,
                limits=PrepareLimits(),
                on_size=partial(make_room, cache, limits),
            )
            scan = await scan_image(
                pulled,
                use,
                scanner,
                digest=str(pulled.digest),
                platform=str(pulled.platform),
                on_layer=lambda number, of: show(f"scan: layer {number} of {of}"),
            )
        collect(cache, limits)
    return scan


def _progress(step: str) -> None:
    typer.echo(f"  … {step}", err=True)


def _code(known: Report, fail_on: Threshold | None) -> int:
    if fail_on is None:
        return 0
    # What has no severity is never taken for harmless.
    counted = (*SEVERITIES[SEVERITIES.index(fail_on) :], "unknown")
    found = [*(one.severity for one in known.scan.found), *(one.severity for one in known.matches)]
    if any(severity in counted for severity in found):
        return 1
    return 0 if known.scan.is_complete() and not known.not_looked_up else 2


def _document(image: str, known: Report) -> dict[str, object]:
    return {
        "image": image,
        **known.scan.model_dump(mode="json", exclude={"lease"}),
        "complete": known.scan.is_complete(),
        "advisories": None
        if known.advisories is None
        else {"generation": known.advisories.generation, "not_looked_up": dict(known.not_looked_up)},
        "vulnerabilities": [
            {
                **{name: value for name, value in asdict(one).items() if name != "published_at"},
                "published_at": None if one.published_at is None else one.published_at.isoformat(),
            }
            for one in known.matches
        ],
    }


def _print(known: Report) -> None:
    scan = known.scan
    system = f"{scan.system.name or scan.system.id}; " if scan.system else ""
    kinds = [one.kind for one in scan.packages]
    of_kinds = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    typer.echo(f"{scan.digest} {scan.platform}")
    typer.echo(printable(f"{system}{len(scan.layers)} layers; {len(kinds)} packages ({of_kinds or 'none'})"))
    if known.advisories is None:
        typer.echo(NO_ADVISORIES)
    else:
        _print_matches(scan, known.matches)
    for ecosystem, count in known.not_looked_up.items():
        of = f"of {ecosystem}" if ecosystem else "whose system advisories have no name for"
        typer.echo(
            printable(f"not looked up: {count} packages {of}, about which these advisories say nothing")
        )
    if scan.found:
        typer.echo(f"\n{len(scan.found)} things found in its files and configuration:")
        for one in scan.found:
            line = "" if one.line is None else f":{one.line}"
            where = _where(one.layer, one.deleted_in_layer)
            said = f" [{one.evidence}]" if one.evidence else ""
            typer.echo(
                printable(f"  {one.severity:<8} {one.rule}  {one.where}{line}{where}: {one.title}{said}")
            )
    if not scan.is_complete():
        typer.echo("\nThis scan is not complete:")
        for gap in scan.incomplete[:_GAPS_SHOWN]:
            where = f" {gap.where}" if gap.where else ""
            typer.echo(printable(f"  {gap.scanner}{where}{_where(gap.layer, None)}: {gap.reason}"))
        if len(scan.incomplete) > _GAPS_SHOWN:
            typer.echo(f"  … and {len(scan.incomplete) - _GAPS_SHOWN} more (--json has all)")
        if scan.truncated:
            typer.echo("  there was more than the document may hold")


def _print_matches(scan: Scan, matches: Sequence[Match]) -> None:
    from registry.contract.scan import WORST_FIRST  # noqa: PLC0415

    if not matches:
        typer.echo("no vulnerabilities that these advisories know")
        return
    typer.echo(f"\n{len(matches)} vulnerabilities:")
    for one in sorted(matches, key=lambda one: (WORST_FIRST.index(one.severity), one.id)):
        package = scan.packages[one.package_index]
        fixed = f"fixed in {one.fixed_version}" if one.fixed_version else "no fix known"
        if one.state == "unknown":
            fixed = "its version cannot be compared"
        exploited = ", exploited" if one.kev else ""
        where = _where(package.layer, None)
        line = f"  {one.severity:<8} {one.id}  {package.name} {package.version}{where}: {fixed}{exploited}"
        typer.echo(printable(line))


def _where(layer: int | None, deleted_in: int | None) -> str:
    if layer is None:
        return ""
    deleted = "" if deleted_in is None else f", deleted in layer {deleted_in}"
    return f" (layer {layer}{deleted})"
