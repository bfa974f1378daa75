"""``seatrial run``: try one image now, without a server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.contract.asked import asked_by
from registry.contract.capabilities import parse_allowed
from registry.contract.judge import Judgement, judge
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.secrets import require_value
from registry.contract.specfile import parse_run_spec
from registry.contract.use import how_it_ended, observation_lines, use_lines
from registry.errors import RequestInvalidError
from registry.oci.printable import printable
from sandbox.cli.beside import host_of, images_beside, sources_beside
from sandbox.cli.follow import Follower
from sandbox.cli.workshop import (
    OWN_CEILING,
    CapabilityOption,
    DowngradeOption,
    EgressOption,
    EgressRateOption,
    ImageArgument,
    JsonOption,
    PasswordFileOption,
    PlainHttpOption,
    PlatformOption,
    RuntimeOption,
    UsernameOption,
    chosen_platform,
    configure_logs,
    free_workplace,
    let_others_pass,
    network_policy,
    read_credentials,
    read_small_file,
)
from sandbox.cli.writes import WritesKeeper
from sandbox.masking import Masker
from sandbox.network.permits import DEFAULT_BITS_PER_SECOND

if TYPE_CHECKING:
    from registry.contract.report import Report, Run
    from registry.contract.runspec import RunSpec
    from sandbox.attempt import Progress, Task, Workplace

EXIT_CODES = {"pass": 0, "warn": 0, "fail": 1, "error": 2}
LOG_LINES = 20


def command(
    *,
    image: ImageArgument,
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="FILE", help="Run spec (YAML or JSON).")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="NAME=FILE",
            help="The value of a secret that the run spec names: all of the file but a last newline.",
        ),
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service",
            metavar="NAME=IMAGE",
            help="The image of a service that the run spec names. [default: the one of that name in the "
            "registry that IMAGE is of]",
        ),
    ] = None,
    runtime: RuntimeOption = "auto",
    allow_downgrade: DowngradeOption = None,
    allow_egress: EgressOption = None,
    egress_bits_per_second: EgressRateOption = DEFAULT_BITS_PER_SECOND,
    allow_capability: CapabilityOption = None,
    platform: PlatformOption = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            help="Folder for layers and runs that others may pass through. [default: one of its own]",
        ),
    ] = None,
    username: UsernameOption = None,
    password_file: PasswordFileOption = None,
    plain_http: PlainHttpOption = False,
    list_writes: Annotated[
        bool,
        typer.Option(
            "--list-writes", help="Say what the run added, changed and deleted in the image's own files."
        ),
    ] = False,
    keep_writes: Annotated[
        Path | None,
        typer.Option(
            "--keep-writes",
            metavar="FILE",
            help="Keep what the run wrote as a layer: a tar with a whiteout for each deletion. A hostile "
            "image wrote it: unpack it as nobody, into an empty folder.",
        ),
    ] = None,
    follow: Annotated[
        bool | None,
        typer.Option(
            "--follow/--no-follow",
            help="Show the output on standard error as it comes.",
            show_default="on a terminal, without --json",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try one image now: pull, unpack, run it isolated, and say what it did.

    Exit code 0 for pass or warn, 1 for fail, 2 for error, 64 for wrong usage.
    """
    from sandbox.rootless import enter_user_namespace  # noqa: PLC0415

    enter_user_namespace()
    run_spec = None if spec is None else parse_run_spec(read_small_file(spec, "the run spec"))
    if run_spec is not None and run_spec.is_scan_alone:
        raise RequestInvalidError(f"the run spec asks for the scan alone: seatrial scan {image}")
    beside = images_beside(image, run_spec, service or ())
    asked = asked_by(None if run_spec is None else run_spec.canonical())
    several = len(asked) > 1 or asked[0].attempts > 1
    if keep_writes is not None and several:
        raise RequestInvalidError("--keep-writes is for one run, and the run spec has several")
    secrets = _secrets(secret or (), run_spec)
    if secrets and keep_writes is not None:
        raise RequestInvalidError("--keep-writes keeps files as they are, and the run spec names secrets")
    credentials = read_credentials(username, password_file)
    let_others_pass()
    configure_logs("text", quiet=True)
    from sandbox.attempt import Task  # noqa: PLC0415

    if follow is None:
        follow = not as_json and sys.stdout.isatty() and sys.stderr.isatty()
    follower = Follower() if follow else None
    task = Task(
        reference="",
        platform=chosen_platform(platform),
        spec=run_spec,
        image_spec_allowed=True,
        limits=Limits(),
        ceiling=OWN_CEILING,
        prepare=PrepareLimits(),
        on_output=follower.take if follower else None,
        secrets=secrets,
    )
    opened = free_workplace(
        state,
        runtime=runtime,
        allowed_downgrades=frozenset(allow_downgrade or ()),
        network=network_policy(allow_egress, egress_bits_per_second),
        allowed_capabilities=parse_allowed(allow_capability or ()),
    )
    keeper = None
    with ExitStack() as stack:
        workplace = stack.enter_context(opened)
        if list_writes or keep_writes is not None:
            keeper = WritesKeeper(keep_writes, Masker(secrets.values()))
            keeper.open()
            stack.callback(keeper.close)
        trying = _try(image, beside, task, workplace, keeper, credentials=credentials, plain_http=plain_http)
        report = asyncio.run(trying)
    if follower is not None:
        follower.end()
    judgement = judge(report, asked=asked)
    if as_json:
        typer.echo(json.dumps(_document(image, report, judgement, keeper, several=several), indent=2))
    else:
        _print(report, judgement, log=follower is None)
        if keeper is not None:
            names = [f"{_named(run)} " for run in report.runs] if several else [""]
            for number, name in enumerate(names):
                keeper.say(number, name)
    if keeper is not None:
        keeper.complain()
    raise typer.Exit(EXIT_CODES[judgement.verdict])


