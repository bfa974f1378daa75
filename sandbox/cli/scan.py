"""``seatrial scan``: say what an image holds, without a server."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from registry.errors import NotFoundError, RequestInvalidError, UnavailableError
from registry.formats.names import Format
from sandbox.cli.beside import host_of
from sandbox.cli.otherscanners import Beside, Others, look_beside, named_scanners
from sandbox.cli.workshop import (
    DowngradeOption,
    ImageArgument,
    JsonOption,
    PasswordFileOption,
    PlainHttpOption,
    PlatformOption,
    RulesOption,
    RuntimeOption,
    UsernameOption,
    chosen_platform,
    configure_logs,
    free_workplace,
    let_others_pass,
    own_folder,
    read_credentials,
    scanner_with,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.advisories.report import Report
    from registry.contract.scan import Scan
    from registry.oci.platform import Platform
    from sandbox.scanners.layers import Scanner

Threshold = Literal["info", "low", "medium", "high", "critical"]
OLD = timedelta(days=7)
"""Older advisories are no longer new: the alert of a registry has the same."""
SEVERITIES: tuple[Threshold, ...] = get_args(Threshold)
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", help="Write it to this file, not to the terminal."),
]
AdvisoriesOption = Annotated[
    Path | None,
    typer.Option("--advisories", metavar="FILE", help="File of advisories, to look up vulnerabilities in."),
]
VexOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--vex",
        metavar="FILE",
        help="Statements of OpenVEX or CycloneDX about vulnerabilities that need not be mended; may be given "
        "several times.",
    ),
]
WithOption = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="[NAME=]IMAGE",
        help="Have this image look as well, in a container without a network: one with the label "
        "io.seatrial.scanner. What it finds is told under NAME. May be given several times.",
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="Folder whose cache holds layers, and what was found in them. [default: that of run]",
    ),
]


def command(
    *,
    image: ImageArgument,
    form: Annotated[Format, typer.Option("--format", help="How to print what was found.")] = "table",
    output: OutputOption = None,
    fail_on: Annotated[
        Threshold | None,
        typer.Option(
            "--fail-on",
            metavar="|".join(SEVERITIES),
            help="Exit with 1 where something of this severity or above was found. What has an unknown one "
            "counts.",
        ),
    ] = None,
    advisories: AdvisoriesOption = None,
    vex: VexOption = None,
    rules: RulesOption = None,
    others: WithOption = None,
    runtime: RuntimeOption = "auto",
    allow_downgrade: DowngradeOption = None,
    platform: PlatformOption = None,
    state: StateOption = None,
    username: UsernameOption = None,
    password_file: PasswordFileOption = None,
    plain_http: PlainHttpOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what an image holds: packages, secrets, malware, misconfiguration, vulnerabilities.

    Nothing of the image is run, and but for --with nothing is unpacked and no container runtime is needed.
    Exit code 0; with --fail-on 1 where something of that severity or above was found, and 2 where nothing was
    but not all of the image could be looked at; 2 for an error, 64 for wrong usage. 'seatrial scan diff A B'
    compares two images.
    """
    from registry.formats.forms import FORMS  # noqa: PLC0415
    from registry.formats.putting import put_out, require_place  # noqa: PLC0415

    if as_json and form not in ("table", "json"):
        raise RequestInvalidError("give --json or --format, not both")
    require_place(output)
    (known,) = reports_of(
        (image,),
        advisories=advisories,
        vex=vex or (),
        rules=rules,
        platform=platform,
        state=state,
        credentials=read_credentials(username, password_file),
        plain_http=plain_http,
        others=Others(named_scanners(others or ()), runtime, frozenset(allow_downgrade or ())),
    )
    put_out(FORMS["json" if as_json else form].write(known, image), output)
    say_age(known)
    code = _code(known, fail_on)
    raise typer.Exit(2 if code == 0 and is_unread(known, advisories) else code)


def is_unread(known: Report, advisories: Path | None) -> bool:
    """Whether vulnerabilities were to be looked up, and could not be."""
    return advisories is not None and known.advisories is None


def say_age(known: Report) -> None:
    """Tell how old advisories are that are no longer new."""
    from registry.formats.shown import age_in_days  # noqa: PLC0415

    oldest = None if known.advisories is None else known.advisories.oldest
    if oldest is not None and known.scanned_at - oldest.as_of > OLD:
        age = age_in_days(oldest.as_of, known.scanned_at)
        typer.echo(f"the oldest of these advisories ({oldest.name}) are {age}", err=True)


def reports_of(
    images: Sequence[str],
    *,
    advisories: Path | None,
    vex: Sequence[Path],
    rules: Path | None,
    platform: str | None,
    state: Path | None,
    credentials: tuple[str, str] | None,
    plain_http: bool,
    others: Others | None = None,
) -> list[Report]:
    """The reports of images that are scanned now, one after the other. Where advisories cannot be read, they
    say so, and that is no reason to lose a scan."""
    from registry.formats.excusing import excuse  # noqa: PLC0415
    from registry.formats.reading import read_bytes  # noqa: PLC0415
    from registry.formats.vex import MAX_BYTES, read_vex  # noqa: PLC0415
    from sandbox.rootless import enter_user_namespace  # noqa: PLC0415

    enter_user_namespace()
    configure_logs("text", quiet=True)
    statements = [read_vex(read_bytes(one, limit_bytes=MAX_BYTES), what=str(one)) for one in vex]
    scanner = scanner_with(rules)
    base = Path(os.path.abspath(state or own_folder()))
    base.mkdir(mode=0o711, parents=True, exist_ok=True)
    chosen = chosen_platform(platform)
    found = []
    with ExitStack() as stack:
        beside = None
        if others is not None and others.images:
            let_others_pass()
            opening = free_workplace(
                base, runtime=others.runtime, allowed_downgrades=others.allowed_downgrades
            )
            beside = Beside(others.images, stack.enter_context(opening))
        for image in images:
            scan = asyncio.run(
                _scan(
                    image,
                    base,
                    chosen,
                    credentials=credentials,
                    plain_http=plain_http,
                    scanner=scanner,
                    beside=beside,
                )
            )
            found.append(excuse(_looked_up(scan, advisories), statements, image))
    return found


def _looked_up(scan: Scan, advisories: Path | None) -> Report:
    from contextlib import closing  # noqa: PLC0415

    from registry.advisories.file import open_advisories  # noqa: PLC0415
    from registry.advisories.report import report  # noqa: PLC0415

    now = datetime.now(UTC)
    if advisories is None:
        return report(scan, None, scanned_at=now)
    try:
        with closing(open_advisories(advisories)) as opened:
            return report(scan, opened, scanned_at=now)
    except (NotFoundError, UnavailableError) as error:
        typer.echo(f"error: {error.message}", err=True)
        return replace(report(scan, None, scanned_at=now), notes=(error.message,))


async def _scan(
    image: str,
    base: Path,
    platform: Platform,
    *,
    credentials: tuple[str, str] | None,
    plain_http: bool,
    scanner: Scanner,
    beside: Beside | None,
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
            if beside is not None:
                scan = await look_beside(
                    scan,
                    pulled,
                    use,
                    beside,
                    host=host_of(image),
                    credentials=credentials,
                    plain_http=plain_http,
                    show=show,
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
    excuses = known.excuses()
    counting = [one for one in known.matches if (one.id, one.package_index) not in excuses]
    found = [*(one.severity for one in known.scan.found), *(one.severity for one in counting)]
    if any(severity in counted for severity in found):
        return 1
    return 0 if known.scan.is_complete() and not known.not_looked_up else 2
