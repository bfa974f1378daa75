"""``seatrial promotion``: what was promoted, and what somebody asks to be promoted."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_fields, print_json, print_list

EXIT_NOT_YET = 3
app = typer.Typer(
    no_args_is_help=True,
    help="Promotions (seatrial promote makes them): list, show, grant, end.",
)
Number = Annotated[int, typer.Argument(metavar="ID", min=1, help="The promotion's number.")]
_FIELDS = (
    *("id", "source", "repository", "tag", "digest", "old_digest", "standing", "reason"),
    *("requested_by", "requested_at", "expires_at", "promoted_by", "promoted_at"),
    *("ended_by", "ended_at", "undone_by", "undone_at"),
)


@app.command("list")
def list_promotions(
    *,
    repository: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Into a repository; without it, into all.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List promotions and requests for some, the newest first, also those that are over."""
    asked = {} if repository is None else {"repository": repository}
    found = list(connect(server, token_file).items("/promotions", asked))
    columns = ("id", "source", "repository", "tag", "digest", "standing", "requested_by", "requested_at")
    print_list(found, columns, as_json=as_json)


@app.command()
def show(
    number: Number,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one promotion."""
    print_promotion(connect(server, token_file).get(f"/promotions/{number}"), as_json=as_json)


@app.command()
def grant(
    number: Number,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Agree to a promotion that somebody else asked for: it is judged again, and the tag is set."""
    print_promotion(connect(server, token_file).send("POST", f"/promotions/{number}/grant"), as_json=as_json)


@app.command()
def end(
    number: Number,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse a promotion that somebody asked for, or take back what you asked for yourself."""
    print_promotion(connect(server, token_file).send("POST", f"/promotions/{number}/end"), as_json=as_json)


def print_promotion(promotion: dict[str, Any], *, as_json: bool) -> None:
    """Print one promotion."""
    if as_json:
        print_json(promotion)
    else:
        print_fields(promotion, _FIELDS)