def _secrets(given: Sequence[str], spec: RunSpec | None) -> Mapping[str, str]:
    """The secrets that ``spec`` names, read from their files."""
    files = dict(one.split("=", 1) for one in given if "=" in one)
    named = frozenset() if spec is None else spec.secrets()
    if len(files) < len(given):
        raise RequestInvalidError("--secret is NAME=FILE, each name once")
    if more := sorted(files.keys() - named):
        raise RequestInvalidError(f"--secret {more[0]}: the run spec names no such secret")
    if missing := sorted(named - files.keys()):
        raise RequestInvalidError(
            f"the run spec names the secret {missing[0]}: give it with --secret {missing[0]}=FILE"
        )
    values = {}
    for name, file in files.items():
        values[name] = read_small_file(Path(file), f"the secret {name}").removesuffix("\n").removesuffix("\r")
        require_value(name, values[name])
    return values


async def _try(
    image: str,
    beside: Mapping[str, str],
    task: Task,
    workplace: Workplace,
    keeper: WritesKeeper | None,
    *,
    credentials: tuple[str, str] | None,
    plain_http: bool,
) -> Report:
    from dataclasses import replace  # noqa: PLC0415

    from sandbox.attempt import try_image  # noqa: PLC0415
    from sandbox.images.source import open_source  # noqa: PLC0415

    async with (
        open_source(image, credentials=credentials, insecure=plain_http) as (source, reference),
        sources_beside(
            beside, host=host_of(image), credentials=credentials, plain_http=plain_http
        ) as services,
    ):
        named = replace(task, reference=reference, services=services)
        look = None if keeper is None else keeper.look
        return await try_image(source, named, workplace=workplace, progress=_progress(), look_at_writes=look)


def _progress() -> Progress:
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda step: typer.echo(f"  … {step}", err=True)


def _document(
    image: str, report: Report, judgement: Judgement, keeper: WritesKeeper | None, *, several: bool
) -> dict[str, object]:
    runs = [run.model_dump(mode="json") for run in report.runs]
    if keeper is not None and several:
        runs = [run | {"writes": keeper.document(number)} for number, run in enumerate(runs)]
    known = report.model_dump(mode="json", exclude={"protocol", "lease", "runs"})
    return {
        "image": image,
        "digest": known.pop("digest"),
        "state": "done",
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "flaky": judgement.flaky > 0,
        "flaky_attempts": judgement.flaky,
        **known,
        "runs": runs,
        **({"writes": keeper.document(0)} if keeper is not None and not several else {}),
    }


def _named(run: Run) -> str:
    return run.name if run.attempt is None else f"{run.name}, attempt {run.attempt}"


def _print(report: Report, judgement: Judgement, *, log: bool) -> None:
    typer.echo(f"{judgement.verdict}: {printable(judgement.reason)}")
    for run in report.runs:
        document = run.model_dump()
        ended = how_it_ended(document)
        typer.echo(f"{_named(run)}: {ended} after {run.seconds:.1f} s, with {report.runtime}")
        for line in use_lines(document):
            typer.echo(f"  {line}")
        # Of one run the reason says it all.
        for line in observation_lines(document) if len(report.runs) > 1 else ():
            typer.echo(f"  {printable(line)}")
        for line in run.log.splitlines()[-LOG_LINES:] if log else ():
            typer.echo(f"  | {printable(line)}")
