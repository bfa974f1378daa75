"""``seatrial doctor``: what this host can isolate, what is missing, and what to do about it."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import textwrap
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.errors import RequestInvalidError
from sandbox.cli.mending import FAILED, mend
from sandbox.cli.workshop import JsonOption, RuntimeOption, configure_logs
from sandbox.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.host import HostReport
    from sandbox.hostlines import HostMechanism

SUMMARIES = (
    "Everything that a run is promised is here.",
    "Runs are possible without what is 'missing', if allowed by --allow-downgrade NAME; verdicts say so.",
    "Nothing can be run here: the registry serves, but trying images needs what is 'MISSING' above.",
)
_NAME_WIDTH = 22
_MARK_WIDTH = 8
_SHOWN_CHARACTERS = 400


def command(
    *,
    runtime: RuntimeOption = "auto",
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="The worker's folder, to test there: not every file system can. [default: a temporary one]",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not run the image that proves what holds.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="First do what can be done here, as root. Says it, and asks.")
    ] = False,
    for_user: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="USER", help="With --fix: also what a worker of this plain user needs."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --fix: do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --fix: only say what would be done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say line by line what this host can isolate, and prove it by running a small image of its own.

    Exit code 0: everything; 1: something must be allowed as a downgrade, by name; 2: nothing can be run;
    3: something that --fix was to do could not be done.
    'proven': it held in that run. 'ok': it is here, and no run would show it. 'not here': it is used where a
    host has it. 'FAILED': it should be here, but did not hold.
    With --server URL it looks at a registry instead, as its clients do: doctor --server URL --help.
    """
    from sandbox.rootless import enter_user_namespace  # noqa: PLC0415

    if not fix and (for_user is not None or yes or dry_run):
        raise RequestInvalidError("--for, --yes and --dry-run go with --fix")
    fixes = mend(for_user, agreed=yes, dry_run=dry_run, as_json=as_json) if fix else None
    outside: str | None = None
    try:
        enter_user_namespace()
    except SandboxError as error:
        outside = error.message
    configure_logs("text", quiet=True)
    # Only now: a plain user's process has started anew.
    from sandbox.host import describe_host, inspect_host  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="seatrial-doctor-") as folder:
        report = inspect_host(Path(folder) / "runtime", runtime=runtime, outside=outside)
    if report.exit_code < 2 and not quick:
        report = _self_tested(report, state)
    failed = any(one["state"] == "failed" for one in fixes or ())
    code = FAILED if failed else report.exit_code
    if as_json:
        document: dict[str, Any] = {
            "exit_code": code,
            "summary": SUMMARIES[report.exit_code],
            "host": asdict(describe_host()),
            "mechanisms": [asdict(one) for one in report.mechanisms],
        }
        if fixes is not None:
            document["fixes"] = fixes
        typer.echo(json.dumps(document, indent=2))
    else:
        _print(report)
    raise typer.Exit(code)


def _self_tested(report: HostReport, folder: Path | None) -> HostReport:
    from sandbox.hostlines import HostMechanism  # noqa: PLC0415
    from sandbox.proofs import proofs, why_failed  # noqa: PLC0415
    from sandbox.runtimes.base import DOWNGRADES  # noqa: PLC0415
    from sandbox.selftest import can_test, try_own_image  # noqa: PLC0415

    if not can_test():
        line = HostMechanism(
            "self-test",
            available=False,
            need="stated",
            detail="not run: there is no program for this architecture",
        )
        return replace(report, mechanisms=(*report.mechanisms, line))
    try:
        # The same one by its name: it has been looked at.
        tried = try_own_image(runtime=report.runtime, allowed_downgrades=frozenset(DOWNGRADES), folder=folder)
        failed, found = why_failed(tried), proofs(tried)
    except SandboxError as error:
        failed, found = error.message, {}
    shown = sum(one.proven for one in found.values())
    line = HostMechanism(
        "self-test",
        available=failed is None,
        need="required",
        detail=failed or f"an image of our own was unpacked, run and removed; it proved {shown} mechanisms",
        without="an image could not be tried here",
        proven=failed is None,
    )
    return replace(report, mechanisms=(*report.proven(found).mechanisms, line))


def _mark(one: HostMechanism) -> str:
    if one.available:
        return {True: "proven", False: "FAILED", None: "ok"}[one.proven]
    return {"required": "MISSING", "downgrade": "missing", "stated": "not here"}[one.need]


def _print(report: HostReport) -> None:
    for one in report.mechanisms:
        said = one.seen if one.seen and len(one.seen) <= _SHOWN_CHARACTERS else one.detail
        _print_line(f"{_mark(one):>{_MARK_WIDTH}}  {one.name:{_NAME_WIDTH}}  {said}")
        if not one.holds and one.without:
            _print_line(f"{'':{_MARK_WIDTH + 2}}{'without it:':>{_NAME_WIDTH}}  {one.without}")
        if one.fix:
            word = "better:" if one.holds else "to have it:"
            _print_line(f"{'':{_MARK_WIDTH + 2}}{word:>{_NAME_WIDTH}}  {one.fix}")
    typer.echo("")
    typer.echo(SUMMARIES[report.exit_code])


def _print_line(text: str) -> None:
    """On a terminal, broken into lines below the text; else in one line, for grep."""
    if not sys.stdout.isatty():
        typer.echo(text)
        return
    width = min(max(shutil.get_terminal_size().columns, 60), 120)
    indent = " " * (_MARK_WIDTH + _NAME_WIDTH + 4)
    typer.echo("\n".join(textwrap.wrap(text, width, subsequent_indent=indent, drop_whitespace=True)))
