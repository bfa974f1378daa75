"""``seatrial spec``: run specs checked, begun and explained, without a server."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.contract.checks import MEANING
from registry.contract.examples import EXAMPLES
from registry.contract.limits import Limits
from registry.contract.plan import in_words, make_plans
from registry.contract.specfile import MAX_BYTES, SpecInvalidError, parse_run_spec
from registry.contract.starting import starting_spec
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import ImageConfig
from registry.oci.platform import Platform
from registry.oci.printable import printable
from sandbox.cli.workshop import (
    JsonOption,
    PasswordFileOption,
    PlainHttpOption,
    PlatformOption,
    UsernameOption,
    chosen_platform,
    read_credentials,
    read_small_file,
)

if TYPE_CHECKING:
    from registry.contract.plan import Plan
    from registry.contract.runspec import RunSpec

app = typer.Typer(no_args_is_help=True, help="Run specs: check, begin and explain them.")
EXIT_INVALID = 1
SpecArgument = Annotated[
    str, typer.Argument(metavar="FILE|-", help="A run spec (YAML or JSON); - reads standard input.")
]
_OWN_COMMAND = "(the image's own command)"
_SUGGESTED = (
    "what the image suggests: its HEALTHCHECK, else that one of its TCP ports accepts, else that it exits 0 "
    "or stays up"
)


@app.command("check")
def check(*, file: SpecArgument, as_json: JsonOption = False) -> None:
    """Say whether a run spec is one, and what is wrong with it and where.

    Exit code 0 for a valid one, 1 for one that is not, 64 for wrong usage.
    """
    text = _read(file)
    try:
        spec = parse_run_spec(text)
    except SpecInvalidError as error:
        if as_json:
            problems = [
                {"path": one.path, "message": one.message, "line": one.line, "column": one.column}
                for one in error.problems
            ]
            typer.echo(json.dumps({"valid": False, "digest": None, "problems": problems}, indent=2))
        else:
            for one in error.problems:
                place = f"{file}:{one.line}:{one.column}: {one.path}: {one.message}"
                typer.echo(printable(place), err=True)
        raise typer.Exit(EXIT_INVALID) from None
    if as_json:
        typer.echo(json.dumps({"valid": True, "digest": str(spec.digest), "problems": []}, indent=2))
    else:
        cases = len(spec.by_case())
        said = f"{cases} {'case' if cases == 1 else 'cases'}" if cases else "the scan alone"
        typer.echo(f"valid: {said}, {spec.digest}")


@app.command("init")
def init(
    *,
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGE",
            help="HOST/NAME:TAG, HOST/NAME@DIGEST, oci:FOLDER[:TAG], or a tar or zip of a layout.",
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option("--example", metavar="NAME", help=f"Instead of an image: {', '.join(EXAMPLES)}."),
    ] = None,
    platform: PlatformOption = None,
    username: UsernameOption = None,
    password_file: PasswordFileOption = None,
    plain_http: PlainHttpOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print a run spec to begin with: made from what an image says of itself, or an example.

    Exit code 0, 2 where the image cannot be read, 64 for wrong usage.
    """
    if (image is None) == (example is None):
        raise RequestInvalidError("give either an image or --example NAME")
    if example is not None:
        if example not in EXAMPLES:
            raise RequestInvalidError(
                f"there is no example {example[:80]!r}; there are {', '.join(EXAMPLES)}"
            )
        text = EXAMPLES[example].spec
    else:
        assert image is not None
        text = starting_spec(image, _config(image, platform, username, password_file, plain_http=plain_http))
    if as_json:
        typer.echo(json.dumps({"image": image, "example": example, "spec": text}, indent=2))
    else:
        typer.echo(text, nl=False)


