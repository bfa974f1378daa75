"""``seatrial doctor``: what this host can isolate, what is missing, and what to do about it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
_MARKS = {
    ("required", True): "ok",
    ("downgrade", True): "ok",
    ("stated", True): "ok",
    ("required", False): "MISSING",
    ("downgrade", False): "missing",
    ("stated", False): "not here",
}


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
    as_json: JsonOption = False,
) -> None:
    """Say line by line what this host can isolate, and prove it by running a tiny image of its own.

    Exit code 0: everything; 1: something must be allowed as a downgrade, by name; 2: nothing can be run.
    With --server URL it looks at a registry instead, as its clients do: doctor --server URL --help.
    """
    from sandbox.host import HostReport, inspect_host  # noqa: PLC0415
    from sandbox.rootless import enter_user_namespace  # noqa: PLC0415

    outside: str | None = None
    try:
        enter_user_namespace()
    except SandboxError as error:
        outside = error.message
    configure_logs("text", quiet=True)
    with tempfile.TemporaryDirectory(prefix="seatrial-doctor-") as folder:
        report = inspect_host(Path(folder) / "runtime", runtime=runtime, outside=outside)
    if report.exit_code < 2:
        report = HostReport((*report.mechanisms, _self_test(runtime, state)))
    if as_json:
        document = {
            "exit_code": report.exit_code,
            "summary": SUMMARIES[report.exit_code],
            "mechanisms": [asdict(one) for one in report.mechanisms],
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        _print(report)
    raise typer.Exit(report.exit_code)


def _self_test(runtime: str, folder: Path | None) -> HostMechanism:
    from registry.contract.judge import judge  # noqa: PLC0415
    from sandbox.hostlines import HostMechanism  # noqa: PLC0415
    from sandbox.runtimes.base import DOWNGRADES  # noqa: PLC0415
    from sandbox.selftest import can_test, try_own_image  # noqa: PLC0415

    if not can_test():
        return HostMechanism(
            "self-test",
            available=False,
            need="stated",
            detail="not run: there is no program for this architecture",
        )
    try:
        tried = try_own_image(runtime=runtime, allowed_downgrades=frozenset(DOWNGRADES), folder=folder)
        judgement = judge(tried)
        passed, detail = judgement.verdict in ("pass", "warn"), judgement.reason
    except SandboxError as error:
        passed, detail = False, error.message
    return HostMechanism(
        "self-test",
        available=passed,
        need="required",
        detail="an image of our own was unpacked, run and removed" if passed else detail,
        without="an image could not be tried here",
    )


def _print(report: HostReport) -> None:
    for one in report.mechanisms:
        typer.echo(f"{_MARKS[one.need, one.available]:>8}  {one.name}: {one.detail}")
        if not one.available:
            if one.without:
                typer.echo(f"{'':10}without it: {one.without}")
            if one.fix:
                typer.echo(f"{'':10}to have it: {one.fix}")
    typer.echo("")
    typer.echo(SUMMARIES[report.exit_code])
