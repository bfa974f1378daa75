"""``seatrial workload``: which jobs of OIDC issuers get which tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from registry.auth.oidc.conditiontext import shown_condition
from registry.cli.claims import ConditionOption, conditions
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.durations import parse_duration_seconds
from registry.cli.output import print_fields, print_json, print_table
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="Rules for jobs of OIDC issuers: create, list, show, set, delete, explain.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME")]
_AS_HELP = "The robot or user that its jobs act as."
_AUDIENCE_HELP = "The audience that the job asks its issuer for, alone."
_SCOPE_HELP = "What of the account's rights they have: repository:NAME:ACTIONS. Can be repeated."
_LIFETIME_HELP = "How long a job's token works, 1m to 1h."
_SHOWN = ("name", "issuer", "audience", "conditions", "account", "scopes", "seconds", "created_at")


@app.command()
def create(
    name: Name,
    *,
    issuer: Annotated[str, typer.Option("--issuer", metavar="ISSUER")],
    audience: Annotated[str, typer.Option("--audience", metavar="TEXT", help=_AUDIENCE_HELP)],
    account: Annotated[str, typer.Option("--as", metavar="ACCOUNT", help=_AS_HELP)],
    scope: Annotated[list[str], typer.Option("--scope", metavar="SCOPE", help=_SCOPE_HELP)],
    claim: ConditionOption = None,
    lifetime: Annotated[
        str | None, typer.Option("--lifetime", metavar="15m", help=f"{_LIFETIME_HELP} [default: 15m]")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let jobs in. Of several rules that a job meets, the first by name counts."""
    body = {
        "name": name,
        "issuer": issuer,
        "audience": audience,
        "conditions": conditions(claim or ()),
        "account": account,
        "scopes": scope,
        **({"seconds": parse_duration_seconds(lifetime)} if lifetime else {}),
    }
    _print(connect(server, token_file).send("POST", "/workload-rules", body), as_json=as_json)


@app.command("list")
def list_rules(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List rules, in the order in which they are tried."""
    found = list(connect(server, token_file).items("/workload-rules"))
    if as_json:
        print_json(found)
    else:
        rows = [_readable(rule) for rule in found]
        print_table(rows, ("name", "issuer", "conditions", "account", "scopes", "seconds"))


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show a rule."""
    _print(connect(server, token_file).get(f"/workload-rules/{part(name)}"), as_json=as_json)


@app.command("set")
def set_rule(
    name: Name,
    *,
    issuer: Annotated[str | None, typer.Option("--issuer", metavar="ISSUER")] = None,
    audience: Annotated[str | None, typer.Option("--audience", metavar="TEXT", help=_AUDIENCE_HELP)] = None,
    account: Annotated[str | None, typer.Option("--as", metavar="ACCOUNT", help=_AS_HELP)] = None,
    scope: Annotated[list[str] | None, typer.Option("--scope", metavar="SCOPE", help=_SCOPE_HELP)] = None,
    claim: ConditionOption = None,
    lifetime: Annotated[str | None, typer.Option("--lifetime", metavar="15m", help=_LIFETIME_HELP)] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given; a list is replaced as a whole. Tokens that jobs have by the rule end."""
    wanted = {
        "issuer": issuer,
        "audience": audience,
        "account": account,
        "scopes": scope,
        "conditions": None if claim is None else conditions(claim),
        "seconds": parse_duration_seconds(lifetime) if lifetime else None,
    }
    body = {field: value for field, value in wanted.items() if value is not None}
    _print(connect(server, token_file).send("PATCH", f"/workload-rules/{part(name)}", body), as_json=as_json)


@app.command()
def delete(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Let its jobs in no longer, and end the tokens that they have by it."""
    connect(server, token_file).send("DELETE", f"/workload-rules/{part(name)}")
    if as_json:
        print_json({"name": name, "deleted": True})


@app.command()
def explain(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where a job's token is.")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell which rule a job's token meets, and what is missing for the others."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestInvalidError(f"the token's file {path} cannot be read: {error}") from None
    told = connect(server, token_file).send("POST", "/workload-explanations", {"token": text})
    if as_json:
        print_json(told)
        return
    typer.echo(told["reason"])
    if told["looked_at"]:
        print_table(told["looked_at"], ("name", "holds", "missing"))


def _readable(rule: dict[str, Any]) -> dict[str, Any]:
    return {**rule, "conditions": [shown_condition(each) for each in rule["conditions"]]}


def _print(rule: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(rule)
    else:
        print_fields(_readable(rule), _SHOWN)
