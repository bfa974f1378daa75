"""``seatrial audit``: who did what, and who has what."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import Client, JsonOption, ServerOption, TokenOption, connect
from registry.cli.durations import parse_past
from registry.cli.output import cell, print_table
from registry.errors import RequestInvalidError

app = typer.Typer(help="The audit trail: list, export, pulls, tail.", no_args_is_help=True)
_COLUMNS = ("at", "actor", "action", "repository", "target", "address", "decision", "rule")
_TAIL_SECONDS = 2.0
_LAST_LINE_MAX = 1024 * 1024

ActorOption = Annotated[str | None, typer.Option("--actor", metavar="NAME", help="Who.")]
ActionOption = Annotated[
    str | None, typer.Option("--action", metavar="KIND", help="What, as in tag.moved; docs list the kinds.")
]
RepositoryOption = Annotated[
    str | None,
    typer.Option("--repository", metavar="NAME", help="Where: a repository, or a namespace as in team/."),
]
TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="NAME", help="On whom or what: a name, an id or a digest.")
]
UsedTokenOption = Annotated[
    str | None, typer.Option("--token-id", metavar="ID", help="With which API token or session.")
]
DecisionOption = Annotated[
    str | None, typer.Option("--decision", metavar="allowed|refused", help="How it was decided.")
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="7d|TIME", help="Not before: so long ago, or a day or time of UTC."),
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="7d|TIME", help="Before.")]


@app.command("list")
def list_lines(
    *,
    actor: ActorOption = None,
    action: ActionOption = None,
    repository: RepositoryOption = None,
    target: TargetOption = None,
    token_id: UsedTokenOption = None,
    decision: DecisionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many at most.")] = 100,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was done, the newest first."""
    asked = _asked(
        actor=actor,
        action=action,
        repository=repository,
        target=target,
        token=token_id,
        decision=decision,
        since=since,
        until=until,
    )
    asked["limit"] = min(limit, 1000)
    found = []
    for line in connect(server, token_file).items("/audit", asked):
        found.append(line)
        if len(found) == limit:
            break
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=True))
    else:
        print_table(found, _COLUMNS)


@app.command()
def export(
    *,
    actor: ActorOption = None,
    action: ActionOption = None,
    repository: RepositoryOption = None,
    target: TargetOption = None,
    token_id: UsedTokenOption = None,
    decision: DecisionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    append_to: Annotated[
        Path | None,
        typer.Option(
            "--append-to",
            metavar="FILE",
            help="Write to this file; where it has lines, go on after the last. [default: stdout]",
        ),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: it is always JSON lines.")] = False,
) -> None:
    """Export the trail as JSON lines, the oldest first.

    The last seconds are left out, so that an export that goes on later with --append-to misses nothing.
    """
    asked = _asked(
        actor=actor,
        action=action,
        repository=repository,
        target=target,
        token=token_id,
        decision=decision,
        since=since,
        until=until,
    )
    client = connect(server, token_file)
    if append_to is None:
        for line in client.lines("/audit/export", asked):
            typer.echo(json.dumps(line, ensure_ascii=True))
        return
    asked["cursor"] = _end(append_to)
    try:
        with append_to.open("a", encoding="ascii") as file:
            for line in client.lines("/audit/export", asked):
                file.write(f"{json.dumps(line, ensure_ascii=True)}\n")
    except OSError as error:
        raise RequestInvalidError(f"{append_to} cannot be written: {error.strerror}") from None


@app.command()
def pulls(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="Of a manifest.")],
    *,
    repository: Annotated[
        str | None,
        typer.Option("--repository", metavar="NAME", help="In this one; its maintainers may ask too."),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who pulled a manifest, by day: who has it."""
    asked = {"digest": digest, "repository": repository}
    found = list(connect(server, token_file).items("/audit/pulls", asked))
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=True))
    else:
        print_table(found, ("day", "actor", "repository", "tag", "count", "last_at", "address"))


@app.command()
def tail(
    *,
    actor: ActorOption = None,
    action: ActionOption = None,
    repository: RepositoryOption = None,
    target: TargetOption = None,
    token_id: UsedTokenOption = None,
    decision: DecisionOption = None,
    since: SinceOption = "10s",
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what is done as it is done, some seconds late, until Ctrl-C. --json prints JSON lines."""
    asked = _asked(
        actor=actor,
        action=action,
        repository=repository,
        target=target,
        token=token_id,
        decision=decision,
        since=since,
        until=None,
    )
    for line in _following(connect(server, token_file), asked):
        if as_json:
            typer.echo(json.dumps(line, ensure_ascii=True))
        else:
            typer.echo("  ".join(cell(line[column]) for column in _COLUMNS))


def _following(client: Client, asked: Mapping[str, object]) -> Iterator[Any]:
    cursor = None
    while True:
        page = client.get("/audit", {**asked, "order": "oldest", "cursor": cursor, "limit": 1000})
        yield from page["items"]
        if page["items"]:
            cursor = page["items"][-1]["cursor"]
        if page["next"] is None:
            time.sleep(_TAIL_SECONDS)


def _asked(*, since: str | None, until: str | None, **equal: str | None) -> dict[str, object]:
    return {
        **equal,
        "since": None if since is None else parse_past(since),
        "until": None if until is None else parse_past(until),
    }


def _end(path: Path) -> str | None:
    """The cursor of the last line of an export; what of a line was written before a break is cut off."""
    if not path.exists():
        return None
    try:
        with path.open("r+b") as file:
            size = file.seek(0, 2)
            start = max(0, size - _LAST_LINE_MAX)
            file.seek(start)
            kept, newline, _torn = file.read().rpartition(b"\n")
            file.truncate(start + len(kept) + len(newline))
        return str(json.loads(kept.rpartition(b"\n")[2])["cursor"]) if kept else None
    except OSError as error:
        raise RequestInvalidError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise RequestInvalidError(f"{path} does not end with a line of an export") from None
