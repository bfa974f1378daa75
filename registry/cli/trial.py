"""``seatrial trial``: what was tried, and what came of it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from registry.cli import livelog
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import (
    Client,
    ImageArgument,
    JsonOption,
    ServerOption,
    TokenOption,
    connect,
    part,
    read_text,
)
from registry.cli.durations import parse_past
from registry.cli.output import cell, print_fields, print_json, print_list
from registry.cli.pasttrials import COLUMNS, past_row, past_trials
from registry.contract.use import how_it_ended, observation_lines, shown_seconds, use_lines
from registry.errors import RequestInvalidError
from registry.oci.names import split_repository_reference
from registry.oci.printable import PrintableLines

app = typer.Typer(no_args_is_help=True, help="Trials: list, show, wait for and start them.")
EXIT_CODES = {"pass": 0, "warn": 0, "fail": 1, "error": 2}
EXIT_NOT_YET = 3
POLL_SECONDS = 50.0
PAUSE_SECONDS = 0.5
LOG_LINES = 20
FINDINGS_SHOWN = 20
_LIST_MAX = 50
_QUEUED = ("trial", "repository", "digest", "platform", "state", "worker", "asked_by", "created_at", "why")
_TRIAL_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Format = Literal["text", "json", "junit", "markdown", "sarif"]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="S", min=0, help="Seconds to wait at most.")
]


@app.command("list")
def list_trials(
    *,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME[:TAG|@DIGEST]]", help="The history of this repository or image."),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="NAME[:TAG]", help="Only those of this image, with their runs."),
    ] = None,
    verdict: Annotated[
        str | None, typer.Option("--verdict", metavar="V", help="Only pass, warn, fail or error.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="7d|TIME", help="Begun since then: so long ago, or a day of UTC."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many at most.")] = 50,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """List trials, newest first: of all that you may pull from, or the history of a repository or an image,
    with what changed from one to the next."""
    if name is not None and image is not None:
        raise RequestInvalidError("give a NAME for its history, or --image, not both")
    client = connect(server, token_file)
    asked = {"verdict": verdict, "since": None if since is None else parse_past(since)}
    if name is not None:
        past = past_trials(client, name, asked, limit=limit)
        print_list(past if as_json else [past_row(one) for one in past], COLUMNS, as_json=as_json)
        return
    found = client.get("/trials", {**asked, "image": image, "limit": min(limit, _LIST_MAX)})
    if not as_json:
        found = [{**one, "image": one.get("upstream") or one["image"]} for one in found]
    print_list(found, ("id", "image", "digest", "state", "verdict", "flaky", "reason"), as_json=as_json)


@app.command("show")
def show_trial(
    *,
    trial_id: Annotated[str, typer.Argument(metavar="ID", help="A trial.")],
    form: Annotated[
        Format, typer.Option("--format", help="For people, or for the programs that read such files.")
    ] = "text",
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Show one trial: its parts, its runs and the end of their logs."""
    if as_json and form not in ("text", "json"):
        raise RequestInvalidError("give --json or --format, not both")
    client = connect(server, token_file)
    if form not in ("text", "json"):
        typer.echo(client.text(f"/trials/{part(trial_id)}/export?format={form}"), nl=False)
        return
    trial = client.get(f"/trials/{part(trial_id)}")
    if as_json or form == "json":
        print_json(trial)
    else:
        _print_trial(trial)