@app.command("explain")
def explain(
    *,
    file: SpecArgument,
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Also say what it comes to for this image.")
    ] = None,
    platform: PlatformOption = None,
    username: UsernameOption = None,
    password_file: PasswordFileOption = None,
    plain_http: PlainHttpOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a run spec comes to: each case, and what its checks by name stand for.

    Exit code 0, 1 for a spec that is none, 2 where the image cannot be read, 64 for wrong usage.
    """
    try:
        spec = parse_run_spec(_read(file))
    except SpecInvalidError as error:
        typer.echo(printable(error.message), err=True)
        raise typer.Exit(EXIT_INVALID) from None
    config = ImageConfig(Platform("linux", "amd64"), (), cmd=(_OWN_COMMAND,))
    if image is not None:
        config = _config(image, platform, username, password_file, plain_http=plain_http)
    # A registry's ceiling may be lower; what a run has beyond it is taken away there.
    plans = make_plans(
        config,
        spec,
        limits=Limits(),
        ceiling=_no_ceiling(),
        image_spec_allowed=True,
        secrets=dict.fromkeys(spec.secrets(), ""),
    )
    cases = [_explained(plan, spec, has_image=image is not None) for plan in plans]
    if as_json:
        typer.echo(json.dumps({"digest": str(spec.digest), "image": image, "cases": cases}, indent=2))
        return
    if spec.is_scan_alone:
        typer.echo("the scan alone: the image is scanned by a worker that scans, and nothing of it is run")
    for case in cases:
        typer.echo(printable(f"{case['case'] or 'the one run'}: {case['tested']}"))
        if case["meaning"]:
            typer.echo(f"  check: {case['meaning']}")
        for name in (
            "command",
            "user",
            "profile",
            "secrets",
            "read_only",
            "writable",
            "stub",
            "services",
            "attempts",
            "pass",
        ):
            value = case[name]
            shown = value if isinstance(value, str) else json.dumps(value)
            if value not in (None, [], "", False):
                typer.echo(printable(f"  {name}: {shown}"))
        typer.echo(f"  limits: {json.dumps(case['limits'])}")


def _explained(plan: Plan, spec: RunSpec, *, has_image: bool) -> dict[str, object]:
    one = spec.by_case()[plan.asked.case]
    suggested = not has_image and not one.expect.tells() and one.expect.stop is None
    several = plan.asked.attempts > 1
    return {
        "case": plan.asked.case or None,
        "meaning": MEANING.get(plan.asked.case) if plan.asked.case in spec.checks else None,
        "tested": _suggested(plan) if suggested else plan.tested,
        "command": list(plan.command),
        "user": "random" if plan.random_user else plan.user or None,
        "profile": plan.profile,
        "secrets": sorted(one.secrets()),
        "read_only": plan.read_only,
        "writable": list(plan.writable),
        "init": plan.init,
        "stub": [json.loads(one.model_dump_json(exclude_none=True)) for one in plan.stubs],
        "services": [
            f"{service.name} from {service.image}, {service.ready.in_words()}"
            for service in spec.services or ()
        ],
        "network": None if plan.network is None else plan.network.model_dump(mode="json"),
        "limits": plan.limits.model_dump(mode="json"),
        "attempts": plan.asked.attempts,
        "pass": ("any" if plan.asked.any_is_enough else "all") if several else None,
        "expect": json.loads(one.expect.model_dump_json(exclude_defaults=True)),
    }


def _suggested(plan: Plan) -> str:
    """What is tested where nobody knows the image: the place of what it would suggest is left open."""
    return "; ".join([_SUGGESTED, *in_words(replace(plan, exit_zero_or_alive=False))])


def _read(file: str) -> str:
    if file != "-":
        return read_small_file(Path(file), "the run spec", limit_bytes=MAX_BYTES)
    raw = sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestInvalidError("the run spec is not UTF-8 text") from None


def _no_ceiling() -> Limits:
    most = 2**40
    return Limits(
        memory_bytes=most,
        cpus=1024,
        pids=65536,
        written_bytes=most,
        wall_seconds=most,
        alive_seconds=most,
        log_bytes=most,
    )


def _config(
    image: str, platform: str | None, username: str | None, password_file: Path | None, *, plain_http: bool
) -> ImageConfig:
    credentials = read_credentials(username, password_file)
    chosen = chosen_platform(platform)
    return asyncio.run(_read_config(image, chosen, credentials, plain_http=plain_http))


async def _read_config(
    image: str, platform: Platform, credentials: tuple[str, str] | None, *, plain_http: bool
) -> ImageConfig:
    from sandbox.images.cache import Cache  # noqa: PLC0415
    from sandbox.images.pull import read_config  # noqa: PLC0415
    from sandbox.images.source import open_source  # noqa: PLC0415

    opened = open_source(image, credentials=credentials, insecure=plain_http)
    with (
        tempfile.TemporaryDirectory(prefix="seatrial-spec-") as folder,
        Cache(Path(folder) / "cache").used() as use,
    ):
        async with opened as (source, reference):
            return await read_config(source, reference, platform=platform, use=use)
