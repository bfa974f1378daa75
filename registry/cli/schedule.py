"""``seatrial schedule``: when images are tried again."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.durations import parse_duration_seconds
from registry.cli.output import print_fields, print_json, print_list
from registry.cli.places import OnArgument
from registry.errors import RequestInvalidError

app = typer.Typer(no_args_is_help=True, help="Trials again and again: create, list and delete schedules.")
_SHOWN = ("id", "on", "every_hours", "at", "older_hours", "next_at", "created_by")


@app.command()
def create(
    *,
    on: OnArgument,
    every: Annotated[
        str | None, typer.Option("--every", metavar="DURATION", help="How often, as in 24h or 7d.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="HH:MM", help="Each day at this time of UTC.")
    ] = None,
    older: Annotated[
        str | None,
        typer.Option(
            "--older",
            metavar="DURATION",
            help="Only where the verdict is older than that; half of the time between two if not given.",
        ),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try images that a tag names again and again, after all else that waits."""
    if (every is None) == (at is None):
        raise RequestInvalidError("give --every or --at, and not both")
    wanted: dict[str, object] = {"on": on}
    if every is not None:
        wanted["every_hours"] = _hours("--every", every)
    if at is not None:
        wanted["at"] = at
    if older is not None:
        wanted["older_hours"] = _hours("--older", older)
    made = connect(server, token_file).send("POST", "/schedules", wanted)
    if as_json:
        print_json(made)
    else:
        print_fields(made, _SHOWN)


@app.command("list")
def list_schedules(
    *,
    on: OnArgument,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the schedules of a place; those on namespaces above count as well."""
    print_list(connect(server, token_file).get("/schedules", {"on": on}), _SHOWN, as_json=as_json)


@app.command()
def delete(
    schedule: Annotated[str, typer.Argument(metavar="ID", help="As seatrial schedule list names it.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a schedule no longer; what waits already is tried."""
    require_yes(f"Delete the schedule {schedule}?", yes=yes)
    connect(server, token_file).send("DELETE", f"/schedules/{part(schedule)}")
    if as_json:
        print_json({"id": schedule, "deleted": True})


def _hours(option: str, text: str) -> int:
    seconds = parse_duration_seconds(text)
    if seconds % 3600:
        raise RequestInvalidError(f"{option}: {text} is not a number of whole hours, such as 12h or 7d")
    return seconds // 3600