@app.command("log")
def show_log(
    *,
    trial_id: Annotated[str, typer.Argument(metavar="ID", help="A trial.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="As it is written, until the verdict; exits as wait does.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Print what the image wrote; what cannot be printed as question marks."""
    client = connect(server, token_file)
    if follow:
        _follow(client, trial_id)
    log = client.text(f"/trials/{part(trial_id)}/log")
    lines = PrintableLines()
    for line in (*lines.take(log), *lines.end()):
        typer.echo(line)


def _follow(client: Client, trial_id: str) -> NoReturn:
    """Raises:
    typer.Exit: always, with the code of the verdict.
    """
    end = livelog.follow(client, trial_id)
    if end is None:
        typer.echo("the trial is not there any more, or its log no longer yours to see", err=True)
        raise typer.Exit(EXIT_NOT_YET)
    typer.echo(_standing(end["verdict"], end["reason"]), err=True)
    raise typer.Exit(EXIT_CODES.get(end["verdict"], EXIT_NOT_YET))


@app.command("wait")
def wait_for_trial(
    *,
    image: Annotated[
        str, typer.Argument(metavar="NAME@DIGEST|NAME:TAG|ID", help="An image of the registry, or a trial.")
    ],
    timeout: TimeoutOption = 300.0,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Wait for the verdict on an image, or of one trial by its id.

    Exit code 0 for pass or warn (or where there is nothing to try), 1 for fail, 2 for error, 3 for not yet.
    """
    client = connect(server, token_file)
    if _TRIAL_ID.fullmatch(image):
        _end_with(_wait_for(client, client.get(f"/trials/{part(image)}"), timeout), as_json=as_json)
    _, tag, digest = split_repository_reference(image)
    named = image if tag or digest else f"{image}:latest"
    trials = _wait(client, named, timeout)
    if not trials:
        standing = client.get("/gate", {"image": named})
        if as_json:
            print_json(standing)
        else:
            _print_standing(standing["state"], standing["reason"])
        raise typer.Exit(0 if standing["state"] == "not-applicable" else EXIT_NOT_YET)
    _end_with(trials[0], as_json=as_json)


@app.command("cancel")
def cancel_trial(
    *,
    trial_id: Annotated[str, typer.Argument(metavar="ID", help="A trial that waits, or is tried.")],
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """End a trial before its verdict. Nothing is known of the image then: it stands at error."""
    ended = connect(server, token_file).send("POST", f"/trials/{part(trial_id)}/cancel")
    if as_json:
        print_json(ended)
    else:
        print_fields(ended, ("id", "image", "digest", "state", "verdict", "reason"))


@app.command("queue")
def show_queue(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many at most.")] = 100,
    worker: Annotated[
        str | None, typer.Option("--worker", metavar="NAME", help="Only what this worker tries.")
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Show what is tried now, and what waits and why; for administrators."""
    found = connect(server, token_file).get("/queue", {"limit": str(limit), "worker": worker})
    if as_json:
        print_json(found)
        return
    print_list(found["items"], _QUEUED, as_json=False)
    typer.echo(f"{found['leased']} are tried, {found['queued']} wait")


@app.command("start")
def start_trial(
    *,
    image: ImageArgument,
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="FILE", help="Run spec (YAML or JSON).")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print the log as it is written, and exit as wait does.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the verdict of this very trial, as trial wait does.")
    ] = False,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            metavar="NAME",
            help="It is an image of this other registry. [default: found by the host in IMAGE]",
        ),
    ] = None,
    timeout: TimeoutOption = 300.0,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Try an image again, or under a run spec of its own; or an image of another registry."""
    if follow and as_json:
        raise RequestInvalidError("give --follow or --json, not both")
    body: dict[str, object] = {"image": image}
    if spec is not None:
        body["spec"] = read_text(spec, what="run spec")
    if upstream is not None:
        body["upstream"] = upstream
    client = connect(server, token_file)
    trial = client.send("POST", "/trials", body)
    if follow:
        typer.echo(f"trial {trial['id']}", err=True)
        _follow(client, trial["id"])
    if wait:
        _end_with(_wait_for(client, trial, timeout), as_json=as_json)
    if as_json:
        print_json(trial)
    else:
        named = image if trial.get("upstream") is None else trial["id"]
        typer.echo(f"trial {trial['id']} is {trial['state']}; wait for it: seatrial trial wait {named}")


def _end_with(trial: dict[str, Any], *, as_json: bool) -> NoReturn:
    """Show where a trial stands, and end with the exit code for that."""
    if as_json:
        print_json(trial)
    else:
        _print_standing(trial["verdict"] or trial["state"], trial["reason"])
    raise typer.Exit(EXIT_CODES.get(trial["verdict"], EXIT_NOT_YET))


def _wait_for(client: Client, trial: dict[str, Any], timeout: float) -> dict[str, Any]:
    """The trial once it has a verdict, or as it stands when time is up. A newer one of the same image may
    have come: this one is looked at by itself when the newest is done."""
    end = time.monotonic() + timeout
    while trial["verdict"] is None and (left := end - time.monotonic()) > 0:
        if trial.get("upstream") is None:
            # Nobody pulls what was copied from elsewhere, so that it cannot be waited for by its name.
            _wait(client, f"{trial['image']}@{trial['digest']}", min(left, POLL_SECONDS))
        trial = client.get(f"/trials/{part(trial['id'])}")
        if trial["verdict"] is None:
            time.sleep(min(left, PAUSE_SECONDS))
    return trial


def _wait(client: Client, image: str, timeout: float) -> list[Any]:
    """The trials of the image, newest first: with a verdict, or as they stand when time is up."""
    end = time.monotonic() + timeout
    while True:
        left = max(end - time.monotonic(), 0.0)
        wait = min(left, POLL_SECONDS)
        trials: list[Any] = client.get("/trials", {"image": image, "wait": f"{wait:.3f}"}, seconds=wait + 30)
        if not trials or trials[0]["verdict"] is not None or left <= POLL_SECONDS:
            return trials


def _print_standing(state: str, reason: str) -> None:
    typer.echo(_standing(state, reason))


def _standing(state: str, reason: str) -> str:
    return f"{state}: {cell(reason)}" if reason else state


def _print_trial(trial: dict[str, Any]) -> None:
    print_fields(
        trial,
        (
            "id",
            "image",
            "upstream",
            "digest",
            "state",
            "verdict",
            "reason",
            "created_by",
            "created_at",
            "finished_at",
        ),
    )
    if trial.get("flaky"):
        typer.echo(f"flaky: {trial['flaky_attempts']} of its attempts failed before one passed")
    for one in trial["parts"]:
        record = one["record"] or {}
        typer.echo(
            f"\n{one['platform']}: {one['verdict'] or one['state']}, attempt {one['attempts']}"
            f"{', by worker ' + cell(one['worker']) if one['worker'] else ''}"
            f"{', with ' + cell(record['runtime']) if record.get('runtime') else ''}"
        )
        if one.get("reused_from"):
            typer.echo(f"  not run again: the report of trial {one['reused_from']} was judged anew")
        for line in _scan_lines(one):
            typer.echo(f"  {cell(line)}")
        if record.get("tested"):
            typer.echo(f"  tested: {cell(record['tested'])}")
        if record.get("downgrades"):
            typer.echo(f"  without: {cell(record['downgrades'])}")
    used = {
        (one["id"], use["name"], use.get("attempt")): use
        for one in trial["parts"]
        for use in (one["record"] or {}).get("runs", ())
    }
    for run in trial["runs"]:
        ended = how_it_ended(run)
        attempt = f", attempt {run['attempt']}" if run.get("attempt") else ""
        title = f"{run['platform']} {cell(run['name'])}{attempt}"
        typer.echo(f"\n{title}: {ended} after {shown_seconds(run['seconds'])} s")
        for line in use_lines({**run, **used.get((run["part"], run["name"], run.get("attempt")), {})}):
            typer.echo(f"  {cell(line)}")
        for line in observation_lines(run):
            typer.echo(f"  {cell(line)}")
        if not run.get("log_kept", True):
            typer.echo("  log no longer kept")
        for line in (run["log"] or "").splitlines()[-LOG_LINES:]:
            typer.echo(f"  | {cell(line)}")


def _scan_lines(part: dict[str, Any]) -> list[str]:
    """What became of the scan of a part."""
    lines = ["not run: its run spec asks for the scan alone"] if part.get("scan_alone") else []
    if part.get("scan"):
        lines.append(_scan_words(part["scan"], is_done=part["state"] == "done"))
    return lines + _findings_lines(part.get("findings"))


def _findings_lines(findings: dict[str, Any] | None) -> list[str]:
    if findings is None:
        return []
    lines = [f"findings: {findings['verdict']}, by policy {findings['policy_digest'][:19]}"]
    lines += [f"  {one['verdict']}: {_finding(one)}" for one in findings["reasons"][:FINDINGS_SHOWN]]
    if (more := findings["reasons_count"] - FINDINGS_SHOWN) > 0:
        lines.append(f"  and {more} more")
    lines += [f"  excused: {one['id']} {one['package']}: {one['excused']}" for one in findings["excused"]]
    coming = findings.get("coming", [])[:FINDINGS_SHOWN]
    lines += [f"  {one['verdict']} from {cell(one['at'])} on: {_finding(one)}" for one in coming]
    if (more := findings.get("coming_count", 0) - FINDINGS_SHOWN) > 0:
        lines.append(f"  and {more} more when their grace is over")
    return lines


def _finding(one: dict[str, Any]) -> str:
    about = f"{one['package']} {one['version']}".strip() or one["where"]
    fixed = f", fixed in {one['fixed_version']}" if one["fixed_version"] else ""
    return f"{one['id']} {about} {one['severity']}{fixed} ({one['rule']})"


def _scan_words(scan: dict[str, Any], *, is_done: bool) -> str:
    if scan["state"] == "off":
        return "not scanned: its repository wants no scans"
    if scan["state"] == "unable":
        return "not scanned: its worker scans no images"
    if scan["state"] == "asked":
        return "not scanned: the worker sent no scan" if is_done else "it is to be scanned as well"
    counted = f"scanned: {scan['packages']} packages, {scan['found']} found"
    if scan["truncated"]:
        return f"{counted}; there was more than a scan may hold"
    incomplete = scan["incomplete"]
    return f"{counted}; {incomplete} could not be looked at" if incomplete else f"{counted}; all of it"
