"""``seatrial waiver``: let an image pass the gate for a while, whatever its state."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.durations import parse_coming
from registry.cli.output import print_fields, print_json, print_list
from registry.errors import RequestInvalidError

app = typer.Typer(
    no_args_is_help=True,
    help="Waivers, by which the gate admits what it would refuse: request, grant, revoke, list, show.",
)
Number = Annotated[int, typer.Argument(metavar="ID", min=1, help="The waiver's number.")]
_FIELDS = (
    *(
        "id",
        "repository",
        "digest",
        "states",
        "finding",
        "package",
        "reason",
        "standing",
        "requested_by",
        "requested_at",
    ),
    *("expires_at", "granted_by", "granted_at", "ended_by", "ended_at"),
)


@app.command()
def request(
    *,
    image: Annotated[
        str,
        typer.Argument(metavar="NAME@DIGEST|NAME:TAG|NAME", help="An image, or all of a repository."),
    ],
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="fail|error|pending|untried|unsupported",
            help="The state in which it is let pass; may be given several times.",
        ),
    ] = None,
    finding: Annotated[
        str | None,
        typer.Option("--finding", metavar="ID", help="Instead of a state: the one finding that is excused."),
    ] = None,
    package: Annotated[
        str | None, typer.Option("--package", metavar="NAME", help="Excused in this package alone.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; everybody who may pull can read it.")],
    until: Annotated[
        str, typer.Option("--for", metavar="7d|TIME", help="How long, or until which day or time of UTC.")
    ],
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for a waiver. It counts when a maintainer has granted it."""
    if not states and finding is None:
        raise RequestInvalidError("say in which --state it is let pass, or which --finding is excused")
    body: dict[str, Any] = {"image": image, "reason": reason, "expires_at": parse_coming(until)}
    given = {"states": states, "finding": finding, "package": package}
    body |= {name: value for name, value in given.items() if value}
    _print(connect(server, token_file).send("POST", "/waivers", body), as_json=as_json)


@app.command()
def grant(
    number: Number,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a waiver count, until it expires by itself."""
    _print(connect(server, token_file).send("POST", f"/waivers/{number}/grant"), as_json=as_json)


@app.command()
def revoke(
    number: Number,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse a waiver, take back one that you asked for, or end one that counts."""
    _print(connect(server, token_file).send("POST", f"/waivers/{number}/revoke"), as_json=as_json)


@app.command()
def show(
    number: Number,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one waiver."""
    _print(connect(server, token_file).get(f"/waivers/{part(str(number))}"), as_json=as_json)


@app.command("list")
def list_waivers(
    *,
    repository: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of a repository; without it, of all.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List waivers, the newest first, also those that have ended."""
    asked = {} if repository is None else {"repository": repository}
    found = list(connect(server, token_file).items("/waivers", asked))
    columns = ("id", "repository", "digest", "states", "standing", "expires_at", "requested_by", "granted_by")
    print_list(found, columns, as_json=as_json)


def _print(waiver: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(waiver)
    else:
        print_fields(waiver, _FIELDS)
